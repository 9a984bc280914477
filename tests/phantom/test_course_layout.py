"""Phantom films on disk: the hospital's layout with its traps, drawn once, gone on with after a kill."""

import json
from collections import defaultdict
from pathlib import Path

import cv2
import numpy as np
import pydicom
import pytest
import yaml

from cxr.data.sources.phantom import read_phantom
from cxr.findings import FindingVocabulary
from cxr.phantom import films as phantom
from cxr.phantom.drawn_set import PhantomError
from cxr.phantom.films import write_course_layout
from scripts import table

SETTINGS = {"films": 20, "test_films": 5, "size": 96, "seed": 1, "normal_fraction": 0.25, "workers": 1}


@pytest.fixture(scope="module")
def findings() -> FindingVocabulary:
    eda = Path(__file__).parents[2] / "conf" / "findings" / "eda.yaml"
    return FindingVocabulary(yaml.safe_load(eda.read_text(encoding="utf-8"))["findings"])


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "phantom"
    write_course_layout(folder, **SETTINGS)
    return folder


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_a_film_has_a_row_a_name_and_a_copy_for_each_finding(root: Path) -> None:
    rows = defaultdict(list)
    for row in table(root / "train.csv"):
        rows[row["ID"]].append(row)
    assert len(rows) == SETTINGS["films"]
    assert any(len(same) > 1 for same in rows.values())
    for same in rows.values():
        copies = {(root / "train" / row["ImagePath"]).read_bytes() for row in same}
        assert len(copies) == 1
        assert len({row["category"] for row in same}) == len({row["ImagePath"] for row in same}) == len(same)
        assert all(row["ImagePath"] == f"{row['category']}/image/{row['Filename']}" for row in same)


def test_names_repeat_across_folders_and_hold_blanks_and_brackets(root: Path) -> None:
    names = [row["Filename"] for row in table(root / "train.csv")]
    assert len(set(names)) < len(names)
    many = phantom._plan(200, 0, 0, 0.25)
    assert any("9 (2)d.dcm" in file for job in many for file in job.files)


def test_marks_are_lossy_and_normal_rows_list_one_that_is_not_there(root: Path) -> None:
    grey = 0
    for row in table(root / "train.csv"):
        path = root / "train" / row["MarkPath"]
        assert path.exists() == (row["category"] != "normal")
        if path.exists():
            mark = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
            assert mark.shape == (int(row["Height"]), int(row["Width"]))
            grey += int(((mark > 0) & (mark < 255)).sum())
    assert grey > 0


def test_films_are_stored_as_the_hospital_stores_them(root: Path) -> None:
    row = table(root / "train.csv")[0]
    film = pydicom.dcmread(root / "train" / row["ImagePath"])
    assert film.PhotometricInterpretation == "MONOCHROME1"
    assert (film.BitsAllocated, film.BitsStored, film.HighBit, film.PixelRepresentation) == (16, 12, 11, 0)
    assert (film.PixelIntensityRelationship, film.PresentationLUTShape) == ("LOG", "INVERSE")
    assert (film.WindowCenter, film.WindowWidth) == (2048, 4096)
    assert film.pixel_array.shape == (int(row["Height"]), int(row["Width"]))
    assert film.pixel_array.max() <= 4095


def test_read_phantom_gives_every_film_with_the_boxes_it_was_drawn_with(
    root: Path, findings: FindingVocabulary
) -> None:
    films = {film.id: film for film in read_phantom(root, findings, **SETTINGS)}
    jobs = phantom._plan(20, 5, 1, 0.25)
    assert [film.split for film in films.values()].count("test") == 5
    assert set(films) == {job.id for job in jobs}
    truth = defaultdict(dict)
    for row in table(root / "test_truth.csv"):
        truth[row["ID"]][row["category"]] = row
    for job in jobs:
        film = films[job.id]
        assert sorted(film.findings) == sorted(job.findings)
        for name, row in truth.get(job.id, {}).items():
            x0, _, _, y1 = film.boxes[film.findings.index(name)]
            assert x0 == pytest.approx(float(row["xmin"]) * film.width, abs=0.01)
            assert y1 == pytest.approx(float(row["ymax"]) * film.height, abs=0.01)


