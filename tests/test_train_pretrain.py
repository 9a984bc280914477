"""End to end: a backbone from films nobody marked, and a detector that starts from it."""

import json
import signal
import time
from pathlib import Path

import pytest
import torch

from cxr.learn.torch_file import read_state
from scripts import call, start

pytestmark = pytest.mark.slow

SMALL = ("trainer=cpu", "trainer.precision=32-true", "data.size=64", "data.batch_size=4", "optimizer=adamw")
MARKED = ("data@data.marked=phantom", "data.marked.root=data/phantom_smoke", "data.marked.read.films=24")
MARKED += ("data.marked.read.test_films=8", "data.marked.read.size=256")
PRETRAIN = ("experiment=pretrain", "data.root=data/phantom_smoke", *MARKED, *SMALL, "trainer.max_epochs=2")


@pytest.fixture(scope="module")
def pretrained(place: Path) -> Path:
    """The folder of an undisturbed pretraining, in ``place``."""
    printed = call("train.py", place, *PRETRAIN, "hydra.run.dir=pretrained")
    assert "films are left out" in printed
    return place / "pretrained"


def test_a_detector_learns_from_a_pretrained_backbone_and_is_evaluated(place: Path, pretrained: Path) -> None:
    folder = pretrained
    card = json.loads((folder / "backbone.json").read_text(encoding="utf-8"))
    assert (card["size"], card["epochs"], card["kind"]) == (64, 2, "radiograph")
    assert card["left_out"] >= 8  # the test films and those that validate
    assert 10 <= sum(card["films"].values()) <= 24  # each once, though the layout holds a copy for each finding
    assert "phantom_smoke" not in json.dumps(card)
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    assert result["metrics"]["val/spread"] > 0
    assert "val/probe_auc" in result["metrics"]
    assert "data:image/jpeg" in (folder / "index.html").read_text(encoding="utf-8")

    words = ("experiment=smoke", "hydra.run.dir=detector", "data.size=64", "trainer.precision=32-true")
    words += ("model.backbone.weights=pretrained/backbone.pth", "optimizer.lr=1e-12")
    call("train.py", place, *words)
    state = read_state(place / "detector" / "checkpoints" / "best.ckpt")
    for name, value in read_state(folder / "backbone.pth").items():
        torch.testing.assert_close(state[name.replace("pyramid.", "detector.backbone.")], value, rtol=0, atol=1e-6)
    (folder / "backbone.pth").rename(folder / "moved.pth")  # a checkpoint holds its weights itself
    call("evaluate.py", place, "ckpt=detector/checkpoints/best.ckpt", "hydra.run.dir=evaluated", "samples=10")
    assert (place / "evaluated" / "metrics.json").exists()


def test_a_killed_pretraining_ends_with_the_same_weights(place: Path, pretrained: Path) -> None:
    job = start("train.py", place, *PRETRAIN, "hydra.run.dir=killed")
    deadline = time.monotonic() + 120
    while not (place / "killed" / "checkpoints" / "last.ckpt").exists():
        assert job.poll() is None, job.said()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    job.send_signal(signal.SIGKILL)
    job.wait()
    assert "resuming" in call("train.py", place, *PRETRAIN, "hydra.run.dir=killed")
    ours, theirs = (torch.load(run / "checkpoints" / "last.ckpt") for run in (place / "killed", pretrained))
    torch.testing.assert_close(ours["state_dict"], theirs["state_dict"], rtol=0, atol=0)
    assert ours["probe"] == theirs["probe"]
