"""End to end: sweeps of real training runs that are killed, on every launcher, and go on."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
RATES = ("0.001", "0.002", "0.003")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder to stand in; its phantom films are drawn by the first test and used by all."""
    return tmp_path_factory.mktemp("place")


def start(place: Path, *words: str) -> subprocess.Popen[bytes]:
    # into a file: what a launcher leaves running would hold a pipe open
    with (place / "out.txt").open("wb") as out:
        return subprocess.Popen(
            [sys.executable, str(ROOT / "train.py"), *words, "experiment=smoke"],
            cwd=place, stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip


def train(place: Path, *words: str, rc: int = 0) -> str:
    code = start(place, *words).wait(timeout=300)
    out = (place / "out.txt").read_text(errors="replace")
    assert code == rc, out
    return out


def kill_all(place: Path) -> None:
    """Kill what stands in ``place``: jobs of submitit and Ray are no children of the command that began them."""
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (folder / "cwd").readlink() == place.resolve():
                os.kill(int(folder.name), signal.SIGKILL)


def checkpoints(sweep: Path) -> dict[str, int]:
    return {path.parent.parent.name: path.stat().st_mtime_ns for path in sweep.glob("*/checkpoints/best.ckpt")}


@pytest.mark.parametrize("launcher", ["basic", "cores", "local", "cluster"])
def test_a_killed_sweep_resumes_its_jobs_and_leaves_those_that_ended(place: Path, launcher: str) -> None:
    rates = f"optimizer.lr={','.join(RATES)}"
    words = ("-m", f"name={launcher}", f"hydra/launcher={launcher}", rates, "trainer.max_epochs=4")
    sweep = place / "outputs" / "sweeps" / launcher
    process = start(place, *words)
    deadline = time.monotonic() + 200
    while True:  # until a job has ended and another one has an epoch behind it
        ended = {path.parent.name: path.stat().st_mtime_ns for path in sweep.glob("*/result.json")}
        within = {path.parent.parent.name for path in sweep.glob("*/checkpoints/last.ckpt")} - ended.keys()
        if ended and within:
            break
        assert process.poll() is None, (place / "out.txt").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    kill_all(place)
    process.wait()
    kept = {name: time_ns for name, time_ns in checkpoints(sweep).items() if name in ended}

    out = train(place, *words)
    assert "3 completed" in out
    assert len(list(sweep.glob("*/result.json"))) == 3
    for name, written in ended.items():
        assert (sweep / name / "result.json").stat().st_mtime_ns == written
    assert kept.items() <= checkpoints(sweep).items()
    for job in sweep.glob("*/metrics.csv"):
        with job.open() as file:
            assert [row["epoch"] for row in csv.DictReader(file)] == ["0.0", "1.0", "2.0", "3.0"]
    sessions = [json.loads((job / "provenance.json").read_text()) for job in sweep.glob("optimizer*")]
    assert {len(of_job) for of_job in sessions} <= {1, 2}
    assert max(len(of_job) for of_job in sessions) == 2  # one at least was resumed


def test_a_rate_that_gives_nan_fails_alone_and_the_others_stay_when_it_is_mended(place: Path) -> None:
    out = train(place, "-m", "name=nan", "optimizer.lr=0.001,1e30", "trainer.max_epochs=1", rc=1)
    assert "the loss is not finite at step" in out
    before = checkpoints(place / "outputs" / "sweeps" / "nan")
    assert list(before) == ["optimizer.lr=0.001,trainer.max_epochs=1,experiment=smoke"]
    train(place, "-m", "name=nan", "optimizer.lr=0.001,0.002", "trainer.max_epochs=1")
    after = checkpoints(place / "outputs" / "sweeps" / "nan")
    assert len(after) == 2
    assert before.items() <= after.items()


def test_the_command_of_a_studys_best_trial_gives_its_score_again(place: Path) -> None:
    out = train(place, "sweep=optuna", "hydra.sweeper.study.trials=2", "trainer.max_epochs=2")
    jobs = {p.parent: json.loads(p.read_text()) for p in place.glob("outputs/sweeps/optuna/*/result.json")}
    assert [job["status"] for job in jobs.values()] == ["completed"] * 2
    command = out.split("the best run again:")[1].strip().splitlines()[0].split("python train.py ")[1].split()
    train(place, *[word for word in command if word != "experiment=smoke"], "hydra.run.dir=again")
    again = json.loads((place / "again" / "result.json").read_text())
    (best,) = (
        folder for folder, job in jobs.items() if {*again["overrides"]} == {*job["overrides"]} - {"sweep=optuna"}
    )
    assert again["score"] == max(job["score"] for job in jobs.values())
    assert again["metrics"] == jobs[best]["metrics"]
    ours, theirs = (
        torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for folder in (best, place / "again")
    )
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
