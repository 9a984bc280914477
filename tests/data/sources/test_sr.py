"""What doctors drew in a viewer, read back: where, what, by whom, and what of ours they rejected."""

import math
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose
from pydicom import Dataset, dcmread

pytest.importorskip("highdicom", reason="the extra is not installed: pip install 'cxr[dicom]'")

from cxr.data.film import Film
from cxr.data.sources import sr_document
from cxr.data.sources.layouts import VOCABULARY, read_films, read_vocabulary
from cxr.data.sources.sr import read_corrected, read_sr
from cxr.data.sources.sr_document import MAKER, read_report, region_box
from cxr.data.sources.tables import TableError
from cxr.findings import Code, Finding, FindingVocabulary, UnknownLabelError
from cxr.phantom.course_layout import write_film
from cxr.read.chest_films import Reason
from cxr.read.dicom import ReadError, pseudonym
from cxr.report import dicom_origin
from cxr.report.algorithm import Algorithm
from cxr.report.dicom_objects import write_objects, write_refusal
from cxr.report.figures import Marks
from doctors import CARDIOMEGALY, SCOLIOSIS, CodedConcept, Region, rectangle, write_doctors_report

FINDINGS = read_vocabulary(VOCABULARY)
HEART, SPINE = rectangle(10, 20, 60, 70), rectangle(40.5, 5, 60.25, 95)


PIXELS = np.arange(100 * 120, dtype=np.uint16).reshape(100, 120) % 4096


def written(path: Path, patient: str) -> Path:
    write_film([path], PIXELS, patient, patient)
    return path


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """A film of 120 × 100 px."""
    return written(tmp_path / "film.dcm", "H1234^")


def ours(film: Path, boxes: list[list[float]], names: list[str], name: str = "ours") -> Path:
    """Write our report, presentation state and capture of a film; return the report."""
    marks = Marks(np.array(boxes, np.float32).reshape(-1, 4), names, np.full(len(names), 0.9, np.float32))
    picture = np.zeros((100, 120, 3), np.uint8)
    write_objects(film, marks, 0.9, picture, Algorithm("1", name, 0.3), FINDINGS, film.parent / name)
    return film.parent / f"{name}-sr.dcm"


def verified(report: Dataset) -> Dataset:
    """Return our report as a person has verified it."""
    report.VerificationFlag = "VERIFIED"
    verifying = Dataset()
    verifying.VerifyingObserverName, verifying.VerifyingOrganization = "Chen^Mei-Ling", "E-Da"
    verifying.VerificationDateTime = "20261126"
    report.VerifyingObserverSequence = [verifying]
    return report


def only(root: Path) -> Film:
    (film,) = read_sr(root, FINDINGS)
    return film


# --- regions


def test_every_kind_of_region_becomes_the_box_around_it() -> None:
    assert region_box("POLYLINE", [10, 20, 30, 25, 15, 40]) == (10, 20, 30, 40)
    assert region_box("CIRCLE", [50, 40, 50, 50]) == (40, 30, 60, 50)
    assert region_box("ELLIPSE", [10, 50, 50, 50, 30, 40, 30, 60]) == (10, 40, 50, 60)
    # half axes of 20 and 10, turned by 45 degrees: half a side is the root of (20² + 10²) / 2
    a, b = 20 / math.sqrt(2), 10 / math.sqrt(2)
    turned = region_box("ELLIPSE", [50 - a, 50 - a, 50 + a, 50 + a, 50 + b, 50 - b, 50 - b, 50 + b])
    assert turned is not None
    assert_allclose(turned, [50 - math.sqrt(250)] * 2 + [50 + math.sqrt(250)] * 2)


