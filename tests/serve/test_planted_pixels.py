"""A name that is burnt into a film's pixels is in no picture: not of the page, not of predict.py, not in an object."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread

from burnt_in import likeness, name_in_pixels
from cxr.data.inputs import Input
from cxr.detect.prediction import NotAssessed, Prediction
from cxr.findings import FindingVocabulary
from cxr.read.chest_films import Reason
from cxr.report.algorithm import Algorithm
from cxr.report.film_files import OBJECTS, PICTURES, FilmAnswer, FilmFiles
from web_service import film

SIDE, SMALL = 1024, 512


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
