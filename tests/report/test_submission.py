"""Tables of detections, by hand: two films, three boxes, a normal film between them."""

import errno
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from cxr.detect.prediction import NotAssessed, Prediction, printed_threshold, six_digits
from cxr.findings import Finding, FindingVocabulary
from cxr.read.chest_films import Reason
from cxr.report.journal import Done
from cxr.report.submission import write_coco, write_detections, write_films, write_submission
from scripts import table

FINDINGS = FindingVocabulary([Finding("nodule", "結節"), Finding("effusion", "積液")])


def prediction(
    number: int, boxes: list[tuple[str, float, tuple[float, float, float, float]]], abnormal: float
) -> Prediction:
    scores = {name: max([score for other, score, _ in boxes if other == name], default=0.0) for name in FINDINGS.names}
    names, strengths, corners = zip(*boxes, strict=True) if boxes else ((), (), ())
    return Prediction(number, f"p{number}", f"q{number}", 400, 200, corners, names, strengths, scores, abnormal)


FILMS = [
    prediction(1, [("effusion", 0.9, (100.0, 50.0, 300.0, 100.0)), ("nodule", 0.01, (0.0, 0.0, 400.0, 200.0))], 0.9),
    prediction(2, [], 0.25),
    prediction(3, [("nodule", 0.5, (10.0, 20.0, 11.5, 40.0))], 0.5),
]
DONE = [Done(film.number, film.study, film) for film in FILMS]
FOOT = Reason("other_part", "BodyPartExamined is FOOT, not the chest")
REFUSED = Done(4, "p4", not_assessed=NotAssessed(4, "p4", "q4", 400, 200, FOOT))
FAILED = Done(5, failed="film 5: is empty")


def test_the_submission_is_the_course_format_to_the_letter(tmp_path: Path) -> None:
    write_submission(tmp_path / "submission.csv", FILMS, {1: "TDR_b", 2: "TDR_c", 3: "TDR_a"})
    assert (tmp_path / "submission.csv").read_bytes() == (
        b"ID,category,score,xmin,xmax,ymin,ymax\n"
        b"TDR_b,effusion,0.9,0.250000,0.750000,0.250000,0.500000\n"
        b"TDR_b,nodule,0.01,0.000000,1.000000,0.000000,1.000000\n"  # weak boxes too: precision is measured over all
        b"TDR_a,nodule,0.5,0.025000,0.028750,0.100000,0.200000\n"  # TDR_c is normal: no row
    )


def test_coco_boxes_are_corner_and_size_and_ids_have_a_meaning(tmp_path: Path) -> None:
    write_coco(tmp_path, DONE, FINDINGS)
    results = json.loads((tmp_path / "detections.json").read_text())
    assert results[0] == {"image_id": 1, "category_id": 2, "bbox": [100.0, 50.0, 200.0, 50.0], "score": 0.9}
    assert results[2] == {"image_id": 3, "category_id": 1, "bbox": [10.0, 20.0, 1.5, 20.0], "score": 0.5}
    about = json.loads((tmp_path / "images.json").read_text())
    assert [image["id"] for image in about["images"]] == [1, 2, 3]
    assert about["images"][0] == {
        "id": 1, "study": "p1", "patient": "q1", "width": 400, "height": 200, "assessed": True,
    }  # fmt: skip
    assert about["categories"] == [{"id": 1, "name": "nodule"}, {"id": 2, "name": "effusion"}]


def test_pycocotools_takes_the_results(tmp_path: Path) -> None:
    coco = pytest.importorskip("pycocotools.coco").COCO()
    write_coco(tmp_path, DONE, FINDINGS)
    coco.dataset = json.loads((tmp_path / "images.json").read_text()) | {"annotations": []}
    coco.createIndex()
    assert len(coco.loadRes(str(tmp_path / "detections.json")).anns) == 3


def test_no_film_at_all_gives_whole_files(tmp_path: Path) -> None:
    write_coco(tmp_path, [], FINDINGS)
    write_submission(tmp_path / "submission.csv", [], {})
    assert json.loads((tmp_path / "detections.json").read_text()) == []
    assert json.loads((tmp_path / "images.json").read_text())["images"] == []
    assert (tmp_path / "submission.csv").read_text() == "ID,category,score,xmin,xmax,ymin,ymax\n"
    assert not list(tmp_path.glob(".*"))


def test_detections_say_what_is_said_of_the_whole_film(tmp_path: Path) -> None:
    write_detections(tmp_path / "detections.csv", FILMS)
    rows = table(tmp_path / "detections.csv")
    assert [row["study"] for row in rows] == ["p1", "p1", "p3"]
    assert rows[0] == {
        "study": "p1", "finding": "effusion", "score": "0.9", "xmin": "100.0", "ymin": "50.0", "xmax": "300.0",
        "ymax": "100.0", "finding_score": "0.9", "abnormal": "0.9",
    }  # fmt: skip