def test_points_and_rulers_have_no_area() -> None:
    assert region_box("POINT", [10, 20]) is None
    assert region_box("MULTIPOINT", [10, 20, 30, 40]) is None
    assert region_box("POLYLINE", [10, 20, 30, 40]) is None
    assert region_box("POLYLINE", [10, 20, 30, 20, 20, 20]) is None  # all on one line
    with pytest.raises(ValueError, match="3 points, which are no ELLIPSE"):
        region_box("ELLIPSE", [1, 2, 3, 4, 5, 6])
    with pytest.raises(ValueError, match="not finite"):
        region_box("CIRCLE", [1, 2, math.nan, 4])


# --- a doctor's report


def test_a_doctors_boxes_codes_name_and_time_are_read(film: Path) -> None:
    regions = [Region(CARDIOMEGALY, HEART), Region(SCOLIOSIS, [(50, 40), (50, 50)], "CIRCLE")]
    write_doctors_report(film, film.parent / "sr.dcm", regions, name="Chen^Mei-Ling", time="20261126101500")
    read = only(film.parent)
    assert (read.path, read.width, read.height, read.patient) == (film, 120, 100, pseudonym("H1234^"))
    assert read.findings == ("cardiac_hypertrophy", "scoliosis")
    assert read.boxes.tolist() == [[10, 20, 60, 70], [40, 30, 60, 50]]
    assert read.labelled is None
    assert read.rater == pseudonym("Chen^Mei-Ling")
    assert [(one.rater, one.time) for one in read.readings] == [(read.rater, "20261126101500")]
    assert "Chen" not in repr(read)
    assert len(read_films(film.parent, FINDINGS)) == 1  # cxr audit knows such a folder by its files


def test_a_report_without_a_region_is_a_normal_film(film: Path) -> None:
    write_doctors_report(film, film.parent / "sr.dcm", [])
    assert only(film.parent).normal


def test_a_region_that_reaches_over_the_border_is_cut_and_one_beside_the_film_is_refused(film: Path) -> None:
    sr = film.parent / "sr.dcm"
    write_doctors_report(film, sr, [Region(CARDIOMEGALY, [(110, 50), (125, 50)], "CIRCLE")])
    assert only(film.parent).boxes.tolist() == [[95, 35, 120, 65]]
    write_doctors_report(film, sr, [Region(CARDIOMEGALY, rectangle(110, 50, 160, 90))])
    with pytest.raises(TableError, match=r"sr\.dcm, group 1: the box \[110, 50, 160, 90\] is not on its film"):
        read_sr(film.parent, FINDINGS)


def test_a_finding_by_a_point_alone_is_not_known_to_be_absent(film: Path) -> None:
    regions = [Region(CARDIOMEGALY, HEART), Region(SCOLIOSIS, [(50, 40)], "POINT")]
    write_doctors_report(film, film.parent / "sr.dcm", regions)
    read = only(film.parent)
    assert read.findings == ("cardiac_hypertrophy",)
    assert not read.looked_for("scoliosis")
    assert read.looked_for("aortic_curvature")


def test_a_region_without_a_finding_may_be_any(film: Path) -> None:
    write_doctors_report(film, film.parent / "sr.dcm", [Region(CARDIOMEGALY, HEART), Region(None, SPINE)])
    assert only(film.parent).labelled == {"cardiac_hypertrophy"}


def test_a_ruler_without_a_finding_makes_no_normal_film_nor_does_a_dictated_text(film: Path) -> None:
    sr = write_doctors_report(
        film, film.parent / "sr.dcm", [Region(None, [(10, 50), (110, 50)])]
    )  # of the heart's width
    assert read_sr(film.parent, FINDINGS) == []
    text = dcmread(sr)
    text.ConceptNameCodeSequence[0].CodeValue, text.ContentSequence = "121060", []
    text.save_as(sr)
    with pytest.raises(FileNotFoundError, match="0 reports were read"):
        read_sr(film.parent, FINDINGS)


def test_an_incomplete_report_says_nothing_of_what_it_lacks(film: Path) -> None:
    regions = [Region(CARDIOMEGALY, HEART), Region(SCOLIOSIS, SPINE, absent=True)]
    write_doctors_report(film, film.parent / "sr.dcm", regions, complete=False)
    read = only(film.parent)
    assert read.findings == ("cardiac_hypertrophy",)
    assert read.labelled == {"cardiac_hypertrophy", "scoliosis"}