def test_a_mark_is_the_box(tmp_path: Path, findings: FindingVocabulary) -> None:
    films = read_phantom(tmp_path, findings, films=6, test_films=0, size=256, normal_fraction=0.0, workers=1)
    for film, job in zip(films, phantom._plan(6, 0, 0, 0.0), strict=True):
        thorax = phantom.draw_thorax(np.random.default_rng([0, job.patient]), job.findings)
        pose = phantom.draw_pose(np.random.default_rng([0, job.patient, job.shot]), thorax, 256)
        for name, box in zip(film.findings, film.boxes, strict=True):
            assert box == pytest.approx(pose.box(thorax.outlines[name]), abs=2)


def test_normal_share_is_what_was_asked_for() -> None:
    for share in (0.0, 0.25, 1.0):
        jobs = phantom._plan(200, 40, 0, share)
        for test in (False, True):
            normal = [not job.findings for job in jobs if job.test == test]
            assert np.mean(normal) == pytest.approx(share, abs=0.04)


def test_some_patients_have_two_films_and_none_is_on_both_sides() -> None:
    jobs = phantom._plan(200, 60, 0, 0.25)
    train, test = ([job.patient for job in jobs if job.test == side] for side in (False, True))
    assert (len(train), len(test)) == (200, 60)
    assert len(set(train)) < 200
    assert not set(train) & set(test)
    assert len({job.id for job in jobs}) == 260


def test_a_second_call_draws_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(root)
    monkeypatch.setattr(phantom, "draw_all", lambda *_: pytest.fail("drew again"))
    write_course_layout(root, **SETTINGS)
    assert contents(root) == before


def test_a_killed_drawing_claims_nothing_and_ends_the_same(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []
    take = phantom._take

    def killed(*args: object) -> phantom.Phantom:
        drawn.append(1)
        if len(drawn) == 8:
            raise KeyboardInterrupt
        return take(*args)

    monkeypatch.setattr(phantom, "_take", killed)
    with pytest.raises(KeyboardInterrupt):
        write_course_layout(tmp_path, **SETTINGS)
    assert not (tmp_path / "train.csv").exists()
    assert not (tmp_path / "phantom.json").exists()
    write_course_layout(tmp_path, **SETTINGS)
    assert len(drawn) == 8 + 25 - 7  # the seven that were whole are not drawn again
    assert contents(tmp_path) == contents(root)


def test_the_number_of_processes_does_not_change_the_films(root: Path, tmp_path: Path) -> None:
    write_course_layout(tmp_path, **{**SETTINGS, "workers": 2})
    assert contents(tmp_path) == contents(root)


def test_other_settings_in_the_same_folder_say_what_differs_and_what_to_do(root: Path) -> None:
    with pytest.raises(PhantomError, match=r"films 20 \(asked for: 30\), seed 1 \(asked for: 2\).*data\.root.*delete"):
        write_course_layout(root, **{**SETTINGS, "films": 30, "seed": 2})


@pytest.mark.parametrize("name", ["train.csv", "annotations.coco.json", "a film.dcm", "train"])
def test_a_folder_that_holds_anything_else_is_not_touched(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine", encoding="utf-8")
    with pytest.raises(
        PhantomError, match=rf"{tmp_path} holds 1 .*first: {name}.*data\.root.*data=course or data=coco"
    ):
        write_course_layout(tmp_path, **SETTINGS)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    with pytest.raises(PhantomError, match="is a file"):
        write_course_layout(tmp_path / name, **SETTINGS)


def test_a_drawing_killed_before_its_first_film_ends_with_the_files_of_an_undisturbed_one(tmp_path: Path) -> None:
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    killed.mkdir()
    (killed / ".phantom.lock").touch()
    (killed / ".0123abcd.part").write_text("{", encoding="utf-8")
    for folder in (killed, whole):
        write_course_layout(folder, films=1, test_films=1, size=64, workers=1)
    files = [
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.*") if path.suffix != ".part"}
        for folder in (killed, whole)
    ]
    assert files[0] == files[1]
    assert Path("test/image/001.dcm") in files[0]


def test_without_hard_links_the_copies_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    write_course_layout(tmp_path, **SETTINGS)
    assert contents(tmp_path) == contents(root)


def test_the_stamp_holds_settings_and_no_patient(root: Path) -> None:
    stamp = json.loads((root / "phantom.json").read_text(encoding="utf-8"))
    assert stamp == {k: v for k, v in SETTINGS.items() if k != "workers"} | {"drawing": phantom._DRAWING}


def test_the_config_shows_every_setting_the_films_depend_on() -> None:
    config = Path(__file__).parents[2] / "conf" / "data" / "phantom.yaml"
    shown = yaml.safe_load(config.read_text(encoding="utf-8"))["read"]
    assert SETTINGS.keys() - {"workers"} <= shown.keys()