def test_every_film_has_a_row_and_one_at_the_operating_point_is_not_cleared(tmp_path: Path) -> None:
    write_films(tmp_path / "films.csv", DONE, FINDINGS, threshold=0.5)
    rows = table(tmp_path / "films.csv")
    assert [(row["image_id"], row["cleared"]) for row in rows] == [("1", "no"), ("2", "yes"), ("3", "no")]
    assert (rows[1]["nodule"], rows[1]["abnormal"]) == ("0.0", "0.25")
    write_films(tmp_path / "films.csv", DONE, FINDINGS, threshold=None)
    assert {row["cleared"] for row in table(tmp_path / "films.csv")} == {""}


def test_a_film_that_is_not_assessed_has_a_row_with_the_reason_and_is_never_cleared(tmp_path: Path) -> None:
    write_films(tmp_path / "films.csv", [*DONE, REFUSED, FAILED], FINDINGS, threshold=1.0)
    assessed, refused, failed = table(tmp_path / "films.csv")[-3:]
    assert (assessed["assessed"], assessed["reason"], assessed["cleared"]) == ("yes", "", "yes")
    assert (refused["study"], refused["assessed"], refused["reason"]) == ("p4", "no", FOOT.text)
    assert (failed["image_id"], failed["study"], failed["assessed"], failed["reason"]) == ("5", "", "no", "is empty")
    for row in (refused, failed):
        assert (row["abnormal"], row["cleared"], row["nodule"]) == ("", "no", "")
    write_films(tmp_path / "films.csv", [REFUSED], FINDINGS, threshold=None)
    assert table(tmp_path / "films.csv")[0]["cleared"] == "no"


def test_a_film_that_is_not_assessed_has_no_box_and_says_so_among_the_images(tmp_path: Path) -> None:
    write_coco(tmp_path, [REFUSED, FAILED], FINDINGS)
    assert json.loads((tmp_path / "detections.json").read_text()) == []
    (image,) = json.loads((tmp_path / "images.json").read_text())["images"]  # one that cannot be read has no size
    assert (image["id"], image["assessed"], image["reason"]) == (4, False, FOOT.text)


def test_tables_name_films_by_path_where_that_is_asked_for(tmp_path: Path) -> None:
    images = {number: f"ward/{number}.dcm" for number in range(1, 6)}
    write_films(tmp_path / "films.csv", [*DONE, REFUSED, FAILED], FINDINGS, None, images.__getitem__)
    assert [row["image"] for row in table(tmp_path / "films.csv")] == list(images.values())
    write_detections(tmp_path / "detections.csv", FILMS, None, images.__getitem__)
    assert [row["image"] for row in table(tmp_path / "detections.csv")] == ["ward/1.dcm", "ward/1.dcm", "ward/3.dcm"]
    write_coco(tmp_path, [*DONE, REFUSED], FINDINGS, images.__getitem__)
    named = [image["file_name"] for image in json.loads((tmp_path / "images.json").read_text())["images"]]
    assert named == list(images.values())[:4]


def test_scores_have_six_digits_in_every_table(tmp_path: Path) -> None:
    long = 0.0010000000474974513
    film = prediction(1, [("nodule", long, (0.0, 0.0, 4.0, 2.0))], long)
    write_films(tmp_path / "films.csv", [Done(1, "p1", film)], FINDINGS, 0.5)
    write_detections(tmp_path / "detections.csv", [film], 0.5)
    write_submission(tmp_path / "submission.csv", [film], {1: "T"})
    write_coco(tmp_path, [Done(1, "p1", film)], FINDINGS)
    for name in ("films.csv", "detections.csv", "submission.csv", "detections.json"):
        text = (tmp_path / name).read_text()
        assert "0.001" in text
        assert "0.0010" not in text


@pytest.mark.parametrize("threshold", [0.0, 3e-7, 0.125, 0.1234567, 0.12345649, 0.5000004999, 0.9999999, 1.0])
def test_a_printed_score_lies_on_its_own_side_of_the_printed_threshold(threshold: float) -> None:
    printed = printed_threshold(threshold)
    assert printed == float(f"{printed:.6g}")  # as reports print it
    assert abs(printed - threshold) < 1e-6
    for step in (-1e-3, -1e-6, -4e-7, -1e-9, 0.0, 1e-9, 4e-7, 1e-6, 1e-3):
        score = min(max(threshold + step, 0.0), 1.0)
        shown = six_digits(score, threshold)
        assert (shown < printed) == (score < threshold), (score, shown, printed)
        assert abs(shown - score) < 2e-6
        assert shown == round(shown, 6)


def test_a_full_disk_leaves_no_part_and_names_the_file(tmp_path: Path) -> None:
    def broken() -> Iterator[Prediction]:
        yield FILMS[0]
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left on device") as error:
        write_detections(tmp_path / "detections.csv", broken())
    assert error.value.filename == str(tmp_path / "detections.csv")
    assert not list(tmp_path.iterdir())
