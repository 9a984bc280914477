"""The audit finds what makes a score worthless."""

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from cxr.data import audit as audit_module
from cxr.data.audit import LEFT_OUT, Audit, audit, show, split_as_trained
from cxr.data.film import Film
from cxr.data.sources.course import read_course
from cxr.findings import FindingVocabulary
from cxr.read.cache import FilmCache
from cxr.read.intensity import FullRange, Intensity


@pytest.fixture
def films(course: Any, findings: FindingVocabulary) -> list[Film]:
    """Four sound films: a normal one, one with both findings and two copies, two with scoliosis."""
    course.row("N", "normal", seed=1)
    course.row("B", "cardiac_hypertrophy", [(20, 50, 80, 90)], seed=2)
    course.row("B", "scoliosis", [(50, 0, 70, 100)], seed=2)
    course.row("C", "scoliosis", [(50, 0, 80, 100)], seed=3)
    course.row("D", "scoliosis", [(50, 0, 90, 100)], seed=4)
    return read_course(course.save(), findings)


def run(splits: dict[str, list[Film]], findings: FindingVocabulary, folder: Path) -> Audit:
    return audit(splits, findings, FilmCache(folder, Intensity([FullRange()]), 64))


def test_films_patients_and_boxes_are_counted(films: list[Film], findings: FindingVocabulary, tmp_path: Path) -> None:
    report = run({"train": films[:3], "test": films[3:]}, findings, tmp_path / "cache")
    train = report.splits["train"]
    assert (train.films, train.patients, train.normal, train.normal_share) == (3, 3, 1, pytest.approx(1 / 3))
    assert (train.findings["scoliosis"].films, train.findings["scoliosis"].boxes) == (2, 2)
    assert train.findings["scoliosis"].width[1] == pytest.approx(25, abs=1)
    assert train.findings["scoliosis"].height == pytest.approx((100, 100, 100), abs=1)
    assert report.splits["test"].findings["cardiac_hypertrophy"].boxes == 0
    assert not report.problems
    assert json.loads(json.dumps(asdict(report)))["splits"]["train"]["normal"] == 1


def test_a_patient_in_two_splits_is_a_leak(films: list[Film], findings: FindingVocabulary, tmp_path: Path) -> None:
    moved = replace(films[3], patient=films[0].patient)
    report = run({"train": films[:3], "test": [moved]}, findings, tmp_path / "cache")
    assert report.leaks == [f"one patient: {films[0].path} (train), {moved.path} (test)"]


def test_the_same_pixels_in_two_splits_are_a_leak_and_in_one_a_duplicate(
    films: list[Film], course: Any, findings: FindingVocabulary, tmp_path: Path
) -> None:
    path = course.row("E", "normal", seed=1, patient="someone else")  # another file and header, the same pixels as N
    again = replace(films[0], path=path, id="E", patient="pE")
    across = run({"train": films, "test": [again]}, findings, tmp_path / "cache")
    assert across.leaks == [f"the same pixels: {films[0].path} (train), {path} (test)"]
    within = run({"train": [*films, again]}, findings, tmp_path / "cache")
    assert within.leaks == []
    assert within.duplicates == [f"{films[0].path} = {path}"]


def test_a_copy_with_other_pixels_is_found(
    films: list[Film], course: Any, findings: FindingVocabulary, tmp_path: Path, write_film: Any
) -> None:
    (copy,) = films[1].copies
    write_film(copy, np.zeros((100, 120), np.uint16))
    report = run({"train": films}, findings, tmp_path / "cache")
    assert report.copies == [f"{copy} is not the picture {films[1].path} is"]


def test_boxes_outside_the_film_or_without_area_are_found(
    films: list[Film], findings: FindingVocabulary, tmp_path: Path
) -> None:
    boxes = np.array([[0, 0, 120, 100], [-5, 0, 50, 50], [60, 60, 121, 90], [40, 40, 40, 50]], np.float32)
    film = replace(films[1], boxes=boxes, findings=("scoliosis",) * 4)
    report = run({"train": [film]}, findings, tmp_path / "cache")
    assert len(report.boxes) == 3
    assert all(str(film.path) in text and "120 x 100" in text for text in report.boxes)


def test_unreadable_files_are_named(films: list[Film], findings: FindingVocabulary, tmp_path: Path) -> None:
    films[0].path.write_bytes(b"<html>")
    films[1].copies[0].write_bytes(b"<html>")
    report = run({"train": films}, findings, tmp_path / "cache")
    assert len(report.unreadable) == 2
    assert str(films[0].path) in "".join(report.unreadable)
    assert report.copies == []


def test_it_prints_what_it_found_and_no_patient(films: list[Film], findings: FindingVocabulary, tmp_path: Path) -> None:
    films[0].path.write_bytes(b"<html>")
    console = Console(record=True, width=120)
    show(run({"train": films}, findings, tmp_path / "cache"), findings, console)
    text = console.export_text()
    assert "Unreadable files: 1" in text
    assert str(films[0].path) in text
    assert "scoliosis" in text
    assert not any(film.patient in text for film in films)


