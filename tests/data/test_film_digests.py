"""A film is known by its pixels: whose it is, where it lies and how it is shown to a detector say nothing of it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from cxr.data.film import Film
from cxr.data.film_digests import film_digests
from cxr.read.cache import FilmCache
from cxr.read.intensity import FullRange, Intensity, LogWindow

NO_BOXES = np.zeros((0, 4), np.float32)


@pytest.fixture
def film(tmp_path: Path, write_film: Callable[..., Path]) -> Callable[..., Film]:
    """Write a film of 60 x 40 pixels, other ones for each seed."""

    def made(seed: int, patient: str, changed: int = 0) -> Film:
        pixels: NDArray[np.uint16] = np.random.default_rng(seed).integers(1, 4000, (40, 60)).astype(np.uint16)
        pixels[7, 5] += changed
        path = write_film(tmp_path / patient / f"{seed}.dcm", pixels, patient)
        return Film(path, f"{patient}{seed}", f"study-{patient}", patient, NO_BOXES, (), 60, 40)

    return made


def cache(folder: Path, size: int = 32) -> FilmCache:
    return FilmCache(folder / "cache", Intensity([LogWindow()]), size)


def test_a_copy_under_another_patients_name_has_the_same_digest(film: Callable[..., Film], tmp_path: Path) -> None:
    first, copy, other = film(1, "lin"), film(1, "chen"), film(2, "lin")
    digests = film_digests([first, copy, other], cache(tmp_path))
    assert digests.dtype == np.int64
    assert len(set(digests.tolist())) == 2
    assert np.array_equal(film_digests([first], cache(tmp_path)), film_digests([copy], cache(tmp_path)))


def test_one_grey_value_more_is_another_film(film: Callable[..., Film], tmp_path: Path) -> None:
    first, second = (film_digests([film(1, f"p{n}", changed=n)], cache(tmp_path)) for n in (0, 1))
    assert not np.isin(first, second).any()


def test_the_frame_and_the_intensity_of_a_detector_change_nothing(film: Callable[..., Film], tmp_path: Path) -> None:
    films = [film(n, "lin") for n in range(4)]
    others = [cache(tmp_path, size=60), FilmCache(tmp_path / "other", Intensity([FullRange()]), 32)]
    for other in others:
        assert np.array_equal(film_digests(films, other), film_digests(films, cache(tmp_path)))


def test_their_order_tells_nothing_and_no_film_has_no_digest(film: Callable[..., Film], tmp_path: Path) -> None:
    films = [film(n, "lin") for n in range(4)]
    assert np.array_equal(film_digests(films, cache(tmp_path)), film_digests(films[::-1], cache(tmp_path)))
    assert film_digests([], cache(tmp_path)).shape == (0,)
