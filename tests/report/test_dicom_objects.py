"""DICOM objects read back: where their boxes are, what they refer to, who they name, and what a validator says."""

import logging
import resource
import shutil
import subprocess
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian

from scripts import ROOT

pytest.importorskip("highdicom", reason="the extra is not installed: pip install 'cxr[dicom]'")

from cxr.files import why_not_written
from cxr.findings import FindingVocabulary
from cxr.measure.intervals import Estimate
from cxr.measure.operating_point import OperatingPoint
from cxr.read.chest_films import NOT_FINITE, Reason
from cxr.read.dicom import ReadError
from cxr.report.algorithm import Algorithm
from cxr.report.dicom_objects import write_objects, write_refusal
from cxr.report.figures import Marks

EDA = {
    key: value for key, value in yaml.safe_load((ROOT / "conf/findings/eda.yaml").read_text()).items() if key[0] != "_"
}
FINDINGS = FindingVocabulary(**EDA)
POINT = OperatingPoint(
    0.125, 0.99, Estimate(1.0, 0.9, 1.0, 30), Estimate(0.5, 0.4, 0.6, 20), 50, 30, 50, split="val", limited=True
)
ALGORITHM = Algorithm("0.3", "00112233aabbccdd", 0.3, POINT)
MARKS = Marks(
    np.array([[10, 20, 110, 70], [0, 0, 120, 100]], np.float32),
    ["cardiac_hypertrophy", "intercostal_pleural_thickening"],
    np.array([0.875, 0.5], np.float32),
)
NOTHING = Marks(np.zeros((0, 4), np.float32), [], np.zeros(0, np.float32))
PICTURE = np.full((100, 120, 3), 90, np.uint8)
KINDS = ("sr", "pr", "sc")


def film(path: Path, **elements: object) -> Path:
    """A film of 120 × 100, of a patient with a Chinese name."""
    data = Dataset()
    given = {
        "SpecificCharacterSet": "GB18030", "SOPClassUID": ComputedRadiographyImageStorage,
        "SOPInstanceUID": "1.2.3.4.5", "StudyInstanceUID": "1.2.3.4",
        "SeriesInstanceUID": "1.2.3.4.1", "PatientID": "H1234", "PatientSex": "F",
        "PatientName": "Wang^Xiaoming=王^小明", "PatientBirthDate": "19400305", "InstitutionName": "E-Da",
        "Modality": "CR",
        "StudyDate": "20180315", "StudyTime": "075734", "StudyID": "1", "AccessionNumber": "A77", "Rows": 100,
        "Columns": 120, "SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME1", "BitsAllocated": 16,
        "BitsStored": 12, "HighBit": 11, "PixelRepresentation": 0, "WindowCenter": 2048, "WindowWidth": 4096,
        "PixelData": bytes(2 * 100 * 120), **elements,
    }  # fmt: skip
    for name, value in given.items():
        if value is not None:
            setattr(data, name, value)
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.save_as(path, enforce_file_format=True)
    return path


def objects(folder: Path, marks: Marks = MARKS, **elements: object) -> dict[str, Dataset]:
    source = film(folder / "film.dcm", **elements)
    write_objects(source, marks, 0.9, PICTURE, ALGORITHM, FINDINGS, folder / "p0")
    return {kind: dcmread(folder / f"p0-{kind}.dcm") for kind in KINDS}


def items(content: Dataset, kind: str) -> list[Dataset]:
    here = [content] if content.get("ValueType") == kind else []
    return here + [below for item in content.get("ContentSequence", []) for below in items(item, kind)]