def test_our_private_code_and_a_typed_label_are_known_and_another_code_is_refused_by_name(film: Path) -> None:
    sr = film.parent / "sr.dcm"
    private = FINDINGS.finding("intercostal_pleural_thickening").code
    typed = CodedConcept("CORNERSTONEFREETEXT", "CORNERSTONEJS", "脊椎側彎")
    regions = [Region(CodedConcept(private.value, private.scheme, private.meaning), HEART), Region(typed, SPINE)]
    write_doctors_report(film, sr, regions)
    assert only(film.parent).findings == ("intercostal_pleural_thickening", "scoliosis")
    of_dicom = CodedConcept("112121", "DCM", "Infiltrate")  # PS3.16 CID 6102, as programs for the chest write
    write_doctors_report(film, sr, [Region(of_dicom, HEART)])
    assert only(film.parent).findings == ("lung_field_infiltration",)
    write_doctors_report(film, sr, [Region(CodedConcept("36118008", "SCT", "Pneumothorax"), HEART)])
    with pytest.raises(UnknownLabelError, match=r"SCT 36118008 'Pneumothorax' \(1 groups\).*`codes`"):
        read_sr(film.parent, FINDINGS)


def test_codes_of_a_hospital_stand_in_the_vocabulary() -> None:
    heart = Finding("heart", codes=(Code("SCT", "8186001", "Cardiomegaly"), Code("99HOSP", "H1", "Big heart")))
    findings = FindingVocabulary([heart, Finding("spine")])
    assert findings.coded(Code("99HOSP", "H1", "said otherwise")) == "heart"
    assert findings.coded(Code("SCT", "H1", "Big heart")) is None
    assert findings.coded(Code("99CXR", "SPINE", "spine")) == "spine"
    assert findings.finding("heart").code.value == "8186001"
    with pytest.raises(ValueError, match="stands for heart and spine"):
        FindingVocabulary([heart, Finding("spine", codes=heart.codes)]).coded(heart.codes[1])
    with pytest.raises(ValueError, match=r"heart: the code \['SCT', 8186001, 'x'\] is none.*all of them texts"):
        FindingVocabulary([{"name": "heart", "codes": [["SCT", 8186001, "x"]]}])


# --- whose reports count


def test_what_we_wrote_is_known_as_ours() -> None:
    assert MAKER == dicom_origin.MAKER


def test_a_film_that_we_alone_marked_is_not_marked(film: Path, tmp_path: Path) -> None:
    ours(film, [[10, 20, 60, 70]], ["scoliosis"])
    with pytest.raises(FileNotFoundError, match=r"of 1 films none has a measurement report .* by a person"):
        read_sr(tmp_path, FINDINGS)
    other = written(tmp_path / "other.dcm", "H5^")
    write_doctors_report(other, tmp_path / "sr.dcm", [Region(CARDIOMEGALY, HEART)])
    assert [one.path for one in read_sr(tmp_path, FINDINGS)] == [other]


def test_our_report_that_a_doctor_verified_is_the_doctors(film: Path) -> None:
    path = ours(film, [[10, 20, 60, 70]], ["cardiac_hypertrophy"])
    verified(dcmread(path)).save_as(path)
    read = only(film.parent)
    assert (read.findings, read.rater) == (("cardiac_hypertrophy",), pseudonym("Chen^Mei-Ling"))


