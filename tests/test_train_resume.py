"""End to end: runs whose disk was full, whose files were damaged, or whose folder moved, end as undisturbed ones."""

import json
import os
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch

from scripts import call, start, table

FEW = ["+trainer.limit_train_batches=2", "+trainer.limit_val_batches=1", "+trainer.limit_test_batches=1"]
SMOKE = ["experiment=smoke", *FEW, "optimizer=adamw", "optimizer.lr=0.002", "name=resumed"]
THREE = [*SMOKE, "trainer.max_epochs=3"]

pytestmark = pytest.mark.slow


def train(place: Path, *words: str, code: int = 0, before: str = "") -> str:
    out = call("train.py", place, *words, code=code, before=before)
    assert "Traceback" not in out
    return out


@pytest.fixture(scope="module")
def place(place: Path) -> Path:
    """A folder with ``whole``, a run of three epochs, and ``two``, the same run after two of them."""
    train(place, *THREE, "hydra.run.dir=whole")
    train(place, *SMOKE, "trainer.max_epochs=2", "hydra.run.dir=two")
    return place


def copied(place: Path, name: str) -> Path:
    run = Path(shutil.copytree(place / "two", place / name))
    (run / "result.json").unlink()  # as if it had been killed in its third epoch
    return run


def same_as_whole(place: Path, run: Path) -> None:
    for name in ("last.ckpt", "best.ckpt"):
        ours, theirs = (
            torch.load(folder / "checkpoints" / name, weights_only=True)["state_dict"]
            for folder in (run, place / "whole")
        )
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours), name
    results = [json.loads((folder / "result.json").read_text())["metrics"] for folder in (run, place / "whole")]
    assert results[0] == results[1]
    assert [row["epoch"] for row in table(run / "metrics.csv")] == ["0.0", "1.0", "2.0"]


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", ["flipped", "torn", "empty"])
def test_a_damaged_last_checkpoint_costs_one_epoch_and_changes_nothing(place: Path, damage: str) -> None:
    run = copied(place, damage)
    last = run / "checkpoints" / "last.ckpt"
    if damage == "flipped":
        flip(last)
    else:
        os.truncate(last, 0 if damage == "empty" else last.stat().st_size // 2)
    out = train(place, *THREE, f"hydra.run.dir={damage}")
    assert "last.ckpt is not the file that was written there" in out
    assert f"Going on from the epoch before, {run / 'checkpoints' / 'previous.ckpt'}" in out
    assert "training: epochs 2 to 3" in out
    same_as_whole(place, run)
    assert (run / "checkpoints" / "last.ckpt.damaged").exists()


def test_a_torn_checkpoint_of_an_older_version_is_told_without_its_digest(place: Path) -> None:
    run = copied(place, "older")
    for path in (run / "checkpoints").glob("*.blake2b"):
        path.unlink()
    os.truncate(run / "checkpoints" / "last.ckpt", 1000)
    assert "last.ckpt cannot be read, it is damaged" in train(place, *THREE, "hydra.run.dir=older")
    same_as_whole(place, run)


def test_a_run_whose_checkpoints_are_all_damaged_is_refused(place: Path) -> None:
    run = copied(place, "lost")
    for name in ("last.ckpt", "previous.ckpt"):
        flip(run / "checkpoints" / name)
    with (run / "metrics.csv").open("a") as file:
        file.write("2.0" + "," * 30 + "\n")  # a third epoch
    before = {path: path.read_bytes() for path in run.glob("checkpoints/*")}
    out = train(place, *THREE, "hydra.run.dir=lost", code=2)
    assert "holds no checkpoint to go on from" in out
    assert before == {path: path.read_bytes() for path in run.glob("checkpoints/*")}


def test_a_damaged_checkpoint_of_the_first_epoch_begins_anew(place: Path) -> None:
    train(place, *SMOKE, "trainer.max_epochs=1", "hydra.run.dir=first")
    (place / "first" / "result.json").unlink()
    flip(place / "first" / "checkpoints" / "last.ckpt")
    assert "There is none before it: beginning anew" in train(place, *THREE, "hydra.run.dir=first")
    same_as_whole(place, place / "first")


def test_a_copied_and_a_moved_run_go_on_as_if_they_had_stayed(place: Path) -> None:
    copied(place, "here").rename(place / "there")
    assert "training: epochs 3 to 3" in train(place, *THREE, "hydra.run.dir=there")
    same_as_whole(place, place / "there")
    assert not (place / "here").exists()


def test_a_full_disk_in_training_is_one_message_and_the_same_command_goes_on(place: Path) -> None:
    """The limit of a file's size plays the full disk: writing a checkpoint fails where torch.save writes it."""
    limit = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
    limit += "resource.setrlimit(resource.RLIMIT_FSIZE, (5_000_000, resource.RLIM_INFINITY))"
    out = train(place, *THREE, "hydra.run.dir=full", code=1, before=limit)
    run = place / "full"
    assert f"{run / 'checkpoints' / 'best.ckpt'} could not be written" in out
    assert "The same command then goes on" in out
    assert json.loads((run / "failed.json").read_text())["error"] == "OSError"
    assert not list(run.rglob("*.part"))
    train(place, *THREE, "hydra.run.dir=full")
    same_as_whole(place, run)


LINGER = """
import time
from pathlib import Path
from lightning.pytorch import LightningModule
LightningModule.on_train_batch_end = lambda *_: (Path("stepped").touch(), time.sleep(100))
"""


def test_a_run_stopped_in_its_first_epoch_begins_anew_in_the_same_folder(place: Path) -> None:
    job = start("train.py", place, *THREE, "name=early", before=LINGER)
    deadline = time.monotonic() + 120
    while not (place / "stepped").exists():
        assert job.poll() is None, job.printed()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    job.send_signal(signal.SIGTERM)
    assert job.wait(60) == 143, job.printed()
    (run,) = (place / "outputs" / "early").iterdir()
    assert not list(run.glob("checkpoints/*"))
    assert f"the same command begins anew in {run}" in job.printed()
    assert "Traceback" not in job.printed()
    train(place, *THREE, "name=early")
    assert [path.name for path in (place / "outputs" / "early").iterdir()] == [run.name]
    same_as_whole(place, run)


def test_of_three_trainings_that_begin_at_once_one_ends_well(place: Path) -> None:
    jobs = [start("train.py", place, *THREE, "hydra.run.dir=one") for _ in range(3)]
    codes = sorted(job.wait() for job in jobs)
    out = "".join(job.printed() for job in jobs)
    assert codes in ([0, 2, 2], [0, 0, 2], [0, 0, 0]), out  # one may begin after it
    assert 2 in codes or "is complete" in out
    assert "Traceback" not in out
    assert {path.name for path in (place / "one" / ".hydra").iterdir()} == {
        "config.yaml",
        "hydra.yaml",
        "overrides.yaml",
    }
    same_as_whole(place, place / "one")


@pytest.mark.parametrize("name", ["result.json", "provenance.json", "command.json"])
def test_a_torn_file_of_a_run_is_told_with_what_to_do(place: Path, name: str) -> None:
    run = copied(place, f"torn_{name}")
    os.truncate(run / name, 5) if (run / name).exists() else (run / name).write_text('{"sta')
    out = train(place, *THREE, f"hydra.run.dir={run.name}", code=2)
    assert str(run / name) in out
    assert "emove" in out