def test_the_report_has_a_closed_polyline_a_code_and_a_certainty_a_finding(tmp_path: Path) -> None:
    report = objects(tmp_path)["sr"]
    assert report.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    first, second = items(report, "SCOORD")
    assert (first.GraphicType, first.GraphicData) == ("POLYLINE", [10, 20, 110, 20, 110, 70, 10, 70, 10, 20])
    assert second.GraphicData == [0, 0, 120, 0, 120, 100, 0, 100, 0, 0]
    reference = first.ContentSequence[0].ReferencedSOPSequence[0]
    assert reference.ReferencedSOPInstanceUID == "1.2.3.4.5"
    named = {
        (code.CodeValue, code.CodingSchemeDesignator)
        for item in items(report, "CODE") for code in item.ConceptCodeSequence
    }  # fmt: skip
    assert {("8186001", "SCT"), ("80891009", "SCT"), ("INTERCOSTAL_PLEU", "99CXR"), ("3120008", "SCT")} <= named
    numbers = [item.MeasuredValueSequence[0] for item in items(report, "NUM")]
    assert [float(number.NumericValue) for number in numbers] == [90.0, 87.5, 50.0]  # the film, then its findings
    assert {number.MeasurementUnitsCodeSequence[0].CodeValue for number in numbers} == {"%"}
    assert report.CodingSchemeIdentificationSequence[0].CodingSchemeDesignator == "99CXR"
    assert report.VerificationFlag == "UNVERIFIED"


def test_model_and_operating_point_stand_in_the_report(tmp_path: Path) -> None:
    texts = " | ".join(item.TextValue for item in items(objects(tmp_path)["sr"], "TEXT"))
    for sentence in (
        "0.3",
        "checkpoint 00112233aabbccdd",
        "abnormal from score 0.125 up",
        "50 val films",
        "too few abnormal",
    ):
        assert sentence in texts


def test_highdicom_reads_its_own_template_back(tmp_path: Path) -> None:
    import highdicom as hd

    objects(tmp_path)
    report = hd.sr.srread(tmp_path / "p0-sr.dcm")
    groups = report.content.get_planar_roi_measurement_groups(graphic_type=hd.sr.GraphicTypeValues.POLYLINE)
    assert [group.roi.value.tolist()[0] for group in groups] == [[10, 20], [0, 0]]


def test_the_presentation_state_shows_the_same_boxes_in_the_films_polarity(tmp_path: Path) -> None:
    state = objects(tmp_path)["pr"]
    graphics = [note.GraphicObjectSequence[0] for note in state.GraphicAnnotationSequence]
    assert [graphic.GraphicAnnotationUnits for graphic in graphics] == ["PIXEL", "PIXEL"]
    assert graphics[0].GraphicData == [10, 20, 110, 20, 110, 70, 10, 70, 10, 20]
    texts = [note.TextObjectSequence[0].UnformattedTextValue for note in state.GraphicAnnotationSequence]
    assert texts == ["cardiac hypertrophy 0.88", "intercostal pleural thickening 0.50"]
    places = [note.TextObjectSequence[0].AnchorPoint for note in state.GraphicAnnotationSequence]
    assert places == [[10, 20], [0, 0]]  # column, row of the upper left corner of each box
    image = state.ReferencedSeriesSequence[0].ReferencedImageSequence[0]
    assert image.ReferencedSOPInstanceUID == "1.2.3.4.5"
    assert state.PresentationLUTShape == "INVERSE"
    assert (state.SoftcopyVOILUTSequence[0].WindowCenter, state.SoftcopyVOILUTSequence[0].WindowWidth) == (2048, 4096)
    other = objects(tmp_path, PhotometricInterpretation="MONOCHROME2")["pr"]
    assert other.PresentationLUTShape == "IDENTITY"


def test_the_secondary_capture_is_the_picture_and_guesses_no_orientation(tmp_path: Path) -> None:
    made = objects(tmp_path)["sc"]
    np.testing.assert_array_equal(made.pixel_array, PICTURE)
    assert made.SourceImageSequence[0].ReferencedSOPInstanceUID == "1.2.3.4.5"
    assert (made.ConversionType, made.BurnedInAnnotation) == ("WSD", "NO")  # text in the film is covered
    assert not made.PatientOrientation
    assert not made.Laterality
    assert "checkpoint 00112233aabbccdd" in made.ImageComments
    oriented = objects(tmp_path, PatientOrientation=["L", "F"])["sc"]
    assert list(oriented.PatientOrientation) == ["L", "F"]


