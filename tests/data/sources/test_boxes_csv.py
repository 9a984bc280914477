"""A table of one's own, boxes.csv: the right films and boxes, by hand."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cxr.data.sources.boxes_csv import read_boxes_csv
from cxr.data.sources.layouts import read_films
from cxr.data.sources.tables import TableError
from cxr.findings import FindingVocabulary, UnknownLabelError
from cxr.phantom.course_layout import write_film
from cxr.read.dicom import pseudonym

TABLE = """film,finding,xmin,ymin,xmax,ymax,patient,split
a.png,heart,10.5,20,60,90,P1,train
a.png,Spine,50,0,70,100,P1,train
b/b.png,,,,,,P2,test
c.png,normal,,,,,,
d.dcm,cap,-0.5,10,30,40,OTHER,
e.png,heart,,,,,,val
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pictures of 120 × 100 px and a DICOM film of 80 × 60 px, and the table."""
    (tmp_path / "b").mkdir()
    for name in ("a.png", "b/b.png", "c.png", "e.png"):
        Image.new("L", (120, 100)).save(tmp_path / name)
    write_film([tmp_path / "d.dcm"], np.zeros((60, 80), np.uint16), "H123", "study")
    (tmp_path / "boxes.csv").write_text(TABLE, encoding="utf-8-sig")
    return tmp_path


def edit(folder: Path, old: str, new: str) -> None:
    assert old in TABLE
    (folder / "boxes.csv").write_text(TABLE.replace(old, new), encoding="utf-8")


def test_a_row_is_a_box_and_a_row_without_one_is_a_normal_film(folder: Path, vocabulary: FindingVocabulary) -> None:
    a, b, c, d, e = read_boxes_csv(folder, vocabulary)
    assert (a.id, a.findings, a.split, a.width, a.height) == ("a.png", ("heart", "spine"), "train", 120, 100)
    np.testing.assert_array_equal(a.boxes, np.array([[10.5, 20, 60, 90], [50, 0, 70, 100]], np.float32))
    assert (b.path, b.normal, b.split) == (folder / "b/b.png", True, "test")
    assert (c.normal, c.split) == (True, "")
    np.testing.assert_array_equal(d.boxes, np.array([[0, 10, 30, 40]], np.float32))  # half a pixel over the border
    assert (e.findings, e.labelled, e.split) == ((), frozenset({"spine", "cap"}), "val")  # there, and nobody boxed it


def test_a_patient_is_that_of_the_header_else_of_the_table_else_the_film(
    folder: Path, vocabulary: FindingVocabulary
) -> None:
    a, _, c, d, _ = read_boxes_csv(folder, vocabulary)
    assert (a.patient, c.patient, d.patient) == (pseudonym("P1"), pseudonym("c.png"), pseudonym("H123"))


def test_the_layout_is_known_by_its_table(folder: Path, vocabulary: FindingVocabulary) -> None:
    assert [film.id for film in read_films(folder, vocabulary)] == ["a.png", "b/b.png", "c.png", "d.dcm", "e.png"]


def test_a_table_with_other_columns_is_told_which_it_lacks_and_not_that_the_courses_is_absent(
    folder: Path, vocabulary: FindingVocabulary
) -> None:
    edit(folder, "film,finding", "file,label")
    with pytest.raises(TableError, match="has no column film, finding"):
        read_films(folder, vocabulary)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("c.png,normal", "../c.png,normal", r"row 5: the film '../c.png' leads to .* outside the data set"),
        ("c.png,normal", "f.png,normal", r"row 5: the film 'f.png' is not there"),
        ("c.png,normal", ",normal", r"row 5: '' is no path of a file"),
        ("60,90,P1", "5,90,P1", r"row 2: the box \[10.5, 20, 5, 90\] has no area"),
        ("60,90,P1", "60,900,P1", r"row 2: the box .* is not on its film, expected .* <= 100"),
        ("60,90,P1", ",90,P1", r"row 2: 1 of the 4 cells of its box are empty"),
        ("60,90,P1", "x,90,P1", r"row 2: 'x' is no number"),
        ("b/b.png,,,,,,", "b/b.png,,1,2,3,4,", r"row 4: a box without a finding"),
        ("100,P1,train", "100,P1,test", r"row 3: split is 'test', in the film's first row 'train'"),
        ("100,P1,train", "100,P9,train", r"row 3: patient is 'P9', in the film's first row 'P1'"),
        ("P2,test", "P2,holdout", r"row 4: split is 'holdout', expected train, val, test or nothing"),
        ("film,finding", "file,finding", r"has no column film"),
    ],
)
def test_a_row_that_cannot_be_is_named(
    folder: Path, vocabulary: FindingVocabulary, old: str, new: str, problem: str
) -> None:
    edit(folder, old, new)
    with pytest.raises(TableError, match=problem):
        read_boxes_csv(folder, vocabulary)


def test_an_unknown_finding_is_named_with_its_row(folder: Path, vocabulary: FindingVocabulary) -> None:
    edit(folder, "Spine", "spleen")
    with pytest.raises(UnknownLabelError, match=r"'spleen' .*3"):
        read_boxes_csv(folder, vocabulary)


def test_the_courses_folder_is_told_what_reads_it(tmp_path: Path, vocabulary: FindingVocabulary) -> None:
    (tmp_path / "train.csv").touch()
    with pytest.raises(FileNotFoundError, match=r"boxes.csv is missing; train.csv is there, .* data=course"):
        read_boxes_csv(tmp_path, vocabulary)
