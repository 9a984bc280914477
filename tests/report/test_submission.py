"""Tables of detections, by hand: two films, three boxes, a normal film between them."""

import csv
import json
from pathlib import Path

import pytest

from cxr.detect.prediction import Prediction
from cxr.findings import Finding, FindingVocabulary
from cxr.report.submission import write_coco, write_detections, write_films, write_submission

FINDINGS = FindingVocabulary([Finding("nodule", "結節"), Finding("effusion", "積液")])


def said(number: int, boxes: list[tuple[str, float, tuple[float, float, float, float]]], abnormal: float) -> Prediction:
    scores = {name: max([score for said, score, _ in boxes if said == name], default=0.0) for name in FINDINGS.names}
    names, strengths, corners = zip(*boxes, strict=True) if boxes else ((), (), ())
    return Prediction(number, f"p{number}", f"q{number}", 400, 200, corners, names, strengths, scores, abnormal)


FILMS = [
    said(1, [("effusion", 0.9, (100.0, 50.0, 300.0, 100.0)), ("nodule", 0.01, (0.0, 0.0, 400.0, 200.0))], 0.9),
    said(2, [], 0.25),
    said(3, [("nodule", 0.5, (10.0, 20.0, 11.5, 40.0))], 0.5),
]


def test_the_submission_is_the_course_format_to_the_letter(tmp_path: Path) -> None:
    write_submission(tmp_path / "submission.csv", FILMS, {1: "TDR_b", 2: "TDR_c", 3: "TDR_a"})
    assert (tmp_path / "submission.csv").read_bytes() == (
        b"ID,category,score,xmin,xmax,ymin,ymax\n"
        b"TDR_b,effusion,0.9,0.250000,0.750000,0.250000,0.500000\n"
        b"TDR_b,nodule,0.01,0.000000,1.000000,0.000000,1.000000\n"  # weak boxes too: precision is measured over all
        b"TDR_a,nodule,0.5,0.025000,0.028750,0.100000,0.200000\n"  # TDR_c is normal: no row
    )


def test_coco_boxes_are_corner_and_size_and_ids_have_a_meaning(tmp_path: Path) -> None:
    write_coco(tmp_path, FILMS, FINDINGS)
    results = json.loads((tmp_path / "detections.json").read_text())
    assert results[0] == {"image_id": 1, "category_id": 2, "bbox": [100.0, 50.0, 200.0, 50.0], "score": 0.9}
    assert results[2] == {"image_id": 3, "category_id": 1, "bbox": [10.0, 20.0, 1.5, 20.0], "score": 0.5}
    about = json.loads((tmp_path / "images.json").read_text())
    assert [image["id"] for image in about["images"]] == [1, 2, 3]
    assert about["images"][0] == {"id": 1, "study": "p1", "patient": "q1", "width": 400, "height": 200}
    assert about["categories"] == [{"id": 1, "name": "nodule"}, {"id": 2, "name": "effusion"}]


def test_pycocotools_takes_the_results(tmp_path: Path) -> None:
    coco = pytest.importorskip("pycocotools.coco").COCO()
    write_coco(tmp_path, FILMS, FINDINGS)
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
    rows = list(csv.DictReader((tmp_path / "detections.csv").read_text().splitlines()))
    assert [row["study"] for row in rows] == ["p1", "p1", "p3"]
    assert rows[0] == {
        "study": "p1", "finding": "effusion", "score": "0.9", "xmin": "100.0", "ymin": "50.0", "xmax": "300.0",
        "ymax": "100.0", "finding_score": "0.9", "abnormal": "0.9",
    }  # fmt: skip


def test_every_film_has_a_row_and_one_at_the_operating_point_is_not_cleared(tmp_path: Path) -> None:
    write_films(tmp_path / "films.csv", FILMS, FINDINGS, threshold=0.5)
    rows = list(csv.DictReader((tmp_path / "films.csv").read_text().splitlines()))
    assert [(row["image_id"], row["cleared"]) for row in rows] == [("1", "no"), ("2", "yes"), ("3", "no")]
    assert (rows[1]["nodule"], rows[1]["abnormal"]) == ("0.0", "0.25")
    write_films(tmp_path / "films.csv", FILMS, FINDINGS, threshold=None)
    assert {row["cleared"] for row in csv.DictReader((tmp_path / "films.csv").read_text().splitlines())} == {""}