def test_a_later_report_replaces_an_earlier_one_and_two_doctors_are_two_readers(film: Path) -> None:
    folder = film.parent
    first = write_doctors_report(film, folder / "a.dcm", [Region(SCOLIOSIS, SPINE)], time="20260101")
    write_doctors_report(film, folder / "b.dcm", [Region(CARDIOMEGALY, HEART)], time="20260102")  # by the same person
    assert only(folder).findings == ("cardiac_hypertrophy",)
    moved = rectangle(12, 22, 62, 72)
    write_doctors_report(film, folder / "c.dcm", [Region(CARDIOMEGALY, moved)], name="Lin^Yi", time="20260103")
    read = only(folder)
    assert len(read.readings) == 2
    assert read.boxes.tolist() == [[11, 21, 61, 71]]  # fused: the mean of both
    write_doctors_report(film, folder / "d.dcm", [], name="Wu^An", time="20260104", replaces=folder / "c.dcm")
    assert {one.rater for one in only(folder).readings} == {pseudonym("Chen^Mei-Ling"), pseudonym("Wu^An")}
    with pytest.raises(ValueError, match="readers is 'R9', expected 'wbf', 'union' or one of p"):
        read_sr(folder, FINDINGS, readers="R9")
    assert read_report(first).time == "20260101"


def test_a_report_that_names_itself_as_its_predecessor_still_stands(film: Path) -> None:
    path = write_doctors_report(film, film.parent / "a.dcm", [Region(SCOLIOSIS, SPINE)])
    report = dcmread(path)
    reference, series, study = Dataset(), Dataset(), Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = report.SOPClassUID, report.SOPInstanceUID
    series.SeriesInstanceUID, series.ReferencedSOPSequence = report.SeriesInstanceUID, [reference]
    study.StudyInstanceUID, study.ReferencedSeriesSequence = report.StudyInstanceUID, [series]
    report.PredecessorDocumentsSequence = [study]
    report.save_as(path)
    assert read_report(path).predecessors == {report.SOPInstanceUID}
    assert only(film.parent).findings == ("scoliosis",)


def test_what_the_doctor_rejected_is_known_to_be_absent(film: Path) -> None:
    """The doctor moved a box of ours, deleted one, and drew a region without a finding, which leaves the rest open."""
    folder = film.parent
    mine = ours(film, [[10, 20, 60, 70], [40, 5, 60, 95]], ["cardiac_hypertrophy", "scoliosis"])
    tracking = next(one.id for one in read_report(mine).statements if one.boxes)
    regions = [Region(CARDIOMEGALY, rectangle(70, 60, 110, 90), tracking=tracking), Region(None, HEART)]
    write_doctors_report(film, folder / "sr.dcm", regions, time="99991231", replaces=mine)
    (read,) = read_corrected(folder, FINDINGS)
    assert read.film.findings == ("cardiac_hypertrophy",)
    assert read.film.labelled == {"cardiac_hypertrophy", "scoliosis"}
    assert read.ours is not None
    assert read.ours.scores == pytest.approx((0.9, 0.9))
    assert [one.kind for one in read.changes()] == ["moved", "deleted"]


def test_a_box_of_ours_under_a_region_without_a_finding_was_not_rejected(film: Path) -> None:
    """The region may be the same finding, drawn anew. Ours elsewhere was deleted."""
    ours(film, [[40, 5, 60, 95], [80, 10, 110, 40]], ["scoliosis", "aortic_curvature"])
    write_doctors_report(film, film.parent / "sr.dcm", [Region(None, SPINE)], time="99991231")
    assert only(film.parent).labelled == {"aortic_curvature"}


def test_our_report_on_a_film_that_is_not_assessed_makes_no_normal_film_though_a_person_has_verified_it(
    film: Path,
) -> None:
    reason, picture = Reason("lateral", "ViewPosition is LL, not frontal"), np.zeros((100, 120, 3), np.uint8)
    write_refusal(film, reason, picture, Algorithm("1", "0011", 0.3), film.parent / "ours")
    report = dcmread(film.parent / "ours-sr.dcm")
    verified(report).save_as(film.parent / "ours-sr.dcm")
    with pytest.raises(FileNotFoundError, match="none has a measurement report"):
        read_sr(film.parent, FINDINGS)
    write_doctors_report(film, film.parent / "sr.dcm", [Region(CARDIOMEGALY, HEART)], name="Lin^Yi")
    (read,) = read_corrected(film.parent, FINDINGS)
    assert (read.film.findings, read.film.labelled, read.ours) == (("cardiac_hypertrophy",), None, None)
    assert len(read.film.readings) == 1