def test_all_are_new_series_of_the_films_study_and_patient(tmp_path: Path) -> None:
    made = objects(tmp_path)
    for data in made.values():
        assert data.StudyInstanceUID == "1.2.3.4"
        assert (data.PatientID, data.PatientBirthDate, data.AccessionNumber) == ("H1234", "19400305", "A77")
        assert str(data.PatientName) == "Wang^Xiaoming=王^小明"  # GB18030 in the film, Unicode here
        assert "InstitutionName" not in data
        assert (data.Manufacturer, data.DeviceSerialNumber) == ("cxr", "00112233aabbccdd")
        assert "checkpoint 00112233aabbccdd" in data.SoftwareVersions
    assert len({data.SeriesInstanceUID for data in made.values()} | {"1.2.3.4.1"}) == 4
    assert len({data.SOPInstanceUID for data in made.values()} | {"1.2.3.4.5"}) == 4


def test_no_log_repeats_what_the_film_says(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        objects(tmp_path)
    assert "1.2.3.4.5" not in caplog.text


def test_a_film_without_findings_has_objects_too(tmp_path: Path) -> None:
    made = objects(tmp_path, NOTHING)
    assert not items(made["sr"], "SCOORD")
    assert len(items(made["sr"], "NUM")) == 1
    assert "GraphicAnnotationSequence" not in made["pr"]


FOOT = Reason("other_part", "BodyPartExamined is FOOT, not the chest")


@pytest.mark.parametrize(("reason", "outcome"), [(FOOT, "111225"), (NOT_FINITE, "111224")], ids=["foot", "nan"])
def test_a_film_that_is_not_assessed_has_a_report_that_says_so_and_why(
    tmp_path: Path, reason: Reason, outcome: str
) -> None:
    write_refusal(film(tmp_path / "film.dcm"), reason, PICTURE, ALGORITHM, tmp_path / "p0")
    assert {path.name for path in tmp_path.glob("p0*")} == {"p0-sr.dcm", "p0-sc.dcm"}  # no empty presentation state
    report = dcmread(tmp_path / "p0-sr.dcm")
    assert not items(report, "SCOORD")
    assert not items(report, "NUM")  # no certainty of anything
    coded = {item.ConceptNameCodeSequence[0].CodeValue: item.ConceptCodeSequence[0] for item in items(report, "CODE")}
    summary = coded["111064"]  # PS3.16: Summary of Detections; CID 6042: Not Attempted, Failed
    assert (summary.CodeValue, summary.CodingSchemeDesignator) == (outcome, "DCM")
    assert coded["REASON"].CodeValue == reason.cause.upper()
    assert report.CodingSchemeIdentificationSequence[0].CodingSchemeDesignator == "99CXR"
    assert f"not assessed: {reason.text}" in [item.TextValue for item in items(report, "TEXT")]
    assert coded["121058"].CodeValue == ("168537006" if reason == FOOT else "399208008")  # procedure reported


def test_the_report_does_not_contradict_the_threshold_it_names(tmp_path: Path) -> None:
    point = replace(POINT, threshold=0.1234569)
    algorithm = replace(ALGORITHM, operating_point=point)
    for abnormal, cleared in ((0.1234568, True), (0.1234569, False)):
        write_objects(film(tmp_path / "film.dcm"), NOTHING, abnormal, PICTURE, algorithm, FINDINGS, tmp_path / "p0")
        report = dcmread(tmp_path / "p0-sr.dcm")
        (number,) = items(report, "NUM")
        percent = float(number.MeasuredValueSequence[0].NumericValue)
        (line,) = [item.TextValue for item in items(report, "TEXT") if "abnormal from score" in item.TextValue]
        printed = float(line.split("score ")[1].split(" ")[0])
        assert (round(percent / 100, 6) < printed) == cleared


def test_what_the_film_does_not_know_stays_empty(tmp_path: Path) -> None:
    unknown = dict.fromkeys(["PatientName", "PatientSex", "StudyDate", "StudyTime", "AccessionNumber", "WindowCenter"])
    made = objects(tmp_path, **unknown, WindowWidth=None)
    assert all(not data.PatientName and not data.StudyDate for data in made.values())


@pytest.mark.parametrize("wrong", [{"StudyInstanceUID": None}, {"SOPClassUID": "secret"}])
def test_a_header_that_cannot_be_used_is_told_without_its_contents(
    tmp_path: Path, wrong: dict[str, object], recwarn: pytest.WarningsRecorder, capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    with warnings.catch_warnings(action="ignore"):  # of pydicom, which writes the wrong date all the same
        source = film(tmp_path / "film.dcm", **wrong)
    caplog.clear()
    with pytest.raises(ReadError, match=r"film\.dcm: no DICOM") as error:
        write_objects(source, MARKS, 0.9, PICTURE, ALGORITHM, FINDINGS, tmp_path / "p0")
    for quoted in ("secret", "Wang", "H1234"):
        assert quoted not in str(error.value)
        assert quoted not in "".join(capfd.readouterr())
        assert quoted not in caplog.text  # pydicom logs what it warns of, too
    assert not recwarn.list
    assert not list(tmp_path.glob("*.part"))


def test_a_disk_that_does_not_take_an_object_is_not_taken_for_a_bad_header(tmp_path: Path) -> None:
    source, (soft, hard) = film(tmp_path / "film.dcm"), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))  # bytes of a file, in place of a full disk
    try:
        with pytest.raises(OSError, match="File too large") as error:
            write_objects(source, MARKS, 0.9, PICTURE, ALGORITHM, FINDINGS, tmp_path / "p0")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "p0-sr.dcm could not be written" in str(why_not_written(error.value))
    assert [path.name for path in tmp_path.iterdir()] == ["film.dcm"]


