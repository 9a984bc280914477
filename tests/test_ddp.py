"""Training in two processes: what they find is what one process finds, and a kill costs nothing."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, distributed, multiprocessing

from cxr.detect.image_head import with_image_scores
from cxr.detect.metrics import DetectionMetrics
from cxr.findings import FindingVocabulary
from scripts import ROOT, Job, call, start, table

LEARNING = ("trainer.max_epochs=3", "optimizer=adamw", "optimizer.lr=0.003")
SMOKE = ["experiment=smoke", "data.val_fraction=0.2"]  # five films validate: the sixth of two processes is the first


def films(count: int) -> list[tuple[dict[str, Tensor], dict[str, Tensor]]]:
    """Return films with boxes of two findings, one in three normal, found with noise and false alarms."""
    rng = np.random.default_rng(3)
    made = []
    for index in range(count):
        corners = rng.uniform(0, 400, (0 if index % 3 == 2 else 2, 2))
        boxes = np.concatenate([corners, corners + 150], 1)
        labels = torch.arange(len(boxes)) % 2 + 1
        places = np.concatenate([boxes + rng.normal(0, 15, boxes.shape), np.array([[0.5, 0.5, 90.0, 80.0]])])
        scores = torch.from_numpy(rng.uniform(0, 1, len(places)).astype(np.float32))
        boxes_found = {"boxes": tensor(places), "labels": torch.cat([labels, torch.ones(1).long()]), "scores": scores}
        detection = with_image_scores(boxes_found, 2, None, 0.0, 0.0)
        made.append((detection, {"boxes": tensor(boxes), "labels": labels, "film": torch.tensor(index)}))
    return made


def tensor(boxes: np.ndarray[Any, Any]) -> Tensor:
    return torch.from_numpy(boxes.astype(np.float32)).reshape(-1, 4)


def figures(chosen: list[int]) -> dict[str, float]:
    """Return the figures of these of 7 films, in batches of two."""
    metrics = DetectionMetrics(FindingVocabulary([{"name": "heart"}, {"name": "spine"}]))
    for begin in range(0, len(chosen), 2):
        batch = [films(7)[index] for index in chosen[begin : begin + 2]]
        metrics.update([detections for detections, _ in batch], [true for _, true in batch])
    return metrics.compute()


def in_a_process(rank: int, shares: list[list[int]], folder: Path) -> None:
    """Write the figures that one of the processes of ``shares`` computes."""
    torch.set_num_threads(1)
    address = f"file://{folder / 'rendezvous'}"
    distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=len(shares))
    (folder / f"{rank}.json").write_text(json.dumps(figures(shares[rank])))
    distributed.destroy_process_group()


@pytest.mark.slow
def test_figures_of_two_processes_are_those_of_one(tmp_path: Path) -> None:
    shares = [[0, 2, 4, 6], [1, 3, 5, 0]]  # film 0 pads the second share and must not count twice
    multiprocessing.spawn(in_a_process, (shares, tmp_path), nprocs=2)
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    whole = figures(list(range(7)))
    assert 0.1 < whole["map"] < 0.9
    assert {"sensitivity@1fp", "image_auc", "false_positives_per_normal_film", "ap50/spine"} <= set(whole)
    assert first == second == whole
    assert figures([*range(7), 0]) == whole


def torchrun(place: Path, *words: str) -> tuple[int, str]:
    """Return the exit code of two processes as a user begins them, and what they print."""
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", str(ROOT / "train.py"), *words],
        cwd=place, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=300, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    return done.returncode, done.stdout


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``two``, a run of two processes that drew the films as well."""
    folder = tmp_path_factory.mktemp("place")
    code, out = torchrun(folder, *SMOKE, "trainer=ddp_cpu", "hydra.run.dir=two", *LEARNING)
    assert code == 0, out
    (folder / "printed.txt").write_text(out, encoding="utf-8")
    return folder


