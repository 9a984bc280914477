"""End to end: sweeps of real training runs. How every launcher stands a kill is told in runs/test_sweep.py."""

import json
import re
import signal
import time
from pathlib import Path

import pytest
import torch

from scripts import call, start, table

RATES = ("0.001", "0.002", "0.003")
SMOKE = ["+trainer.limit_train_batches=2", "+trainer.limit_val_batches=1", "+trainer.limit_test_batches=1"]
SMOKE += ["experiment=smoke"]  # two steps: a loss that is not finite shows in the second

pytestmark = pytest.mark.slow


def train(place: Path, *words: str, code: int = 0) -> str:
    return call("train.py", place, *words, *SMOKE, code=code)


def checkpoints(sweep: Path) -> dict[str, int]:
    return {path.parent.parent.name: path.stat().st_mtime_ns for path in sweep.glob("*/checkpoints/best.ckpt")}


def test_a_killed_sweep_resumes_its_jobs_and_leaves_those_that_ended(place: Path) -> None:
    words = ("-m", "name=killed", f"optimizer.lr={','.join(RATES)}", "trainer.max_epochs=3")
    sweep = place / "outputs" / "sweeps" / "killed"
    process = start("train.py", place, *words, *SMOKE)
    deadline = time.monotonic() + 200
    while True:  # until a job has ended and another one has an epoch behind it
        ended = {path.parent.name: path.stat().st_mtime_ns for path in sweep.glob("*/result.json")}
        within = {path.parent.parent.name for path in sweep.glob("*/checkpoints/last.ckpt")} - ended.keys()
        if ended and within:
            break
        assert process.poll() is None, process.printed()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = {name: time_ns for name, time_ns in checkpoints(sweep).items() if name in ended}

    out = train(place, *words)
    assert "3 completed" in out
    printed = "".join(out.split())  # a path is broken over lines
    assert any(re.search(rf"resuming\S*{re.escape(name)}", printed) for name in within)
    assert len(list(sweep.glob("*/result.json"))) == 3
    for name, written in ended.items():
        assert (sweep / name / "result.json").stat().st_mtime_ns == written
    assert kept.items() <= checkpoints(sweep).items()
    for job in sweep.glob("*/metrics.csv"):
        assert [row["epoch"] for row in table(job)] == ["0.0", "1.0", "2.0"]
    sessions = [json.loads((job / "provenance.json").read_text()) for job in sweep.glob("optimizer*")]
    assert {len(of_job) for of_job in sessions} <= {1, 2}
    assert max(len(of_job) for of_job in sessions) == 2  # one at least was resumed


def test_a_rate_that_gives_nan_fails_alone_and_the_others_stay_when_it_is_mended(place: Path) -> None:
    out = train(place, "-m", "name=nan", "optimizer.lr=0.001,1e30", "trainer.max_epochs=1", code=1)
    assert "the loss is not finite at step" in out
    one_step = ("experiment=smoke", "optimizer.lr=1e30", "trainer.max_epochs=1", "+trainer.limit_train_batches=1")
    out = call("train.py", place, *one_step, code=1)  # no second step tells
    assert re.search(r"validation\s+loss\s+nan", out)
    before = checkpoints(place / "outputs" / "sweeps" / "nan")
    assert [name.split(",")[0] for name in before] == ["optimizer.lr=0.001"]
    train(place, "-m", "name=nan", "optimizer.lr=0.001,0.002", "trainer.max_epochs=1")
    after = checkpoints(place / "outputs" / "sweeps" / "nan")
    assert len(after) == 2
    assert before.items() <= after.items()


def test_the_command_of_a_studys_best_trial_gives_its_score_again(place: Path) -> None:
    out = train(place, "sweep=optuna", "hydra.sweeper.study.trials=2", "trainer.max_epochs=2")
    jobs = {p.parent: json.loads(p.read_text()) for p in place.glob("outputs/sweeps/optuna/*/result.json")}
    assert [job["status"] for job in jobs.values()] == ["completed"] * 2
    command = out.split("the best run again:")[1].strip().splitlines()[0].split("python train.py ")[1].split()
    call("train.py", place, *command, "hydra.run.dir=again")
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