def test_a_picture_that_is_no_dicom_is_told(tmp_path: Path) -> None:
    (tmp_path / "film.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(200))
    with pytest.raises(ReadError, match=r"film\.png: no DICOM objects can be made"):
        write_objects(tmp_path / "film.png", MARKS, 0.9, PICTURE, ALGORITHM, FINDINGS, tmp_path / "p0")


@pytest.mark.parametrize("marks", [MARKS, NOTHING], ids=["boxes", "normal"])
def test_an_independent_validator_finds_no_error(tmp_path: Path, marks: Marks) -> None:
    validator = shutil.which("dciodvfy")
    if validator is None:
        pytest.skip("no dciodvfy here: apt-get install dicom3tools")
    objects(tmp_path, marks, PatientName="Wang^Xiaoming")
    for kind in KINDS:
        done = subprocess.run([validator, "-new", str(tmp_path / f"p0-{kind}.dcm")], capture_output=True, text=True)
        errors = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith(("Error", "Abort"))]
        assert not errors, f"{kind}: {errors}"


@pytest.mark.parametrize("reason", [FOOT, NOT_FINITE], ids=["foot", "nan"])
def test_an_independent_validator_finds_no_error_in_a_refusal(tmp_path: Path, reason: Reason) -> None:
    validator = shutil.which("dciodvfy")
    if validator is None:
        pytest.skip("no dciodvfy here: apt-get install dicom3tools")
    write_refusal(film(tmp_path / "film.dcm", PatientName="Wang"), reason, PICTURE, ALGORITHM, tmp_path / "p0")
    for kind in ("sr", "sc"):
        done = subprocess.run([validator, "-new", str(tmp_path / f"p0-{kind}.dcm")], capture_output=True, text=True)
        errors = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith(("Error", "Abort"))]
        assert not errors, f"{kind}: {errors}"


