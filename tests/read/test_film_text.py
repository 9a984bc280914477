"""Text in a small picture of a film is found in the film itself."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from cxr.phantom.course_layout import write_film
from cxr.phantom.films import draw_phantom
from cxr.read.burnt_text import without_text
from cxr.read.dicom import read_film
from cxr.read.film_text import without_film_text


@pytest.fixture
def named(tmp_path: Path) -> tuple[Path, np.ndarray, np.ndarray]:
    """A film of 768 px with a name, its picture of 192 px, and where the letters, 4 px high there, are brightest."""
    stored = np.ascontiguousarray(draw_phantom(np.random.default_rng(0), 768).pixels)
    letters = cv2.putText(np.zeros(stored.shape, np.uint8), "LIN YU-TING", (40, 380), 0, 0.8, 255, 2)
    stored[letters > 0] = 0  # MONOCHROME1: 0 is white
    path = tmp_path / "film.dcm"
    write_film([path], stored, "H1", "film")
    size = stored.shape[1] // 4, stored.shape[0] // 4
    shown = np.asarray(read_film(path).display() * 255, np.uint8)
    small = cv2.resize(shown, size, interpolation=cv2.INTER_AREA)
    return path, np.asarray(small), cv2.resize(letters, size, interpolation=cv2.INTER_AREA) > 100


def test_a_name_too_small_to_be_found_in_a_picture_is_covered_there(named: tuple[Path, np.ndarray, np.ndarray]) -> None:
    path, small, letters = named
    assert letters.sum() > 50
    assert (without_text(small)[letters] > 0).mean() > 0.5  # in the picture alone it is not found
    shown = without_film_text(small, path)
    assert not shown[letters].any()
    assert (shown == small).mean() > 0.9


def test_where_the_file_is_gone_the_picture_alone_is_searched(named: tuple[Path, np.ndarray, np.ndarray]) -> None:
    path, small, _ = named
    assert np.array_equal(without_film_text(small, path.parent / "gone.dcm"), without_text(small))
