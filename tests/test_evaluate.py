"""End to end: evaluate.py on the detector that all end-to-end tests share."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from scripts import call, table

pytestmark = pytest.mark.slow

CKPT = "ckpt=run/checkpoints/best.ckpt"
FEW = "samples=50"


def load(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _detected(run: Path) -> list[dict[str, Any]]:
    (films,) = load(run / "detections.json").values()
    return list(films)


def test_a_run_leaves_tables_figures_and_a_page_and_detects_once(place: Path) -> None:
    out = call("evaluate.py", place, CKPT, FEW, "hydra.run.dir=whole")
    run = place / "whole"
    page = (run / "index.html").read_text(encoding="utf-8")
    assert "http" not in page
    assert "not a diagnosis" in page
    assert "index.html" in out
    metrics = load(run / "metrics.json")["checkpoints"]["A"]
    assert metrics["films"] == metrics["these_films"]["new"] == 8
    assert load(run / "result.json")["status"] == "completed"
    assert {p.stem for p in (run / "figures").iterdir()} == {
        "froc", "precision_recall", "roc", "reliability", "confusion", "sizes",
    }  # fmt: skip
    assert len(table(run / "per_finding.csv")) == 8
    assert metrics["subgroups"]["tests"] == 0  # 8 films are too few to compare
    assert metrics["subgroups"]["all_in_one_group"]["view"] == "too few"
    assert metrics["shift"]["films"] == len({film["patient"] for film in _detected(run)})
    card = torch.load(place / "run" / "checkpoints" / "best.ckpt", weights_only=True, map_location="cpu")["cxr"]
    assert set(card["groups"]["kinds"]["view"]) <= {"PA", "too few"}
    assert card["reference"]["rows"].shape[1] == len(card["reference"]["features"])
    kept, whole = (run / "detections.json").stat().st_mtime_ns, load(run / "metrics.json")
    out = call("evaluate.py", place, CKPT, FEW, "language=zh", "hydra.run.dir=whole")
    assert '<html lang="zh-Hant">' in (run / "index.html").read_text(encoding="utf-8")
    assert "detecting" not in out
    assert (run / "detections.json").stat().st_mtime_ns == kept
    assert load(run / "metrics.json") == whole


def test_average_precision_is_that_of_the_training_run(place: Path) -> None:
    trained = load(place / "run" / "result.json")["metrics"]
    ours = load(place / "whole" / "metrics.json")["checkpoints"]["A"]["all_findings"]
    assert trained["test/map_50"] > 0
    assert ours["ap50"]["value"] == pytest.approx(trained["test/map_50"], abs=1e-5)
    assert ours["ap"]["value"] == pytest.approx(trained["test/map"], abs=1e-5)


def test_two_checkpoints_by_a_comma(place: Path) -> None:
    content = torch.load(place / "run" / "checkpoints" / "best.ckpt", weights_only=True, map_location="cpu")
    for weight in content["state_dict"].values():
        weight *= 1.01
    torch.save(content, place / "other.ckpt")
    out = call("evaluate.py", place, f"{CKPT},other.ckpt", FEW, "hydra.run.dir=two")
    assert "B exceeds A by" in out
    assert set(load(place / "two" / "metrics.json")["second_over_first"]) == {
        "sensitivity@1fp", "ap50", "ap", "roc_auc",
    }  # fmt: skip


def test_the_frozen_operating_point_is_applied_and_test_films_choose_one_only_by_name(place: Path) -> None:
    content = torch.load(place / "run" / "checkpoints" / "best.ckpt", weights_only=True, map_location="cpu")
    estimate = {"value": 1.0, "low": 0.9, "high": 1.0, "n": 40, "reason": ""}
    content["cxr"]["operating_point"] = {
        "threshold": 0.0, "wanted_sensitivity": 0.99, "sensitivity_on_validation": estimate, "cleared_share": estimate,
        "films": 50, "abnormal": 40, "patients": 50, "split": "val", "limited": False,
    }  # fmt: skip
    torch.save(content, place / "frozen.ckpt")
    call("evaluate.py", place, "ckpt=frozen.ckpt", FEW, "hydra.run.dir=frozen")
    screening = load(place / "frozen" / "screening.json")["A"]
    assert screening["from"] == "frozen in the checkpoint"
    assert screening["figures"]["cleared"]["value"] == 0.0  # nothing scores below 0
    out = call("evaluate.py", place, "ckpt=frozen.ckpt", FEW, "screening.derive_on=test", "hydra.run.dir=derived")
    assert "was chosen on all of the films that screening is measured on" in " ".join(out.split())
    page = (place / "derived" / "index.html").read_text(encoding="utf-8")
    assert "<strong>The operating point of this checkpoint was chosen on all of the films that screening" in page


def test_films_are_known_by_their_pixels_in_another_folder_and_other_splits(place: Path) -> None:
    shutil.copytree(place / "data" / "phantom_smoke", place / "copy")
    words = ("data=course", "data.root=copy", "data.seed=5", "split=all", "hydra.run.dir=copied")
    out = call("evaluate.py", place, CKPT, "samples=20", *words)
    counts = {split: len(films) for split, films in digests(place).items()}
    these = load(place / "copied" / "metrics.json")["checkpoints"]["A"]["these_films"]
    assert (these["trained_on"], these["best_epoch_chosen_on"]) == (counts["train"], counts["val"])
    assert (these["operating_point_chosen_on"], these["new"]) == (counts["val"], counts["test"])
    assert f"this checkpoint was trained on {counts['train']}: the figures flatter it" in " ".join(out.split())


def test_nothing_flatters_on_all_films_of_a_data_set_that_the_checkpoint_never_saw(place: Path) -> None:
    drawn = (
        "data.val_fraction=0",
        "data.read.films=6",
        "data.read.test_films=2",
        "data.read.size=128",
        "data.read.seed=9",
    )
    words = ("data=phantom", "data.root=other_films", *drawn, "split=all", "hydra.run.dir=never_seen")
    out = call("evaluate.py", place, CKPT, "samples=20", *words)
    assert "flatter" not in out
    these = load(place / "never_seen" / "metrics.json")["checkpoints"]["A"]["these_films"]
    assert (these["films"], these["new"], these["operating_point_chosen_on"]) == (8, 8, 0)
    page = (place / "never_seen" / "index.html").read_text(encoding="utf-8")
    assert "none of these 8 films, and its operating point was chosen on none of them" in page


def digests(place: Path) -> dict[str, torch.Tensor]:
    """Return the digests of the films that the detector of all end-to-end tests was trained with."""
    content = torch.load(place / "run" / "checkpoints" / "best.ckpt", weights_only=True, map_location="cpu")
    return content["cxr"]["films"]  # type: ignore[no-any-return]


def test_a_checkpoint_without_digests_of_its_films_is_refused(place: Path) -> None:
    content = torch.load(place / "run" / "checkpoints" / "best.ckpt", weights_only=True, map_location="cpu")
    del content["cxr"]["films"]
    torch.save(content, place / "unknown.ckpt")
    out = call("evaluate.py", place, "ckpt=unknown.ckpt", "hydra.run.dir=unknown", code=2)
    assert "cxr.films is missing, expected a digest of each film" in " ".join(out.split())


def test_a_broken_film_is_named_and_the_others_are_evaluated(place: Path) -> None:
    shutil.copytree(place / "data" / "phantom_smoke", place / "broken")
    film = sorted((place / "broken" / "test").rglob("*.dcm"))[0]
    film.write_bytes(film.read_bytes()[:2000])
    words = ("data=course", "data.root=broken", "data.cache=other_cache", "hydra.run.dir=broken_run")
    out = call("evaluate.py", place, CKPT, FEW, *words)
    assert film.name in out
    metrics = load(place / "broken_run" / "metrics.json")["checkpoints"]["A"]
    assert metrics["films"] == metrics["these_films"]["new"] == 7
    page = (place / "broken_run" / "index.html").read_text(encoding="utf-8")
    assert "file 1: " in page  # the path is for the user who named the folder
    assert film.name not in page
    assert film.name not in (place / "broken_run" / "metrics.json").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["ckpt=/nowhere.ckpt"], "there is no such file"),
        ([f"{CKPT},/nowhere.ckpt"], "there is no such file"),
        ([f"{CKPT},b.ckpt,c.ckpt"], "expected one, or two to compare"),
        ([CKPT, "split=tset"], "expected one of train, val, test, all"),
        ([CKPT, "rule=iou60"], "expected iou50, iou40, centre"),
        ([CKPT, "language=de"], "expected one of en, zh"),
        ([CKPT, "findings=[fracture]"], "unknown finding 'fracture'"),
        ([CKPT, "screening.derive_on=train"], "expected null, val or test"),
        ([], "ckpt"),
    ],
)
def test_what_is_wrong_is_told(place: Path, words: list[str], message: str) -> None:
    out = call("evaluate.py", place, *words, code=2)
    assert message in " ".join(out.split())
    assert "Traceback" not in out