def uids(made: Dataset) -> set[str]:
    """The UIDs that an object has of its own: those below 2.25."""
    return {
        str(element.value) for element in made.iterall() if element.VR == "UI" and str(element.value)[:5] == "2.25."
    }


def test_what_is_made_again_is_the_same_object_but_for_its_times(tmp_path: Path) -> None:
    first, again = objects(tmp_path), objects(tmp_path)
    for kind in KINDS:
        lines = [str(made[kind]).splitlines() for made in (first, again)]
        differ = [one for one, other in zip(*lines, strict=True) if one != other]
        assert all("Time" in line or "Date" in line for line in differ), differ
    each = [uids(made) for made in first.values()]
    assert not each[0] & each[1] | each[1] & each[2]  # no two objects, nor their series, share one


def test_another_model_threshold_or_language_makes_other_series_and_another_film_another_object(tmp_path: Path) -> None:
    def made(algorithm: Algorithm = ALGORITHM, **elements: object) -> tuple[str, str]:
        write_objects(film(tmp_path / "a.dcm", **elements), MARKS, 0.9, PICTURE, algorithm, FINDINGS, tmp_path / "p0")
        report = dcmread(tmp_path / "p0-sr.dcm")
        return str(report.SeriesInstanceUID), str(report.SOPInstanceUID)

    series, instance = made()
    for changed in ({"digest": "ff"}, {"threshold": 0.2}, {"settings": ("language zh",)}, {"operating_point": None}):
        other = made(replace(ALGORITHM, **changed))
        assert series != other[0]
        assert instance != other[1]
    second = made(SOPInstanceUID="1.2.3.4.6")  # a second film of the study: the same series, another object
    assert (second[0], second[1] == instance) == (series, False)
    assert made(StudyInstanceUID="1.2.9")[0] != series


def test_a_box_is_tracked_under_a_name_that_no_other_film_of_the_study_uses(tmp_path: Path) -> None:
    """A doctor's box is known as ours by it (``cxr.data.corrections``)."""
    reports = [objects(tmp_path, SOPInstanceUID=uid)["sr"] for uid in ("1.2.3.4.5", "1.2.3.4.6")]
    one, other = ([str(item.UID) for item in items(report, "UIDREF")] for report in reports)
    assert len(set(one) & set(other)) == 1  # of the device that observed both
    assert len(set(one) - set(other)) == 3  # the film's, and those of its two boxes


def test_objects_keep_the_order_of_the_films_of_a_study(tmp_path: Path) -> None:
    assert objects(tmp_path, InstanceNumber="7")["sr"].InstanceNumber == 7
    assert objects(tmp_path, InstanceNumber=None)["sr"].InstanceNumber == 1


@pytest.mark.parametrize(
    ("name", "odd"),
    [("PatientSex", "U"), ("PatientBirthDate", "1940-03-05"), ("StudyDate", "2018/03/15"), ("StudyTime", "07:57:34")],
)
def test_a_header_out_of_standard_costs_no_object_and_is_not_repeated(
    tmp_path: Path, name: str, odd: str, recwarn: pytest.WarningsRecorder, capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    with warnings.catch_warnings(action="ignore"):  # of pydicom, which writes it all the same
        source = film(tmp_path / "film.dcm", **{name: odd})
    caplog.clear()
    write_objects(source, MARKS, 0.9, PICTURE, ALGORITHM, FINDINGS, tmp_path / "made")
    assert not recwarn.list
    assert "".join(capfd.readouterr()) + caplog.text == ""
    for kind in KINDS:
        made = dcmread(tmp_path / f"made-{kind}.dcm")
        assert not made[name].value
        assert made.PatientID == "H1234"
