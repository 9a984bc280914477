"""Training in two processes: what they find is what one process finds, and a kill costs nothing."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, distributed, multiprocessing

from cxr.detect.metrics import DetectionMetrics
from cxr.findings import FindingVocabulary

ROOT = Path(__file__).parents[1]
TWO = ["-m", "torch.distributed.run", "--nproc_per_node", "2"]
SMOKE = ["experiment=smoke", "data.val_fraction=0.2"]  # five films validate: the sixth of two processes is the first


def films(count: int) -> list[tuple[dict[str, Tensor], dict[str, Tensor]]]:
    """Return films with boxes of two findings, one in three normal, found with noise and false alarms."""
    rng = np.random.default_rng(3)
    made = []
    for index in range(count):
        corners = rng.uniform(0, 400, (0 if index % 3 == 2 else 2, 2))
        boxes = np.concatenate([corners, corners + 150], 1)
        labels = torch.arange(len(boxes)) % 2 + 1
        found = np.concatenate([boxes + rng.normal(0, 15, boxes.shape), np.array([[0.5, 0.5, 90.0, 80.0]])])
        scores = torch.from_numpy(rng.uniform(0, 1, len(found)).astype(np.float32))
        detection = {"boxes": tensor(found), "labels": torch.cat([labels, torch.ones(1).long()]), "scores": scores}
        made.append((detection, {"boxes": tensor(boxes), "labels": labels, "film": torch.tensor(index)}))
    return made


def tensor(boxes: np.ndarray[Any, Any]) -> Tensor:
    return torch.from_numpy(boxes.astype(np.float32)).reshape(-1, 4)


def figures(chosen: list[int]) -> dict[str, float]:
    """Return the figures of these of 7 films, in batches of two."""
    metrics = DetectionMetrics(FindingVocabulary([{"name": "heart"}, {"name": "spine"}]))
    for start in range(0, len(chosen), 2):
        batch = [films(7)[index] for index in chosen[start : start + 2]]
        metrics.update([found for found, _ in batch], [true for _, true in batch])
    return metrics.compute()


def in_a_process(rank: int, shares: list[list[int]], folder: Path) -> None:
    """Write the figures that one of the processes of ``shares`` computes."""
    torch.set_num_threads(1)
    address = f"file://{folder / 'rendezvous'}"
    distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=len(shares))
    (folder / f"{rank}.json").write_text(json.dumps(figures(shares[rank])))
    distributed.destroy_process_group()


def test_figures_of_two_processes_are_those_of_one(tmp_path: Path) -> None:
    shares = [[0, 2, 4, 6], [1, 3, 5, 0]]  # film 0 pads the second share and must not count twice
    multiprocessing.spawn(in_a_process, (shares, tmp_path), nprocs=2)
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    whole = figures(list(range(7)))
    assert 0.1 < whole["map"] < 0.9
    assert {"sensitivity@1fp", "image_auc", "false_positives_per_normal_film", "ap50/spine"} <= set(whole)
    assert first == second == whole
    assert figures([*range(7), 0]) == whole


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder to stand in; the first test draws its films."""
    return tmp_path_factory.mktemp("place")


def start(place: Path, before: list[str], *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *before, str(ROOT / "train.py"), *SMOKE, *words],
        cwd=place, env={**os.environ, "OMP_NUM_THREADS": "1"}, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def train(place: Path, before: list[str], *words: str) -> str:
    process = start(place, before, *words)
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0, out
    return out


def weights(run: Path) -> dict[str, Tensor]:
    return dict(torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"])


def metrics(run: Path) -> dict[str, float]:
    return dict(json.loads((run / "result.json").read_text(encoding="utf-8"))["metrics"])


LEARNING = ("trainer.max_epochs=4", "optimizer=adamw", "optimizer.lr=0.003")


@pytest.mark.slow
def test_two_processes_leave_what_one_leaves(place: Path) -> None:
    out = train(place, TWO, "trainer=ddp_cpu", "hydra.run.dir=two", *LEARNING)
    run = place / "two"
    assert out.count("Decoding films") == out.count("Drawing phantom films") == out.count("epoch 1 of 4 ") == 1
    assert "a step takes 8 films (4 × 2 devices × 1 accumulated batches)" in out
    assert len(list((place / ".cache" / "films").rglob("*.npy"))) == 32
    with (run / "metrics.csv").open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["0.0", "1.0", "2.0", "3.0"]
    assert len(json.loads((run / "provenance.json").read_text(encoding="utf-8"))) == 1
    assert "operating_point" in torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["cxr"]


@pytest.mark.slow
def test_validation_of_the_same_weights_is_that_of_one_process(place: Path) -> None:
    train(place, [], "hydra.run.dir=learned", "trainer.max_epochs=40", "optimizer=adamw", "optimizer.lr=0.002")
    learned = place / "learned" / "checkpoints" / "best.ckpt"
    same = ("optimizer=sgd", "optimizer.lr=0", f"model.weights={learned}")
    train(place, TWO, "trainer=ddp_cpu", "hydra.run.dir=as_two", *same)
    train(place, [], "trainer=default", "trainer.accelerator=cpu", "hydra.run.dir=as_one", *same)  # float32 as well
    one, two = metrics(place / "as_one"), metrics(place / "as_two")
    exact = {key for key in one if not key.startswith("train/") and "loss" not in key}
    assert {"val/map", "val/map_50", "val/sensitivity@1fp", "val/image_auc", "test/map_50"} <= exact
    assert one["val/map_50"] > 0
    assert {key: two[key] for key in exact} == pytest.approx({key: one[key] for key in exact}, abs=1e-6)


def killed_after(place: Path, ready: Callable[[], bool], *words: str) -> None:
    """Start two processes and end both, and torchrun, by ``kill -9`` as soon as ``ready``."""
    process = start(place, TWO, *words)
    deadline = time.monotonic() + 120
    while not ready():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    for number in (process.pid, *map(int, workers)):
        os.kill(number, signal.SIGKILL)
    process.communicate(timeout=60)


@pytest.mark.slow
def test_two_killed_processes_end_with_the_weights_of_undisturbed_ones(place: Path) -> None:
    words = ("trainer=ddp_cpu", "hydra.run.dir=killed", *LEARNING)
    run = place / "killed"
    killed_after(place, lambda: (run / "checkpoints" / "last.ckpt").exists(), *words)
    assert not (run / "result.json").exists()
    assert train(place, TWO, *words).count("resuming") == 1
    ours, theirs = weights(run), weights(place / "two")
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    assert metrics(run) == metrics(place / "two")


@pytest.mark.slow
def test_two_devices_without_torchrun_are_refused_with_what_to_type(place: Path) -> None:
    process = start(place, [], "trainer=ddp_cpu", "hydra.run.dir=alone")
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "type torchrun --nproc_per_node 2 train.py" in out


@pytest.mark.slow
def test_what_one_process_refuses_leaves_none_waiting(place: Path) -> None:
    process = start(place, TWO, "trainer=ddp_cpu", "hydra.run.dir=two", "optimizer.lr=0.5")
    out, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    assert out.count("holds a run with other settings") == 1


@pytest.mark.slow
def test_a_loss_that_is_lost_in_one_process_ends_both_in_words(place: Path) -> None:
    process = start(place, TWO, "trainer=ddp_cpu", "hydra.run.dir=lost", "optimizer.lr=1e30", "trainer.max_epochs=3")
    out, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    assert out.count("NonFiniteLossError: the loss is not finite") == 2