def test_the_command_line_writes_json_and_exits_with_1_on_problems(
    films: list[Film], course: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["audit", str(course.root), "--cache", str(tmp_path / "cache"), "--json", str(tmp_path / "audit.json")]
    monkeypatch.chdir(tmp_path)  # anywhere: the vocabulary is found beside the package
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as sound:
        audit_module.main()
    assert sound.value.code == 0
    splits = json.loads((tmp_path / "audit.json").read_text(encoding="utf-8"))["splits"]
    assert sum(split["films"] for split in splits.values()) == 4
    films[0].path.write_bytes(b"<html>")
    with pytest.raises(SystemExit) as problem:
        audit_module.main()
    assert problem.value.code == 1


def test_the_command_line_takes_the_settings_of_a_training_for_files_that_do_not_show_their_layout(
    tmp_path: Path, write_film: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A COCO data set with a json for each split: its films stay in the splits of their files."""
    for split, count in (("train", 3), ("val", 2)):
        images = []
        for n in range(count):
            path = tmp_path / split / f"{n}.dcm"
            path.parent.mkdir(exist_ok=True)
            write_film(path, np.full((10, 20), 100 * n + len(split), np.uint16))
            images.append({"id": n, "file_name": path.name, "width": 20, "height": 10})
        box = {"id": 1, "image_id": 0, "category_id": 1, "bbox": [1, 2, 5, 6], "area": 30, "iscrowd": 0}
        content = {"images": images, "annotations": [box], "categories": [{"id": 1, "name": "scoliosis"}]}
        (tmp_path / f"{split}.json").write_text(json.dumps(content), encoding="utf-8")
    words = ["audit", str(tmp_path), "--cache", str(tmp_path / "cache"), "--json", str(tmp_path / "audit.json")]
    read = [f"--read={key}={value}" for split in ("train", "val")
            for key, value in ((split, f"{split}.json"), (f"{split}_images", split))]  # fmt: skip
    monkeypatch.setattr(sys, "argv", [*words, "--data", "coco", *read])
    with pytest.raises(SystemExit):
        audit_module.main()
    splits = json.loads((tmp_path / "audit.json").read_text(encoding="utf-8"))["splits"]
    assert {name: split["films"] for name, split in splits.items() if split["films"]} == {"train": 3, "val": 2}
    for wrong, message in (
        (["--data", "coco", "--read", "tain=train.json"], "data=coco has no data.read.tain, only train, val, test"),
        (["--data", "cocoa"], "there is no data=cocoa, expected one of"),
        (["--data", "labelstudio"], "data=labelstudio needs data.read.key"),
        (["--read", "train"], "--read train: expected KEY=VALUE"),
    ):
        monkeypatch.setattr(sys, "argv", [*words, *wrong])
        with pytest.raises(SystemExit) as refused:
            audit_module.main()
        assert refused.value.code == 2
        assert message in capsys.readouterr().err


def test_the_command_line_audits_the_split_that_trains(
    course: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for i in range(12):
        course.row(f"F{i}", "normal", seed=7)  # one picture, twelve patients: it stands in every split
    words = ["audit", str(course.save()), "--cache", str(tmp_path / "cache"), "--json", str(tmp_path / "audit.json")]
    monkeypatch.chdir(tmp_path)  # anywhere: the vocabulary is found beside the package
    monkeypatch.setattr(sys, "argv", [*words, "--val-fraction", "0.25", "--seed", "3"])
    with pytest.raises(SystemExit) as problem:
        audit_module.main()
    assert problem.value.code == 1
    assert "seed 3: 25 % of the films validate, 15 % test" in capsys.readouterr().out
    report = json.loads((tmp_path / "audit.json").read_text(encoding="utf-8"))
    assert {name: split["films"] for name, split in report["splits"].items()} == {"train": 7, "val": 3, "test": 2}
    assert [all(f"({split})" in leak for split in ("train", "val", "test")) for leak in report["leaks"]] == [True]


def test_the_split_is_that_of_the_data_module_and_shows_what_it_leaves_out(
    films: list[Film], course: Any, findings: FindingVocabulary, tmp_path: Path
) -> None:
    broken = films[0].path
    broken.write_bytes(b"<html>")
    held, same_patient = replace(films[3], split="test", patient="pX"), replace(films[2], patient="pX")
    films = [films[0], films[1], same_patient, held]
    splits = split_as_trained(films, {broken, films[1].path}, 0, 0, 0)
    assert splits == {"train": [films[1]], "val": [], "test": [held], LEFT_OUT: [films[0], same_patient]}
    report = run(splits, findings, tmp_path / "cache")
    assert report.leaks == []
    assert len(report.unreadable) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [(["nowhere"], "nowhere is not a folder"), ([".", "--findings", "nothing.yaml"], "nothing.yaml is not there")],
)
def test_a_wrong_command_line_is_one_line(
    words: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])
    monkeypatch.setattr(sys, "argv", ["audit", *words])
    with pytest.raises(SystemExit) as error:
        audit_module.main()
    assert error.value.code == 2
    assert message in capsys.readouterr().err


def test_the_command_refuses_what_lies_outside_the_data_set(
    course: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    course.row("A", "normal")
    course.rows[0]["ImagePath"] = "../../secret.dcm"
    (course.root.parent / "secret.dcm").write_bytes(b"not yours")
    monkeypatch.setattr(sys, "argv", ["audit", str(course.save())])
    with pytest.raises(SystemExit) as end:
        audit_module.main()
    assert end.value.code == 2
    assert "row 2: ImagePath '../../secret.dcm' leads to" in capsys.readouterr().err
