"""A name that is burnt into a film's pixels is in no picture: not of the page, not of predict.py, not in an object."""

from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydicom import dcmread

from cxr.data.inputs import Input
from cxr.detect.prediction import NotAssessed, Prediction
from cxr.findings import FindingVocabulary
from cxr.read.chest_films import Reason
from cxr.report.algorithm import Algorithm
from cxr.report.film_files import OBJECTS, PICTURES, FilmAnswer, FilmFiles
from web_service import film

NAME = "LIN YU-TING 19400305"
SIDE, SMALL = 1024, 512


def name_in_pixels(size: int) -> NDArray[np.uint8]:
    """The name alone, as it lies on the upper left of a film of this size."""
    letters = np.zeros((size, size), np.uint8)
    cv2.putText(letters, NAME, (size // 16, size // 10), cv2.FONT_HERSHEY_SIMPLEX, size / 900, 255, size // 340)
    return letters


def likeness(picture: NDArray[np.uint8], letters: NDArray[np.uint8]) -> float:
    """The correlation of the name with the place where it lies, 1 where it can be read."""
    rows, columns = np.flatnonzero(letters.any(1)), np.flatnonzero(letters.any(0))
    place = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    with np.errstate(invalid="ignore", divide="ignore"):  # of a place that is black all over
        return float(np.nan_to_num(np.corrcoef(picture[place].ravel(), letters[place].ravel())[0, 1]))


@pytest.mark.parametrize("assessed", [True, False])
def test_a_burnt_in_name_is_covered(tmp_path: Path, vocabulary: FindingVocabulary, assessed: bool) -> None:
    rows, columns = np.mgrid[:SIDE, :SIDE]
    chest = 1500 + 1200 * np.exp(-((rows - 560) ** 2 + (columns - 512) ** 2) / 2 / 250**2)
    pixels = np.where(name_in_pixels(SIDE) > 0, 4095, chest).astype(np.uint16)
    dicom = dcmread(BytesIO(film()))
    dicom.Rows, dicom.Columns, dicom.PixelData = SIDE, SIDE, pixels.tobytes()
    dicom.save_as(tmp_path / "film.dcm")
    for folder in (PICTURES, OBJECTS):
        (tmp_path / folder).mkdir()
    said: Prediction | NotAssessed = Prediction(0, "p", "p", SIDE, SIDE, (), (), (), {}, 0.1)
    if not assessed:
        said = NotAssessed(0, "p", "p", SIDE, SIDE, Reason("lateral", "not a frontal view"))
    files = FilmFiles(tmp_path, vocabulary, Algorithm("0.1", "ab", 0.3), pictures=True, objects=True, small=True)
    files(FilmAnswer(Input(0, tmp_path / "film.dcm"), "name", said))
    plain = Image.fromarray((pixels / 16).astype(np.uint8))
    capture = Image.fromarray(dcmread(tmp_path / OBJECTS / "name-sc.dcm").pixel_array)
    shown = [capture, *(Image.open(tmp_path / PICTURES / f"name.{end}") for end in ("png", "jpg"))]
    sides = [SIDE, SIDE, SMALL]
    for picture, side in zip(shown, sides, strict=True):
        letters = np.asarray(Image.fromarray(name_in_pixels(SIDE)).resize((side, side)))
        assert likeness(np.asarray(plain.resize((side, side))), letters) > 0.8  # so readable where nobody covers it
        assert abs(likeness(np.asarray(picture.convert("L"))[-side:], letters)) < 0.3  # below words in a strip
