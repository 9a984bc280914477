"""The course layout and its traps."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from cxr.data.film import Film
from cxr.data.patients import without_placeholders
from cxr.data.sources.coco import read_coco
from cxr.data.sources.course import read_course
from cxr.data.sources.course_files import read_mark
from cxr.data.sources.course_test_set import read_course_test
from cxr.data.sources.tables import TableError
from cxr.findings import FindingVocabulary, UnknownLabelError

SHARED = Path(os.environ.get("CXR_SHARED", Path(__file__).parents[3] / ".." / "shared"))
CHINESE = {"normal": "正常", "cardiac_hypertrophy": "心臟肥大", "scoliosis": "脊椎側彎"}
ENGLISH = {name: name for name in CHINESE}


def fill(course: Any, csv_names: dict[str, str], folder_names: dict[str, str], slash: str = "") -> None:
    """One normal film; one with two findings, a row and a copy each; one whose file name repeats in another folder."""

    def row(film_id: str, category: str, *boxes: Any, name: str, seed: int) -> None:
        course.row(
            film_id, csv_names[category], boxes, folder=folder_names[category], name=name, slash=slash, seed=seed
        )

    row("A", "normal", name="220_97.dcm", seed=1)
    row("B", "cardiac_hypertrophy", (30, 50, 80, 90), name="4440.dcm", seed=2)
    row("B", "scoliosis", (50, 10, 66, 95), name="10 (2)d.dcm", seed=2)
    row("C", "scoliosis", (0, 0, 20, 100), name="4440.dcm", seed=3)


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize("folder_names", [CHINESE, ENGLISH], ids=["chinese folders", "english folders"])
@pytest.mark.parametrize(
    ("csv_names", "encoding"),
    [(CHINESE, "utf-8"), (CHINESE, "utf-8-sig"), (CHINESE, "cp950"), (ENGLISH, "utf-8"), (ENGLISH, "utf-8-sig")],
)
def test_one_film_an_id_with_the_boxes_of_all_its_rows(
    course: Any,
    findings: FindingVocabulary,
    csv_names: dict[str, str],
    encoding: str,
    folder_names: dict[str, str],
    slash: str,
) -> None:
    fill(course, csv_names, folder_names, slash)
    a, b, c = read_course(course.save(encoding), findings)
    assert [film.id for film in (a, b, c)] == ["A", "B", "C"]
    assert a.normal
    assert a.boxes.shape == (0, 4)
    assert b.findings == ("cardiac_hypertrophy", "scoliosis")
    np.testing.assert_allclose(b.boxes, [[30, 50, 80, 90], [50, 10, 66, 95]], atol=1)
    assert [path.name for path in (b.path, *b.copies)] == ["4440.dcm", "10 (2)d.dcm"]
    np.testing.assert_allclose(c.boxes, [[0, 0, 20, 100]], atol=1)
    assert (b.width, b.height) == (120, 100)


@pytest.mark.parametrize("where", [".", "..", "train"])
def test_the_root_may_be_one_folder_off(course: Any, findings: FindingVocabulary, where: str) -> None:
    fill(course, ENGLISH, ENGLISH)
    assert len(read_course(course.save() / where, findings)) == 3


def test_two_data_sets_below_the_root_are_not_guessed_between(course: Any, findings: FindingVocabulary) -> None:
    fill(course, ENGLISH, ENGLISH)
    course.save()
    (course.root.parent / "other").mkdir()
    (course.root.parent / "other" / "train.csv").write_text("ID\n")
    with pytest.raises(FileNotFoundError, match=r"train\.csv lies in course, other"):
        read_course(course.root.parent, findings)
    with pytest.raises(FileNotFoundError, match="is not a folder"):
        read_course(course.root / "nowhere", findings)
    (course.root.parent / "empty" / "below").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=r"holds no train\.csv"):
        read_course(course.root.parent / "empty" / "below", findings)


def test_csv_paths_may_name_the_split_and_use_backslashes(course: Any, findings: FindingVocabulary) -> None:
    fill(course, ENGLISH, ENGLISH)
    for row in course.rows:
        row["ImagePath"] = "train\\" + str(row["ImagePath"]).replace("/", "\\")
    assert len(read_course(course.save(), findings)) == 3


def test_the_size_is_that_of_the_file(
    course: Any, findings: FindingVocabulary, caplog: pytest.LogCaptureFixture
) -> None:
    course.row("A", "scoliosis", [(30, 50, 80, 90)])
    course.rows[0] |= {"Width": 2328, "Height": ""}
    (film,) = read_course(course.save(), findings)
    assert (film.width, film.height) == (120, 100)
    np.testing.assert_allclose(film.boxes, [[30, 50, 80, 90]], atol=1)
    assert "Width and Height of 1 films (first: row 2)" in caplog.text


def test_boxes_of_a_mark_of_another_size_are_scaled_onto_the_film(
    course: Any, findings: FindingVocabulary, mark_picture: Callable[..., Path]
) -> None:
    course.row("A", "scoliosis", [(0, 0, 1, 1)], name="x.dcm")
    mark_picture(course.root / "train/scoliosis/mark/x.dcm.jpg", 60, 50, [(10, 20, 30, 40)])
    (film,) = read_course(course.save(), findings)
    np.testing.assert_allclose(film.boxes, [[20, 40, 60, 80]], atol=2)


def test_all_problems_of_all_rows_are_told_at_once(course: Any, findings: FindingVocabulary) -> None:
    fill(course, ENGLISH, ENGLISH)
    course.row("B", "normal")
    course.row("D", "scoliosis", [(0, 0, 2, 1)])
    (course.root / "train/cardiac_hypertrophy/image/4440.dcm").unlink()
    (course.root / "train/scoliosis/mark/4440.dcm.jpg").unlink()
    (course.root / "train/scoliosis/mark/10 (2)d.dcm.jpg").write_bytes(b"no picture")
    with pytest.raises(TableError) as error:
        read_course(course.save(), findings)
    message = str(error.value)
    assert "train.csv: 5 problems" in message
    assert "row 3: ImagePath leads to no file" in message
    assert "row 5: scoliosis, but MarkPath leads to no file" in message
    assert "rows 3, 4, 6: one ID, both normal and cardiac_hypertrophy" in message
    assert "10 (2)d.dcm.jpg is not a picture" in message
    assert "row 7" in message
    assert "shows no white rectangle" in message


def test_an_unknown_label_is_an_error_with_its_rows(course: Any, findings: FindingVocabulary) -> None:
    fill(course, ENGLISH, ENGLISH)
    course.row("E", "氣胸", [(0, 0, 20, 20)])
    with pytest.raises(UnknownLabelError, match=r"'氣胸' in row 6.*Known: normal.*心臟肥大"):
        read_course(course.save("utf-8-sig"), findings)


def test_rows_are_those_of_the_file_blank_lines_and_all(course: Any, findings: FindingVocabulary) -> None:
    fill(course, ENGLISH, ENGLISH)
    course.row("E", "氣胸", [(0, 0, 20, 20)])
    table = course.save() / "train.csv"
    names, *rows = table.read_text(encoding="utf-8").splitlines()

    def write(*rows: str) -> None:
        table.write_text("\n".join([names, "", "", rows[0], "", *rows[1:]]), encoding="utf-8")

    write(*rows)
    with pytest.raises(UnknownLabelError, match="'氣胸' in row 9"):
        read_course(course.root, findings)
    (course.root / "train/scoliosis/mark/4440.dcm.jpg").unlink()
    write(*rows[:-1])
    with pytest.raises(TableError, match="row 8: scoliosis, but MarkPath leads to no file"):
        read_course(course.root, findings)
    write(rows[0], rows[1].replace("B,", ",", 1))
    with pytest.raises(TableError, match="row 6: no ID"):
        read_course(course.root, findings)


def test_missing_columns_are_named(course: Any, findings: FindingVocabulary) -> None:
    (course.root / "train.csv").write_text("ID,label,Width,Height,ImagePath\nA,normal,1,1,x\n")
    with pytest.raises(TableError, match="no column category, MarkPath; it has ID, label, Width, Height, ImagePath"):
        read_course(course.root, findings)


def test_a_csv_in_no_known_encoding_is_refused(course: Any, findings: FindingVocabulary) -> None:
    (course.root / "train.csv").write_bytes(b"ID,category\nA,\xff\xff\n")
    with pytest.raises(TableError, match="neither UTF-8 nor Big5: byte 0xff in line 2"):
        read_course(course.root, findings)


def test_a_row_that_stands_there_twice_counts_once(course: Any, findings: FindingVocabulary) -> None:
    course.row("A", "scoliosis", [(30, 50, 80, 90)])
    course.rows *= 2
    (film,) = read_course(course.save(), findings)
    assert film.findings == ("scoliosis",)
    assert film.copies == ()


def test_films_of_one_patient_share_a_pseudonym_which_is_not_the_patient_id(
    course: Any, findings: FindingVocabulary
) -> None:
    course.row("A", "normal", patient="H123456789")
    course.row("B", "normal", patient="H123456789")
    course.row("C", "normal", patient="")
    a, b, c = read_course(course.save(), findings)
    assert a.patient == b.patient != c.patient
    assert "H123456789" not in str((a, b))
    assert c.patient not in (c.study, "")


def test_one_patient_id_on_every_film_is_a_placeholder(course: Any, findings: FindingVocabulary) -> None:
    for film_id in "ABC":
        course.row(film_id, "normal", patient="ANONYMOUS")
    assert len({film.patient for film in read_course(course.save(), findings)}) == 3


@pytest.mark.parametrize(("placeholders", "others", "patients"), [(10, 5, 15), (9, 5, 6), (10, 90, 91), (11, 90, 101)])
def test_a_patient_id_that_too_many_films_share_is_a_placeholder(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, placeholders: int, others: int, patients: int
) -> None:
    ids = ["pANON"] * placeholders + [f"p{i}" for i in range(others)]
    none = np.zeros((0, 4), np.float32)
    films = [Film(tmp_path, f"{i}", f"s{i}", patient, none, (), 9, 9) for i, patient in enumerate(ids)]
    cleaned = without_placeholders(films)
    assert len({film.patient for film in cleaned}) == patients
    assert [film.patient for film in cleaned[placeholders:]] == ids[placeholders:]
    assert len(caplog.messages) == (patients == placeholders + others)
    assert f"{placeholders} of {len(ids)} films have a PatientID" in caplog.text or not caplog.messages
    assert "pANON" not in caplog.text


def test_an_unreadable_copy_gives_way_to_a_readable_one(course: Any, findings: FindingVocabulary) -> None:
    fill(course, ENGLISH, ENGLISH)
    broken = course.root / "train/cardiac_hypertrophy/image/4440.dcm"
    broken.write_bytes(b"<html>")
    (course.root / "train/normal/image/220_97.dcm").write_bytes(b"<html>")
    a, b, _ = read_course(course.save(), findings)
    assert (b.path.name, b.copies) == ("10 (2)d.dcm", (broken,))
    assert b.findings == ("cardiac_hypertrophy", "scoliosis")
    assert (a.width, a.height) == (120, 100)  # the csv's


def test_test_films_come_along_when_their_truth_is_there(course: Any, findings: FindingVocabulary) -> None:
    fill(course, ENGLISH, ENGLISH)
    course.test("T1", [("心臟肥大", 0.25, 0.75, 0.5, 0.9), ("scoliosis", 0.4, 0.6, 0.0, 1.0)])
    course.test("T2")
    films = read_course(course.save("utf-8-sig"), findings)
    assert [(film.id, film.split) for film in films[3:]] == [("T1", "test"), ("T2", "test")]
    assert films[3].findings == ("cardiac_hypertrophy", "scoliosis")
    np.testing.assert_allclose(films[3].boxes, [[30, 50, 90, 90], [48, 0, 72, 100]], rtol=1e-6)
    assert films[4].normal
    (course.root / "test_truth.csv").unlink()
    assert len(read_course(course.root, findings)) == 3
    assert [film.id for film in read_course_test(course.root)] == ["T1", "T2"]


def test_truth_that_fits_no_test_film_is_an_error_with_its_rows(course: Any, findings: FindingVocabulary) -> None:
    fill(course, ENGLISH, ENGLISH)
    course.test("T1", [("scoliosis", 0.25, 0.75, 0.5, 0.9)])
    course.truth += [course.truth[0] | {"ID": "T9"}, course.truth[0] | {"xmin": ""}]
    with pytest.raises(TableError) as error:
        read_course(course.save(), findings)
    assert "row 3: its ID is not in test.csv" in str(error.value)
    assert "row 4" in str(error.value)


def test_a_mark_is_every_white_rectangle_but_not_dirt_or_jpeg_noise(
    tmp_path: Path, mark_picture: Callable[..., Path]
) -> None:
    # at 1164 x 1172, half the usual size, dirt is what has fewer than 750 px
    boxes = [(100, 200, 400, 260), (0, 1000, 30, 1172), (700, 700, 727, 727), (900, 900, 929, 929)]
    rectangles = read_mark(mark_picture(tmp_path / "標記.jpg", 1164, 1172, boxes)) * (1164, 1172, 1164, 1172)
    expected = [(100, 200, 400, 260), (0, 1000, 30, 1172), (900, 900, 929, 929)]
    np.testing.assert_allclose(sorted(rectangles.tolist()), sorted(expected), atol=1)


@pytest.mark.skipif(not (SHARED / "tools/make_course_layout.py").is_file(), reason=f"no shared data in {SHARED}")
def test_real_films_in_the_layout_give_the_boxes_they_were_made_from(tmp_path: Path) -> None:
    tool = [sys.executable, SHARED / "tools/make_course_layout.py", tmp_path]
    subprocess.run([*tool, "--chinese", "--leading-slash", "--per-class", "12", "--test", "8"], check=True)
    vocabulary = yaml.safe_load((Path(__file__).parents[3] / "conf/findings/eda.yaml").read_text(encoding="utf-8"))
    findings = FindingVocabulary(vocabulary["findings"])
    films = read_course(tmp_path, findings)
    truth = {film.id: film for film in read_coco(SHARED / "data/real_cxr", findings)}
    assert sum(film.split == "test" for film in films) == 8
    marked = 0
    for film in films:
        made_from = truth[film.id.rpartition("_")[2]]
        for finding, box in zip(film.findings, film.boxes, strict=True):
            np.testing.assert_allclose(box, made_from.boxes[made_from.findings.index(finding)], atol=1)
            marked += 1
    assert marked > 24