def test_another_film_of_the_study_that_the_doctor_did_not_mark_is_not_normal(film: Path) -> None:
    """The evidence of a report lists all images of a study, also those that nobody has looked at."""
    other = film.parent / "other.dcm"
    write_film([other], PIXELS, "H1234^", "another film of this patient")
    sr = write_doctors_report(film, film.parent / "sr.dcm", [Region(CARDIOMEGALY, HEART)])
    report = dcmread(sr)
    listed = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence
    beside = Dataset()
    beside.ReferencedSOPClassUID = listed[0].ReferencedSOPClassUID
    beside.ReferencedSOPInstanceUID = dcmread(other).SOPInstanceUID
    listed.append(beside)
    report.save_as(sr)
    assert [one.path for one in read_sr(film.parent, FINDINGS)] == [film]
    report.ContentSequence = [item for item in report.ContentSequence if item.ValueType != "CONTAINER"]
    report.save_as(sr)  # it says nothing of any image: that is said of all
    assert {one.path: one.normal for one in read_sr(film.parent, FINDINGS)} == {film: True, other: True}


def test_each_doctor_changed_the_boxes_that_this_doctor_saw(film: Path) -> None:
    """The second doctor saw what a newer detector drew: nobody has deleted or added a box."""
    folder = film.parent
    first = ours(film, [[10, 20, 60, 70]], ["cardiac_hypertrophy"], "first")
    second = ours(film, [[40, 5, 60, 95]], ["scoliosis"], "second")
    write_doctors_report(film, folder / "a.dcm", [Region(CARDIOMEGALY, HEART)], name="Chen^Mei", replaces=first)
    moved = Region(SCOLIOSIS, rectangle(40, 5, 60, 95))
    write_doctors_report(film, folder / "b.dcm", [moved], name="Lin^Yi", replaces=second)
    (read,) = read_corrected(folder, FINDINGS)
    kept = sorted((one.kind, one.finding) for one in read.changes())  # in the order of the pseudonyms
    assert kept == [("kept", "cardiac_hypertrophy"), ("kept", "scoliosis")]


def test_a_box_that_we_drew_after_the_doctor_was_not_rejected(film: Path) -> None:
    ours(film, [[40, 5, 60, 95]], ["scoliosis"])
    write_doctors_report(film, film.parent / "sr.dcm", [Region(None, HEART)], time="20000101")
    assert read_sr(film.parent, FINDINGS) == []  # neither a box nor a finding that is known to be absent


def test_a_damaged_report_is_named_and_left_out(film: Path, caplog: pytest.LogCaptureFixture) -> None:
    good = write_doctors_report(film, film.parent / "a.dcm", [Region(CARDIOMEGALY, HEART)])
    torn = dcmread(good)
    torn.SOPInstanceUID = "1.2.3"
    region = torn.ContentSequence[-1].ContentSequence[0].ContentSequence
    next(one for one in region if one.ValueType == "SCOORD").GraphicData = [1, 2, 3]
    torn.save_as(film.parent / "torn.dcm", enforce_file_format=False)
    assert only(film.parent).findings == ("cardiac_hypertrophy",)
    assert "1 reports cannot be read and are left out, first" in caplog.text
    assert "Chen" not in caplog.text


def test_a_report_of_endless_items_is_left_out(film: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sr = write_doctors_report(film, film.parent / "sr.dcm", [Region(CARDIOMEGALY, HEART)])
    assert len(read_report(sr).statements) == 1
    monkeypatch.setattr(sr_document, "_MOST_ITEMS", 5)
    with pytest.raises(ReadError, match="damaged DICOM data set"):
        read_report(sr)
