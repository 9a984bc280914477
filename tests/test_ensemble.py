"""End to end: a sweep over folds that evaluate.py, predict.py and explain.py take for one detector."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from scripts import call, table

pytestmark = pytest.mark.slow

SWEEP = "outputs/sweeps/folds"
TRAIN = ("-m", "experiment=smoke", "name=folds", "data.folds=2", "data.fold=0,1", "trainer.max_epochs=6")
TRAIN += ("optimizer=adamw", "optimizer.lr=0.003", "trainer.precision=32-true")


def load(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def folds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with drawn films, a sweep of two folds on them, and its out-of-fold evaluation in ``judged``."""
    place = tmp_path_factory.mktemp("folds")
    call("train.py", place, *TRAIN)
    printed = call("evaluate.py", place, f"ckpt={SWEEP}", "split=out_of_fold", "samples=50", "hydra.run.dir=judged")
    (place / "printed.txt").write_text(printed, encoding="utf-8")
    return place


@pytest.fixture
def changed(folds: Path) -> Iterator[Path]:
    """The checkpoint of the first fold, which a test may change; it is as before afterwards."""
    checkpoint = sorted((folds / SWEEP).glob("*/checkpoints/best.ckpt"))[0]
    before = {path: path.read_bytes() for path in checkpoint.parent.iterdir()}
    yield checkpoint
    for path, content in before.items():
        path.write_bytes(content)


def test_each_film_that_is_not_for_testing_is_judged_once_by_what_did_not_see_it(folds: Path) -> None:
    metrics = load(folds / "judged" / "metrics.json")["checkpoints"]["A"]
    jobs = sorted((folds / SWEEP).glob("*/checkpoints/best.ckpt"))
    cards = [torch.load(job, weights_only=True)["cxr"]["films"] for job in jobs]
    judged = torch.cat([card["val"] for card in cards])
    assert metrics["films"] == len(judged) == len(judged.unique()) == 24
    assert [fold["films"] for fold in metrics["folds"]] == [len(card["val"]) for card in cards]
    assert metrics["these_films"]["trained_on"] == 0
    assert metrics["these_films"]["best_epoch_chosen_on"] == 24
    assert metrics["box_calibration_error"]["after"] <= metrics["box_calibration_error"]["before"]
    printed = (folds / "printed.txt").read_text(encoding="utf-8")
    assert "Fold by fold" in printed
    assert "±" in (folds / "judged" / "index.html").read_text(encoding="utf-8")


def test_the_folder_is_then_one_detector_with_the_point_these_films_chose(folds: Path) -> None:
    (frozen,) = load(folds / SWEEP / "ensemble.json")["chosen"]
    assert frozen["operating_point"]["films"] == 24
    call("evaluate.py", folds, f"ckpt={SWEEP}", "samples=50", "hydra.run.dir=together")
    screening = load(folds / "together" / "screening.json")["A"]
    assert screening["operating_point"]["threshold"] == frozen["operating_point"]["threshold"]
    assert screening["from"].startswith("frozen for the sweep")
    these = load(folds / "together" / "metrics.json")["checkpoints"]["A"]["these_films"]
    assert (these["films"], these["new"]) == (8, 8)


def test_an_ensemble_is_compared_with_one_of_its_members(folds: Path) -> None:
    member = sorted((folds / SWEEP).glob("*/checkpoints/best.ckpt"))[0].relative_to(folds)
    out = call("evaluate.py", folds, f"ckpt={SWEEP},{member}", "samples=20", "hydra.run.dir=compared")
    assert "B exceeds A by" in out


def test_predictions_clear_films_by_that_point_and_say_how_far_the_members_disagree(folds: Path) -> None:
    images = "images=data/phantom_smoke/test/image"
    call("predict.py", folds, f"ckpt={SWEEP}", images, "views=1", "pictures=true", "hydra.run.dir=predicted")
    threshold = load(folds / SWEEP / "ensemble.json")["chosen"][0]["operating_point"]["threshold"]
    films = table(folds / "predicted" / "films.csv")
    assert len(films) == 8
    for film in films:
        assert film["cleared"] == ("yes" if float(film["abnormal"]) < threshold else "no")
    boxes = table(folds / "predicted" / "detections.csv")
    assert boxes
    assert all(0 <= float(box["disagreement"]) <= 1 for box in boxes)
    assert {"disagreement"} <= set(load(folds / "predicted" / "detections.json")[0])
    out = call("predict.py", folds, f"ckpt={SWEEP}", images, "views=2", "hydra.run.dir=more_views")
    assert "no operating point was chosen for these views" in " ".join(out.split())
    assert {film["cleared"] for film in table(folds / "more_views" / "films.csv")} == {""}


def test_promises_are_kept_with_the_sweep_and_refused_with_the_number_of_patients_they_take(folds: Path) -> None:
    promises = load(folds / SWEEP / "ensemble.json")["chosen"][0]["promises"]
    assert (promises["split"], promises["films"]) == ("out-of-fold", 24)
    reached = load(folds / "judged" / "metrics.json")["checkpoints"]["A"]["promises"]
    assert {one["of"] for one in reached} == {*promises["findings"], "screening", "false_boxes"}
    assert "What is promised, and what these films gave" in (folds / "judged" / "index.html").read_text("utf-8")
    words = ("images=data/phantom_smoke/test/image", "hydra.run.dir=promised_nothing")
    out = call("predict.py", folds, f"ckpt={SWEEP}", *words, "threshold={risk: 0.01}", code=2)
    assert "99 are needed" in " ".join(out.split())


