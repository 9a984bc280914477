"""Parametric maps read back: values and where they lie, what tells frames apart, who they name, whether valid."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian

pytest.importorskip("highdicom", reason="the extra is not installed: pip install 'cxr[dicom]'")

import highdicom as hd

from cxr.data.inputs import Input
from cxr.detect.prediction import Prediction
from cxr.findings import Finding, FindingVocabulary
from cxr.read.dicom import ReadError
from cxr.report.algorithm import Algorithm
from cxr.report.film_files import OBJECTS, FilmAnswer, FilmFiles

HEIGHT, WIDTH = 100, 120
NAMES = ("cardiac_hypertrophy", "degenerative_joint_disease_of_the_thoracic_spine")
FINDINGS = FindingVocabulary([Finding(name) for name in NAMES])
SAID = Prediction(
    1, "p0", "q0", WIDTH, HEIGHT,
    ((10.0, 20.0, 110.0, 70.0), (0.0, 0.0, 120.0, 100.0), (5.0, 5.0, 9.0, 9.0)),
    (NAMES[0], NAMES[1], NAMES[0]), (0.875, 0.5, 0.1), dict.fromkeys(NAMES, 0.5), 0.9,
)  # fmt: skip


# The validator wants a plane in the patient and one on a slide of every map, PS3.3 A.75.5 only of one in a frame of
# reference that is relative to the patient or to a slide.
UNPLACED = ("<PlanePositionMacro>", "<PlaneOrientationMacro>", "<PlanePositionSlideMacro>")


def film(path: Path, **elements: object) -> Path:
    data = Dataset()
    given = {
        "SpecificCharacterSet": "GB18030", "SOPClassUID": ComputedRadiographyImageStorage,
        "SOPInstanceUID": "1.2.3.4.5", "StudyInstanceUID": "1.2.3.4", "SeriesInstanceUID": "1.2.3.4.1",
        "PatientID": "H1234", "PatientSex": "F", "PatientName": "Wang^Xiaoming=王^小明",
        "PatientBirthDate": "19400305", "InstitutionName": "E-Da", "Modality": "CR", "StudyDate": "20180315",
        "StudyTime": "075734", "StudyID": "1", "AccessionNumber": "A77", "Rows": HEIGHT, "Columns": WIDTH,
        "SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME1", "BitsAllocated": 16, "BitsStored": 12,
        "HighBit": 11, "PixelRepresentation": 0, "WindowCenter": 2048, "WindowWidth": 4096,
        "PixelData": np.arange(HEIGHT * WIDTH, dtype=np.uint16).clip(0, 4095).tobytes(), **elements,
    }  # fmt: skip
    for name, value in given.items():
        setattr(data, name, value)
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.save_as(path, enforce_file_format=True)
    return path


def point(row: int, column: int) -> NDArray[np.uint16]:
    """A map in the network frame, half the film's size, that is 1 at one of its cells and 0.25 all around."""
    one = np.full((HEIGHT // 2, WIDTH // 2), 65535 // 4, np.uint16)
    one[row, column] = 65535
    return one


MAPS = {"gradcam": np.stack([point(10, 40), point(30, 5)]), "drise": np.stack([point(0, 0), point(49, 59)])}


def written(folder: Path, prediction: Prediction = SAID, maps: Any = MAPS, **elements: object) -> dict[str, Dataset]:
    """What is beside the film afterwards, by the end of its name."""
    (folder / OBJECTS).mkdir(exist_ok=True)
    files = FilmFiles(folder, FINDINGS, Algorithm("0.3", "00112233aabbccdd", 0.3), pictures=False, objects=True)
    files(FilmAnswer(Input(1, film(folder / "film.dcm", **elements)), "p0", prediction, maps=maps))
    return read(folder)


def read(folder: Path) -> dict[str, Dataset]:
    return {path.stem.removeprefix("p0-"): dcmread(path) for path in sorted((folder / OBJECTS).iterdir())}


def test_a_map_has_its_values_at_the_films_own_pixels(tmp_path: Path) -> None:
    written(tmp_path)
    image = hd.imread(tmp_path / OBJECTS / "p0-pm-gradcam.dcm")
    assert (image.NumberOfFrames, image.Rows, image.Columns) == (2, HEIGHT, WIDTH)
    real = image.get_frames(apply_real_world_transform=True)
    for frame, (row, column) in zip(real, [(10, 40), (30, 5)], strict=True):
        # Cell i of the half-sized map covers pixels 2i and 2i + 1, each of which takes 3/4 of it in both axes
        cell = frame[2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
        np.testing.assert_allclose(cell, 0.25 + 0.75 * 0.75**2, atol=1e-3)
        assert (frame >= cell.min()).sum() == 4
        assert frame.min() == pytest.approx(0.25, abs=1e-3)


def test_a_film_at_its_own_size_keeps_nought_and_one(tmp_path: Path) -> None:
    one = np.zeros((1, HEIGHT, WIDTH), np.uint16)
    one[0, 70, 3] = 65535
    prediction = Prediction(1, "p0", "q0", WIDTH, HEIGHT, SAID.boxes[:1], SAID.findings[:1], (0.9,), {}, 0.9)
    written(tmp_path, prediction, {"gradcam": one})
    real = hd.imread(tmp_path / OBJECTS / "p0-pm-gradcam.dcm").get_frames(apply_real_world_transform=True)[0]
    assert np.argwhere(real).tolist() == [[70, 3]]
    assert real[70, 3] == 1.0


def test_frames_are_told_apart_by_finding_score_and_box(tmp_path: Path) -> None:
    made = written(tmp_path)["pm-gradcam"]
    mappings = [group.RealWorldValueMappingSequence[0] for group in made.PerFrameFunctionalGroupsSequence]
    assert [m.LUTLabel for m in mappings] == ["1 cardiac hypert", "2 degenerative j"]
    assert mappings[0].LUTExplanation == "1 cardiac hypertrophy 0.88 at 10,20,110,70"
    assert mappings[1].LUTExplanation.endswith("0.50 at 0,0,120,100")
    contents = [group.FrameContentSequence[0] for group in made.PerFrameFunctionalGroupsSequence]
    assert contents[0].FrameLabel == "1 cardiac hypertrophy 0.88 at 10,20,110,70"
    assert [content.DimensionIndexValues for content in contents] == [1, 2]
    for mapping in mappings:
        assert (mapping.RealWorldValueFirstValueMapped, mapping.RealWorldValueLastValueMapped) == (0, 1000)
        assert (float(mapping.RealWorldValueSlope), mapping.RealWorldValueIntercept) == (0.001, 0)
        assert mapping.MeasurementUnitsCodeSequence[0].CodeValue == "1"


def test_the_object_says_what_its_values_are(tmp_path: Path) -> None:
    made = written(tmp_path)
    for method, code in (("gradcam", "130403"), ("drise", "130404")):
        data = made[f"pm-{method}"]
        assert (data.ContentLabel, data.ContentQualification) == (method.upper(), "RESEARCH")
        assert data.ContentDescription.startswith(method)
        mapping = data.PerFrameFunctionalGroupsSequence[0].RealWorldValueMappingSequence[0]
        assert mapping.QuantityDefinitionSequence[0].ConceptCodeSequence[0].CodeValue == code
        voi = data.SharedFunctionalGroupsSequence[0].FrameVOILUTSequence[0]
        low = voi.WindowCenter - 0.5 - (voi.WindowWidth - 1) / 2  # PS3.3 C.11.2.1.2.1
        assert (low, low + voi.WindowWidth - 1) == (0, 1000)


def test_it_is_a_new_series_of_the_films_study_and_patient(tmp_path: Path) -> None:
    made = written(tmp_path)
    assert set(made) == {"sr", "pr", "sc", "pm-gradcam", "pm-drise"}
    for data in (made["pm-gradcam"], made["pm-drise"]):
        assert data.StudyInstanceUID == "1.2.3.4"
        assert (data.PatientID, data.PatientBirthDate, data.AccessionNumber) == ("H1234", "19400305", "A77")
        assert str(data.PatientName) == "Wang^Xiaoming=王^小明"
        assert "InstitutionName" not in data
        for group in data.PerFrameFunctionalGroupsSequence:
            source = group.DerivationImageSequence[0].SourceImageSequence[0]
            assert source.ReferencedSOPInstanceUID == "1.2.3.4.5"
    assert len({data.SeriesInstanceUID for data in made.values()} | {"1.2.3.4.1"}) == 6


def test_report_and_presentation_state_show_no_box_below_the_threshold(tmp_path: Path) -> None:
    made = written(tmp_path)  # of three boxes one has a score of 0.1
    shown = [note.TextObjectSequence[0].UnformattedTextValue for note in made["pr"].GraphicAnnotationSequence]
    assert shown == ["cardiac hypertrophy 0.88", "degenerative joint disease of the thoracic spine 0.50"]
    report = hd.sr.srread(tmp_path / OBJECTS / "p0-sr.dcm")
    groups = report.content.get_planar_roi_measurement_groups(graphic_type=hd.sr.GraphicTypeValues.POLYLINE)
    assert [group.roi.value.tolist()[0] for group in groups] == [[10, 20], [0, 0]]


def test_a_film_without_detections_has_no_map(tmp_path: Path) -> None:
    nothing = Prediction(1, "p0", "q0", WIDTH, HEIGHT, (), (), (), {}, 0.1)
    assert set(written(tmp_path, nothing, {})) == {"sr", "pr", "sc"}


def test_why_there_are_no_maps_is_told_once_the_rest_is_written(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match="film 1: no maps"):
        written(tmp_path, SAID, ReadError("film 1: no maps can be made of it"))
    assert set(read(tmp_path)) == {"sr", "pr", "sc"}


@pytest.mark.parametrize("elements", [{}, {"PixelSpacing": [0.14, 0.14], "FrameOfReferenceUID": "1.2.3.9"}])
def test_an_independent_validator_finds_no_error(tmp_path: Path, elements: dict[str, object]) -> None:
    validator = shutil.which("dciodvfy")
    if validator is None:
        pytest.skip("no dciodvfy here: apt-get install dicom3tools")
    written(tmp_path, PatientName="Wang^Xiaoming", **elements)
    for method in MAPS:
        file = tmp_path / OBJECTS / f"p0-pm-{method}.dcm"
        done = subprocess.run([validator, "-new", str(file)], capture_output=True, text=True)
        errors = [
            line for line in (done.stdout + done.stderr).splitlines()
            if line.startswith(("Error", "Abort")) and not any(macro in line for macro in UNPLACED)
        ]  # fmt: skip
        assert not errors, errors


def test_a_map_that_is_made_again_is_the_same_object_and_each_method_is_a_series(tmp_path: Path) -> None:
    first, again = written(tmp_path), written(tmp_path)

    def uids(made: Dataset) -> list[str]:
        return [str(element.value) for element in made.iterall() if element.VR == "UI"]

    for kind in ("pm-gradcam", "pm-drise"):
        assert uids(first[kind]) == uids(again[kind])
    assert first["pm-gradcam"].SeriesInstanceUID != first["pm-drise"].SeriesInstanceUID
