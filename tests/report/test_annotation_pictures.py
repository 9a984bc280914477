"""Pictures for annotators: as a workstation shows a film, at most as large as was asked for, without a name on it."""

from pathlib import Path

import cv2
import numpy as np

from cxr.phantom.course_layout import write_film
from cxr.phantom.films import draw_phantom
from cxr.report.annotation_pictures import annotation_picture


def test_a_name_that_is_burnt_into_the_film_is_covered_and_air_is_dark(tmp_path: Path) -> None:
    stored = np.ascontiguousarray(draw_phantom(np.random.default_rng(0), 512).pixels)
    height, width = stored.shape
    letters = cv2.putText(np.zeros((height, width), np.uint8), "LIN YU-TING", (40, 60), 0, 0.8, 255, 2)
    stored[letters > 0] = 0  # MONOCHROME1: 0 is white
    write_film([tmp_path / "film.dcm"], stored, "H1", "film")
    picture = annotation_picture(tmp_path / "film.dcm", None)
    assert (picture.shape, picture.dtype) == ((height, width), np.uint8)
    assert (picture[letters > 0] == 0).mean() > 0.95
    assert picture[-height // 4 :, width // 3 : 2 * width // 3].mean() > picture[:, :5].mean() + 50  # belly, and air
    small = annotation_picture(tmp_path / "film.dcm", 256)
    assert max(small.shape) == 256