def test_a_promise_decides_what_is_shown_and_put_aside_and_is_said(folds: Path) -> None:
    path = folds / SWEEP / "ensemble.json"
    before = path.read_text("utf-8")
    content = json.loads(before)
    promises = content["chosen"][0]["promises"]
    for kept in promises["findings"].values():
        kept[3] = {"level": 0.1, "threshold": 0.001, "patients": 30, "risk": 0.05, "needed": None}
    first = next(iter(promises["findings"]))
    promises["findings"][first][3] = {"level": 0.1, "threshold": None, "patients": 4, "risk": 0.0, "needed": 9}
    promises["screening"][3] = {"level": 0.1, "threshold": None, "patients": 4, "risk": 0.0, "needed": 9}
    promises["points"][3] = None
    path.write_text(json.dumps(content), "utf-8")
    words = ("images=data/phantom_smoke/test/image", "threshold=risk", "hydra.run.dir=promised")
    out = " ".join(call("predict.py", folds, f"ckpt={SWEEP}", *words).split())
    path.write_text(before, "utf-8")
    assert "at most 10 % are missed" in out
    assert f"No promise for {first.replace('_', ' ')}: 4 patients, 9 are needed" in out
    assert {film["cleared"] for film in table(folds / "promised" / "films.csv")} == {""}
    rows = {row["of"]: row["threshold"] for row in table(folds / "promised" / "promises.csv")}
    assert (rows.pop(first), rows.pop("screening"), set(rows.values())) == ("", "", {"0.001"})
    said = load(folds / "promised" / "result.json")["algorithm"]
    assert any("of several that answer as one it is not proven" in line for line in said)


def test_the_runs_of_two_arms_are_compared_each_by_itself(folds: Path) -> None:
    runs = sorted((folds / SWEEP).glob("*/checkpoints/best.ckpt"))
    for number in (1, 2):
        shutil.copy(runs[0], folds / f"run{number}.ckpt")
    arms = f"ckpt=[['{runs[0].relative_to(folds)}','run1.ckpt'],['{runs[1].relative_to(folds)}','run2.ckpt']]"
    call("evaluate.py", folds, arms, "arms=true", "samples=20", "margin=0.05", "hydra.run.dir=arms")
    metrics = load(folds / "arms" / "metrics.json")
    ap50 = metrics["comparison"]["ap50"]
    assert (ap50["margin"], [len(arm) for arm in ap50["runs"]]) == (0.05, [2, 2])
    means = [sum(arm) / 2 for arm in ap50["runs"]]
    assert metrics["second_over_first"]["ap50"]["value"] == pytest.approx(means[1] - means[0])
    assert ap50["runs"][0][0] == ap50["runs"][0][1]  # the same run twice, in two files
    assert "Run by run" in (folds / "arms" / "index.html").read_text("utf-8")
    out = call("evaluate.py", folds, f"ckpt={SWEEP},{SWEEP}", "arms=true", "hydra.run.dir=same", code=2)
    assert "is named twice, expected each run once" in " ".join(out.split())


def test_explanations_are_the_means_of_the_members(folds: Path) -> None:
    words = ("films=2", "cam=gradcam", "faithfulness=false", "sanity_films=0", "samples=20", "hydra.run.dir=explained")
    call("explain.py", folds, f"ckpt={SWEEP}", *words)
    records = [load(path) for path in (folds / "explained").glob("films/*/film.json")]
    boxes = [box for record in records for box in record["boxes"]]
    assert boxes
    assert all(0 <= box["disagreement"] <= 1 for box in boxes)
    assert "members disagree" in (folds / "explained" / "index.html").read_text(encoding="utf-8")


def test_a_film_sneaked_into_a_training_is_not_judged(folds: Path, changed: Path) -> None:
    content = torch.load(changed, weights_only=True)
    known = content["cxr"]["films"]
    known["train"] = torch.cat([known["train"], known["val"][:1]]).sort().values
    torch.save(content, changed)
    changed.with_name("best.ckpt.blake2b").unlink()
    out = call("evaluate.py", folds, f"ckpt={SWEEP}", "split=out_of_fold", "hydra.run.dir=sneaked", code=2)
    assert "which it would have to judge; refused" in " ".join(out.split())


def test_a_changed_member_makes_the_frozen_choices_stale(folds: Path, changed: Path) -> None:
    content = torch.load(changed, weights_only=True)
    torch.save(content | {"epoch": 99}, changed)
    changed.with_name("best.ckpt.blake2b").unlink()
    words = ("images=data/phantom_smoke/test/image", "hydra.run.dir=stale")
    out = call("predict.py", folds, f"ckpt={SWEEP}", *words, code=2)
    assert "was chosen for other checkpoints" in " ".join(out.split())


def test_a_sweep_with_an_open_end_is_refused(folds: Path) -> None:
    shutil.copytree(folds / SWEEP, folds / "open")
    job = sorted((folds / "open").glob("*/result.json"))[0]
    job.unlink()
    out = call("evaluate.py", folds, "ckpt=open", "hydra.run.dir=cut_off", code=2)
    assert f"1 of 2 jobs did not complete: {job.parent.name} (interrupted)" in " ".join(out.split())