def start_two(place: Path, *words: str) -> list[Job]:
    """Begin two processes with what torchrun tells those that it begins."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    environment = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "GROUP_RANK": "0", "TORCHELASTIC_RUN_ID": "none"}
    environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return [
        start("train.py", place, *SMOKE, "trainer=ddp_cpu", *words, **environment, RANK=rank, LOCAL_RANK=rank)
        for rank in ("0", "1")
    ]


def train_two(place: Path, *words: str) -> str:
    jobs = start_two(place, *words)
    assert [job.wait() for job in jobs] == [0, 0], [job.printed() for job in jobs]
    return "".join(job.printed() for job in jobs)


def weights(run: Path) -> dict[str, Tensor]:
    return dict(torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"])


def metrics(run: Path) -> dict[str, float]:
    return dict(json.loads((run / "result.json").read_text(encoding="utf-8"))["metrics"])


@pytest.mark.slow
def test_two_processes_leave_what_one_leaves(place: Path) -> None:
    out = (place / "printed.txt").read_text(encoding="utf-8")
    run = place / "two"
    assert out.count("Decoding films") == out.count("Drawing phantom films") == out.count("epoch 1 of 3 ") == 1
    assert "a step takes 8 films (4 × 2 devices × 1 accumulated batches)" in out
    assert len(list((place / ".cache" / "films").rglob("*.npy"))) == 32
    assert [row["epoch"] for row in table(run / "metrics.csv")] == ["0.0", "1.0", "2.0"]
    assert len(json.loads((run / "provenance.json").read_text(encoding="utf-8"))) == 1
    assert "operating_point" in torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["cxr"]


@pytest.mark.slow
def test_validation_of_the_same_weights_is_that_of_one_process(place: Path, learned: Path) -> None:
    same = ("optimizer=sgd", "optimizer.lr=0", f"model.weights={learned / 'run' / 'checkpoints' / 'best.ckpt'}")
    train_two(place, "hydra.run.dir=as_two", *same)
    alone = ("trainer=default", "trainer.accelerator=cpu", "hydra.run.dir=as_one")  # float32 as well
    call("train.py", place, *SMOKE, *alone, *same)
    one, two = metrics(place / "as_one"), metrics(place / "as_two")
    exact = {key for key in one if not key.startswith("train/") and "loss" not in key}
    assert {"val/map", "val/map_50", "val/sensitivity@1fp", "val/image_auc", "test/map_50"} <= exact
    assert one["val/map_50"] > 0
    assert {key: two[key] for key in exact} == pytest.approx({key: one[key] for key in exact}, abs=1e-6)


@pytest.mark.slow
def test_two_killed_processes_end_with_the_weights_of_undisturbed_ones(place: Path) -> None:
    run = place / "killed"
    jobs = start_two(place, "hydra.run.dir=killed", *LEARNING)
    deadline = time.monotonic() + 120
    while not (run / "checkpoints" / "last.ckpt").exists():
        assert {job.poll() for job in jobs} == {None}, [job.printed() for job in jobs]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    for job in jobs:
        job.send_signal(signal.SIGKILL)
    assert {job.wait() for job in jobs} == {-signal.SIGKILL}
    assert not (run / "result.json").exists()
    assert train_two(place, "hydra.run.dir=killed", *LEARNING).count("resuming") == 1
    ours, theirs = weights(run), weights(place / "two")
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    assert metrics(run) == metrics(place / "two")


@pytest.mark.slow
def test_two_devices_without_torchrun_are_refused_with_what_to_type(place: Path) -> None:
    out = call("train.py", place, *SMOKE, "trainer=ddp_cpu", "hydra.run.dir=alone", code=2)
    assert "type torchrun --nproc_per_node 2 train.py" in out


@pytest.mark.slow
def test_what_one_process_refuses_leaves_none_waiting(place: Path) -> None:
    code, out = torchrun(place, *SMOKE, "trainer=ddp_cpu", "hydra.run.dir=two", "optimizer.lr=0.5")
    assert code != 0
    assert out.count("holds a run with other settings") == 1


@pytest.mark.slow
def test_a_loss_that_is_lost_in_one_process_ends_both_in_words(place: Path) -> None:
    jobs = start_two(place, "hydra.run.dir=lost", "optimizer.lr=1e30", "trainer.max_epochs=3")
    assert 0 not in [job.wait(60) for job in jobs]
    out = "".join(job.printed() for job in jobs)
    assert out.count("NonFiniteLossError: the loss is not finite") == 2
