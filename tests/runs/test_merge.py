"""The merge of shards: what is written is that of one run, and what does not belong together is refused by name."""

import csv
import json
import os
from pathlib import Path
from typing import Any

import pytest

from cxr.config.errors import ConfigError
from cxr.data.inputs import Input
from cxr.detect.prediction import NotAssessed, Prediction
from cxr.files import write_json
from cxr.read.chest_films import Reason
from cxr.report.film_counts import film_counts
from cxr.report.film_key import KEY, FilmKey
from cxr.report.journal import JOURNAL, Done, Journal
from cxr.runs.merge import merge
from scripts import table

SETTINGS = {"ckpt": "best.ckpt", "images": "films", "names": "paths", "shards": 2, "cam": {}, "batch": 8}
FOOT = Reason("other_part", "BodyPartExamined is FOOT, not the chest")


def film(number: int, score: float) -> Prediction:
    box, name = (0.0, 0.5, 2.0, 3.0), f"p{score}"
    return Prediction(number, name, f"q{name}", 4, 3, (box,), ("nodule",), (score,), {"nodule": score}, score)


def write_shard(sweep: Path, shard: int, films: dict[str, Done], name: str = "", **settings: Any) -> Path:
    """Write what predict.py leaves of a shard, from path → what became of the film."""
    folder = sweep / (name or f"shard={shard}")
    folder.mkdir(parents=True)
    config = {**SETTINGS, "shard": shard, "run_dir": str(folder), **settings}
    write_json(folder / "command.json", {"overrides": [f"shard={shard}", "shards=2"], "config": config})
    with Journal(folder) as journal, FilmKey(folder) as key:
        for path, done in reversed(films.items()):  # not in their order, as films are done
            key.add(Input(done.number, Path(path)), f"1.2.{path}", "p", "q")
            journal.add(done)
        counts = film_counts(journal)
    FilmKey(folder).put_in_order()
    note = {"findings": ["nodule"], "threshold": 0.5, "images": "films", "several": False}
    write_json(folder / "shard.json", {"shard": shard, "shards": 2, **note})
    result = {"status": "completed", **counts, "algorithm": ["checkpoint 1"]}
    write_json(folder / "result.json", {**result, "overrides": [f"shard={shard}", "shards=2"], "seconds": 2.5})
    return folder


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Two shards of four films; a folder sorts before the film whose name goes on with a dash."""
    first = {
        "films/a/1.dcm": Done(1, "p0.1", film(1, 0.1)),
        "films/b.dcm": Done(5, "", None, "film 5: is empty"),  # 2 to 4 were no films
    }
    second = {
        "films/a-1.dcm": Done(1, "p0.9", film(1, 0.9), note="film 1: no DICOM sr can be made"),
        "films/c.dcm": Done(2, "p3", None, "", "", NotAssessed(2, "p3", "q3", 5, 6, FOOT)),
    }
    write_shard(tmp_path / "archive", 0, first)
    write_shard(tmp_path / "archive", 1, second, batch=16)
    return tmp_path / "archive"


def test_films_of_all_shards_stand_in_one_order_with_new_numbers(sweep: Path) -> None:
    place = merge(sweep)
    films = table(place / "films.csv")
    assert [(row["image_id"], row["image"], row["assessed"], row["cleared"]) for row in films] == [
        ("1", "a/1.dcm", "yes", "yes"), ("2", "a-1.dcm", "yes", "no"), ("3", "b.dcm", "no", "no"),
        ("4", "c.dcm", "no", "no"),
    ]  # fmt: skip
    assert films[2]["reason"] == "is empty"
    assert [row["image"] for row in table(place / "detections.csv")] == ["a/1.dcm", "a-1.dcm"]
    results = json.loads((place / "detections.json").read_text())
    assert [(result["image_id"], result["score"]) for result in results] == [(1, 0.1), (2, 0.9)]
    images = json.loads((place / "images.json").read_text())
    assert [image["id"] for image in images["images"]] == [1, 2, 4]
    assert images["categories"] == [{"id": 1, "name": "nodule"}]
    assert [(row["number"], row["path"], row["SOPInstanceUID"]) for row in table(place / KEY)] == [
        ("1", "films/a/1.dcm", "1.2.films/a/1.dcm"), ("2", "films/a-1.dcm", "1.2.films/a-1.dcm"),
        ("3", "films/b.dcm", "1.2.films/b.dcm"), ("4", "films/c.dcm", "1.2.films/c.dcm"),
    ]  # fmt: skip
    result = json.loads((place / "result.json").read_text())
    assert (result["films"], result["failed"], result["not_assessed"]) == (2, 1, {"other_part": 1})
    assert result["problems"] == [
        "film 2: no DICOM sr can be made", "film 3: is empty", f"film 4: not assessed: {FOOT.text}",
    ]  # fmt: skip
    assert (result["shards"], result["overrides"], result["seconds"]) == (2, ["shards=2"], 5.0)
    if os.name == "posix":
        assert (place / KEY).stat().st_mode & 0o077 == 0
    left = {"detections.csv", "detections.json", "films.csv", "images.json", KEY, "result.json"}
    assert {path.name for path in place.iterdir()} - {".lock"} == left  # and no database


def test_it_may_be_merged_again_and_touches_no_file_of_another(sweep: Path) -> None:
    first = merge(sweep)
    before = (first / "films.csv").read_bytes()
    assert (merge(sweep) / "films.csv").read_bytes() == before
    (first / "thesis.txt").touch()
    with pytest.raises(ConfigError, match=r"thesis\.txt; move them away"):
        merge(sweep)


def test_missing_and_unfinished_shards_are_named(sweep: Path) -> None:
    (sweep / "shard=1" / "result.json").unlink()
    with pytest.raises(ConfigError, match=r"shard=1: has not ended; type its command again"):
        merge(sweep)
    (sweep / "shard=1").rename(sweep.parent / "elsewhere")
    with pytest.raises(ConfigError, match=r"1 of 2 shards are missing: shard=1"):
        merge(sweep)
    assert not (sweep / "merged").exists()


def test_a_folder_without_shards_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no shard of a prediction"):
        merge(tmp_path)


def test_a_shard_that_stands_there_twice_is_named(sweep: Path) -> None:
    write_shard(sweep, 1, {}, "again")
    with pytest.raises(ConfigError, match="shard=1 stands there twice: again and shard=1"):
        merge(sweep)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ckpt": "other.ckpt"}, "third: ckpt is other.ckpt, best.ckpt in the first"),
        ({"shards": 3}, "third: shards is 3, 2 in the first"),
        ({"cam": {"gradcam": 1}}, "third: cam.gradcam is 1, absent in the first"),
    ],
)
def test_a_shard_with_other_settings_is_named(sweep: Path, settings: dict[str, Any], message: str) -> None:
    write_shard(sweep, 1, {}, "third", **settings)
    with pytest.raises(ConfigError, match=message):
        merge(sweep)


def test_a_checkpoint_that_was_exchanged_under_its_name_is_told(sweep: Path) -> None:
    path = sweep / "shard=1" / "result.json"
    write_json(path, {**json.loads(path.read_text()), "algorithm": ["checkpoint 2"]})
    with pytest.raises(ConfigError, match="another detector than shard=0: checkpoint 2 there, checkpoint 1 here"):
        merge(sweep)


def test_a_film_in_two_shards_is_named_by_its_numbers(tmp_path: Path) -> None:
    write_shard(tmp_path, 0, {"films/a.dcm": Done(1, "", None, "film 1: is empty")})
    write_shard(tmp_path, 1, {"films/b.dcm": Done(1, "p", film(1, 0.5)), "films/a.dcm": Done(2, "p", film(2, 0.5))})
    with pytest.raises(ConfigError, match="film 1 of shard=0 and film 2 of shard=1"):
        merge(tmp_path)
    assert not (tmp_path / "merged").exists()


def test_a_list_may_name_a_film_twice(tmp_path: Path) -> None:
    write_shard(tmp_path, 0, {"films/a.dcm": Done(1, "", None, "film 1: is empty")})
    twice = [Input(1, Path("films/b.dcm")), Input(2, Path("films/b.dcm"))]
    folder = write_shard(tmp_path, 1, {"films/b.dcm": Done(1, "p", film(1, 0.5))})
    with Journal(folder) as journal, FilmKey(folder) as key:
        key.add(twice[1])
        journal.add(Done(2, "p-2", film(2, 0.5)))
        result = {**json.loads((folder / "result.json").read_text()), **film_counts(journal)}
    write_json(folder / "result.json", result)
    assert [row["image_id"] for row in table(merge(tmp_path) / "films.csv")] == ["1", "2", "3"]


@pytest.mark.parametrize("damaged", [JOURNAL, KEY, "result.json"])
def test_files_of_a_shard_that_do_not_agree_are_told(sweep: Path, damaged: str) -> None:
    path = sweep / "shard=1" / damaged
    if damaged == "result.json":
        write_json(path, {**json.loads(path.read_text()), "films": 7})
    else:
        path.write_bytes(path.read_bytes().rstrip(b"\n").rpartition(b"\n")[0] + b"\n")  # without its last line
    with pytest.raises(ConfigError, match=r"key\.csv names . films, films\.jsonl answers . of them"):
        merge(sweep)
    assert not (sweep / "merged" / "result.json").exists()


def test_pseudonyms_alone_stand_in_tables_where_the_shards_have_no_more(sweep: Path) -> None:
    for shard in (0, 1):
        path = sweep / f"shard={shard}" / "shard.json"
        write_json(path, {**json.loads(path.read_text()), "images": None})
    place = merge(sweep)
    assert "image" not in table(place / "films.csv")[0]
    assert "films/" not in "".join((place / name).read_text() for name in ("films.csv", "images.json", "result.json"))


def test_paths_of_any_letters_come_through(tmp_path: Path) -> None:
    odd = os.fsdecode(b"films/\xa4\xfd,\n\xe5\xbf\x83.dcm")
    write_shard(tmp_path, 0, {odd: Done(1, "p", film(1, 0.5))})
    write_shard(tmp_path, 1, {})
    place = merge(tmp_path)
    with (place / KEY).open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        (row,) = list(csv.DictReader(file))
    assert row["path"] == odd


def test_of_many_problems_ten_are_named_and_the_others_counted(sweep: Path) -> None:
    for n in range(13):
        write_shard(sweep, 1, {}, f"shard=2 {n:02}", ckpt="other.ckpt")
    with pytest.raises(ConfigError) as error:
        merge(sweep)
    lines = str(error.value).splitlines()
    assert lines[-1].strip() == "- and 3 more"
    assert len(lines) == 1 + 10 + 1
