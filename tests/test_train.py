"""End to end: the commands a user types, on phantom films small enough for seconds."""

import json
import re
import signal
import time
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from scripts import LEARNING, call, start, table

ONE_BATCH = [f"+trainer.limit_{split}_batches=1" for split in ("train", "val", "test")]

pytestmark = pytest.mark.slow


def train(place: Path, *words: str) -> str:
    return call("train.py", place, *words, "experiment=smoke")


def result(folder: Path) -> dict[str, object]:
    return dict(json.loads((folder / "result.json").read_text(encoding="utf-8")))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"])


def test_a_run_leaves_what_the_architecture_promises(place: Path) -> None:
    run = place / "run"
    assert result(run)["status"] == "completed"
    assert result(run)["monitor"] == "val/map_50"
    assert "experiment=smoke" in result(run)["overrides"]  # type: ignore[operator]
    rows = table(run / "metrics.csv")
    assert [row["epoch"] for row in rows] == [f"{epoch}.0" for epoch in range(10)]
    curves = EventAccumulator(str(run / "tensorboard")).Reload()
    for loss in ("loss", "loss_classifier", "loss_box_reg", "loss_objectness", "loss_rpn_box_reg"):
        for name in (f"train/{loss}", f"val/{loss}"):
            values = [float(row[name]) for row in rows]
            assert values == pytest.approx([point.value for point in curves.Scalars(name)], rel=1e-5)
    assert float(rows[9]["train/loss"]) < float(rows[0]["train/loss"])
    page = (run / "index.html").read_text(encoding="utf-8")
    assert page.count("data:image/jpeg;base64,") == 8  # a picture of each test film
    provenance = json.loads((run / "provenance.json").read_text(encoding="utf-8"))
    assert provenance[0]["seed"] == 0
    assert provenance[0]["films"]["test"] == 8
    best = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    assert best["cxr"]["config"]["optimizer"]["lr"] == 0.003
    assert best["cxr"]["findings"]["findings"][6]["chinese"] == "脊椎側彎"
    printed = (place / "printed.txt").read_text(encoding="utf-8")
    assert "false positives per normal film" in printed
    assert re.search(r"of epoch \d+ with the best val/map_50: \S+/run/checkpoints/best.ckpt\n", printed)  # on one line
    for path in (run / "index.html", *(run / "tensorboard").glob("events*")):  # a folder may be named after a patient
        assert b"phantom_smoke" not in path.read_bytes()


def test_a_completed_run_says_so_and_returns_its_score(place: Path) -> None:
    before = (place / "run" / "checkpoints" / "last.ckpt").stat().st_mtime_ns
    out = call("train.py", place, *LEARNING)
    assert "run is complete: val/map_50 = " in out
    assert (place / "run" / "checkpoints" / "last.ckpt").stat().st_mtime_ns == before


def test_a_killed_run_ends_with_the_same_weights_as_an_undisturbed_one(place: Path) -> None:
    words = ("name=killed", "trainer.max_epochs=3")
    job = start("train.py", place, *words, "experiment=smoke")
    deadline = time.monotonic() + 120
    while not list((place / "outputs" / "killed").glob("*/checkpoints/last.ckpt")):
        assert job.poll() is None, job.printed()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.3)  # into the next epoch
    job.send_signal(signal.SIGKILL)
    job.wait()
    (run,) = (place / "outputs" / "killed").iterdir()
    assert not (run / "result.json").exists()
    out = train(place, *words)  # the same command, and it finds its folder
    assert "resuming" in out
    assert "training: epochs 1 to" not in out
    assert [p.name for p in (place / "outputs" / "killed").iterdir()] == [run.name]
    assert [row["epoch"] for row in table(run / "metrics.csv")] == ["0.0", "1.0", "2.0"]

    train(place, "hydra.run.dir=undisturbed", *words)
    ours, theirs = weights(run), weights(place / "undisturbed")
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[k], theirs[k]) for k in ours)
    assert result(run)["metrics"] == result(place / "undisturbed")["metrics"]


def test_other_settings_do_not_resume_a_run(place: Path) -> None:
    (place / "undisturbed" / "result.json").unlink()
    words = ("hydra.run.dir=undisturbed", "name=killed", "optimizer.lr=0.5", "experiment=smoke")
    out = call("train.py", place, *words, code=2)
    assert "holds a run with other settings" in out
    assert "optimizer.lr: " in out
    assert "Traceback" not in out


def test_a_multirun_runs_every_combination(place: Path) -> None:
    train(place, "-m", "name=grid", "optimizer.lr=0.001,0.005", "trainer.max_epochs=1,2", *ONE_BATCH)
    results = sorted((place / "outputs" / "sweeps" / "grid").glob("*/result.json"))
    assert len(results) == 4
    epochs = [json.loads(r.read_text(encoding="utf-8"))["epochs"] for r in results]
    rates = [torch.load(r.parent / "checkpoints" / "last.ckpt")["cxr"]["config"]["optimizer"]["lr"] for r in results]
    assert sorted(zip(rates, epochs, strict=True)) == [(0.001, 1), (0.001, 2), (0.005, 1), (0.005, 2)]


def test_the_default_detector_starts_to_train(place: Path) -> None:
    few = ("data.batch_size=2", "data.size=64", *ONE_BATCH)
    train(place, "model=fasterrcnn", "optimizer.lr=0.005", "hydra.run.dir=resnet", *few)
    assert result(place / "resnet")["status"] == "completed"
    state = weights(place / "resnet")  # what a ResNet-50 has at its end, and no other backbone of conf/
    assert state["detector.backbone.body.layer4.2.conv3.weight"].shape == (2048, 512, 1, 1)
