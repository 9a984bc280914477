"""Sweeps that are killed, fail in part, and go on: by the real command line and launchers, with jobs of no weight.

The job that stands in for train.py keeps to its contract of files (command.json, result.json) and nothing else, so that
a sweep takes a second. One sweep trains on a cluster; those of test_train_sweep.py train in one process, those of
test_wheel.py with the other launchers.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from cxr.config import run_files
from cxr.config.errors import explain
from cxr.read.workers import usable_cores
from scripts import ROOT, call, table

pytestmark = pytest.mark.slow  # real command lines, some of them killed

STAND_IN = """
import json, os, signal, sys, time
from pathlib import Path
sys.path.insert(0, {root!r})
from hydra.core.hydra_config import HydraConfig
from cxr.config import run_files
from cxr.config.check import check
from cxr.config.entry import entry, resolved
from cxr.files import write_json
from cxr.read.workers import usable_cores

@entry("train")
def main(cfg):
    check(cfg)
    folder, here = Path(cfg.run_dir), Path({here!r})
    overrides = list(HydraConfig.get().overrides.task)
    write_json(folder / run_files.COMMAND, {{"overrides": overrides, "config": resolved(cfg)}})
    with (here / "begun.txt").open("a") as log:
        log.write(f"{{cfg.optimizer.lr}} {{cfg.seed}} {{os.environ.get('OMP_NUM_THREADS')}}\\n")
    if (here / f"kill {{cfg.optimizer.lr}}").exists():
        (here / f"kill {{cfg.optimizer.lr}}").unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    if (here / f"hold {{cfg.optimizer.lr}}").exists():
        (here / "held").touch()
        time.sleep(100)
    if (here / f"fail {{cfg.optimizer.lr}}").exists():
        raise FloatingPointError("the loss is not finite")
    if (here / f"memory {{cfg.optimizer.lr}}").exists():
        raise MemoryError("cannot allocate 9 GiB")
    score = -cfg.optimizer.lr + cfg.seed
    write_json(folder / run_files.RESULT, {{
        "status": "completed", "monitor": cfg.monitor, "score": score, "metrics": {{}}, "overrides": overrides,
        "epochs": cfg.trainer.max_epochs, "max_epochs": cfg.trainer.max_epochs, "seconds": 1.0}})
    return score

if __name__ == "__main__":
    main()
"""
RATES = "optimizer.lr=0.1,0.2,0.3,0.4"

UNLIMITED = "import os; os.environ.pop('OMP_NUM_THREADS')"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "job.py").write_text(STAND_IN.format(root=str(ROOT), here=str(tmp_path)))
    return tmp_path


def sweep(place: Path, *words: str, rc: int = 0, before: str = "") -> str:
    return call(str(place / "job.py"), place, *words, code=rc, before=before)


def begun(place: Path) -> list[str]:
    """The learning rates of the jobs that were begun, in their order."""
    return [line.split()[0] for line in (place / "begun.txt").read_text().splitlines()]


def results(place: Path, name: str = "cxr") -> dict[str, int]:
    """Folder name → when its result was written."""
    folder = place / "outputs" / "sweeps" / name
    return {path.parent.name: path.stat().st_mtime_ns for path in folder.glob("*/result.json")}


def test_a_sweep_killed_in_its_third_job_goes_on_there(place: Path) -> None:
    (place / "kill 0.3").touch()
    sweep(place, "-m", RATES, rc=-signal.SIGKILL)
    before = results(place)
    assert sorted(before) == ["optimizer.lr=0.1", "optimizer.lr=0.2"]
    out = sweep(place, "-m", RATES)
    after = results(place)
    assert len(after) == 4
    assert before.items() <= after.items()
    assert begun(place) == ["0.1", "0.2", "0.3", "0.3", "0.4"]
    assert "4 completed" in out
    sweep(place, "-m", RATES)
    assert results(place) == after
    assert len(begun(place)) == 5


def kill_all(place: Path) -> None:
    """Kill what stands in ``place``: jobs of submitit and Ray are no children of the command that began them."""
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (folder / "cwd").readlink() == place.resolve():
                os.kill(int(folder.name), signal.SIGKILL)


@pytest.mark.parametrize("launcher", ["cores", "local", "cluster"])
def test_a_killed_sweep_begins_again_what_did_not_end_and_leaves_the_rest(place: Path, launcher: str) -> None:
    words = ("-m", "optimizer.lr=0.1,0.2,0.3", f"hydra/launcher={launcher}")
    (place / "hold 0.2").touch()
    with (place / "out.txt").open("wb") as out:  # what a launcher leaves running would hold a pipe open
        process = subprocess.Popen([sys.executable, "job.py", *words], cwd=place, stdout=out, stderr=subprocess.STDOUT)
    deadline = time.monotonic() + 100
    while not ((place / "held").exists() and results(place)):
        assert process.poll() is None, (place / "out.txt").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    kill_all(place)
    process.wait()
    ended = results(place)
    assert "optimizer.lr=0.2" not in ended
    (place / "hold 0.2").unlink()
    assert "3 completed" in sweep(place, *words)
    assert len(results(place)) == 3
    assert ended.items() <= results(place).items()
    assert begun(place).count("0.2") == 2
    assert all(begun(place).count(name.split("=")[1]) == 1 for name in ended)


def test_a_training_runs_on_a_cluster(learned: Path, tmp_path: Path) -> None:
    (tmp_path / "data").symlink_to(learned / "data")
    few = [f"+trainer.limit_{split}_batches=1" for split in ("train", "val", "test")]
    out = call("train.py", tmp_path, "-m", "name=cluster", "hydra/launcher=cluster", "experiment=smoke", "seed=1", *few)
    assert "1 jobs, 1 completed" in out
    (job,) = tmp_path.glob("outputs/sweeps/cluster/*/result.json")
    assert json.loads(job.read_text(encoding="utf-8"))["status"] == "completed"


def test_a_job_that_fails_stops_none_and_is_named_with_its_reason(place: Path) -> None:
    (place / "fail 0.2").touch()
    (place / "memory 0.4").touch()
    out = sweep(place, "-m", RATES, rc=1)
    assert len(results(place)) == 2
    assert "failed: the loss is not finite" in out
    assert "out of memory: lower data.batch_size or data.size" in out
    assert "Traceback" not in out
    assert "2 of 4 jobs did not complete" in out

    (place / "memory 0.4").unlink()
    sweep(place, "-m", RATES, "hydra.sweeper.retry=false", rc=1)
    assert len(begun(place)) == 4
    (place / "fail 0.2").unlink()  # the fix
    sweep(place, "-m", RATES)
    assert begun(place)[4:] == ["0.2", "0.4"]
    assert len(results(place)) == 4


@pytest.mark.parametrize("launcher", ["cores", "cluster"])
def test_a_job_that_dies_takes_no_other_along(place: Path, launcher: str) -> None:
    (place / "kill 0.2").touch()
    sweep(place, "-m", "optimizer.lr=0.1,0.2,0.3", f"hydra/launcher={launcher}")
    assert len(results(place)) == 3  # killed once, it ran when it was alone


@pytest.mark.parametrize("launcher", ["cores", "local"])
def test_jobs_at_once_share_the_cores(place: Path, launcher: str) -> None:
    rates = ",".join(str(rate) for rate in range(1, 2 * usable_cores() + 1))
    width = {"cores": "hydra.launcher.n_jobs=2", "local": "hydra.sweeper.max_batch_size=2"}[launcher]
    sweep(place, "-m", f"optimizer.lr={rates}", f"hydra/launcher={launcher}", width, before=UNLIMITED)
    given = {line.split()[2] for line in (place / "begun.txt").read_text().splitlines()}
    assert given == {str(max(1, usable_cores() // 2))}


def test_every_job_is_checked_before_the_first_begins(place: Path) -> None:
    out = sweep(place, "-m", "optimizer.lr=0.1,fast", rc=2)
    assert "optimizer.lr=fast: " in out
    assert "Traceback" not in out
    assert not (place / "begun.txt").exists()
    out = sweep(place, "-m", RATES, "trainer.devices=2", rc=2)
    assert "trainer.devices is 2 in a sweep, expected 1" in out
    assert not (place / "begun.txt").exists()


def test_a_completed_job_is_begun_again_for_more_epochs(place: Path) -> None:
    sweep(place, "-m", "optimizer.lr=0.1,0.2")
    result = place / "outputs" / "sweeps" / "cxr" / "optimizer.lr=0.1" / "result.json"
    result.write_text(json.dumps(json.loads(result.read_text()) | {"max_epochs": 1}))
    sweep(place, "-m", "optimizer.lr=0.1,0.2")
    assert begun(place) == ["0.1", "0.2", "0.1"]


def test_a_named_sweep_runs_its_combinations_in_its_own_folder(place: Path) -> None:
    sweep(place, "sweep=lr_epochs")
    assert len(results(place, "lr_epochs")) == 6
    assert "optimizer.lr=0.0005,trainer.max_epochs=12" in results(place, "lr_epochs")
    tried = {
        (row["optimizer.lr"], row["trainer.max_epochs"])
        for row in table(place / "outputs" / "sweeps" / "lr_epochs" / "sweep.csv")
    }
    assert tried == {(lr, epochs) for lr in ("0.0005", "0.0015", "0.005") for epochs in ("6", "12")}


# --- studies


def trials(place: Path, name: str = "optuna") -> list[tuple[float, float | None, str]]:
    """(learning rate, score, state) of each trial in the study's storage."""
    import optuna

    study = optuna.load_study(study_name="cxr", storage=f"sqlite:///{place}/outputs/sweeps/{name}/study.db")
    return [(t.params["optimizer.lr"], t.value, t.state.name) for t in study.trials]


def test_a_study_killed_after_two_trials_goes_on_to_four(place: Path) -> None:
    words = ("sweep=optuna", "hydra.sweeper.study.trials=4")
    sweep(place, "sweep=optuna", "hydra.sweeper.study.trials=2")
    script = place / "job.py"
    script.write_text(script.read_text().replace("    score =", "    os.kill(os.getpid(), 9)\n    score ="))
    sweep(place, *words, rc=-signal.SIGKILL)
    assert [state for _, _, state in trials(place)] == ["COMPLETE"] * 2 + ["RUNNING"]
    script.write_text(STAND_IN.format(root=str(ROOT), here=str(place)))
    sweep(place, *words)
    after = trials(place)
    assert [state for _, _, state in after] == ["COMPLETE"] * 4
    assert len({rate for rate, _, _ in after}) == 4
    assert len(begun(place)) == 5
    assert begun(place)[2] == begun(place)[3]  # the one cut off, with the values it had
    assert all(score == pytest.approx(-rate) for rate, score, _ in after)


def test_a_trial_of_several_seeds_counts_with_their_mean(place: Path) -> None:
    sweep(place, "sweep=optuna", "hydra.sweeper.study={trials: 2, seeds: 2}")
    for rate, score, _ in trials(place):
        assert score == pytest.approx(0.5 - rate)  # of -rate and 1 - rate
    assert len(results(place, "optuna")) == 4


def test_a_trial_that_fails_stays_failed_and_the_study_goes_on(place: Path) -> None:
    (place / "fail 0.2").touch()
    words = ("sweep=optuna", "hydra.sweeper.study.trials=2", "hydra.sweeper.params={optimizer.lr: 'choice(0.2)'}")
    sweep(place, *words, rc=1)
    assert [state for *_, state in trials(place)] == ["FAIL"] * 2


def test_what_names_the_sweep_is_not_in_the_names_of_its_jobs() -> None:
    assert run_files.job_name(["name=a", "sweep=b", "seed=1", "model/backbone=timm"]) == "seed=1,model_backbone=timm"


@pytest.mark.parametrize("override", ["data.root='/ward/林'", "data.root=Lin", "ckpt=ward/Lin.ckpt"])
def test_paths_are_digests_in_the_names_of_jobs(override: str) -> None:
    key = override.partition("=")[0]
    name = run_files.job_name(["seed=1", override])
    assert re.fullmatch(rf"seed=1,{key}=[0-9a-f]{{10}}", name)
    assert name != run_files.job_name(["seed=1", f"{key}=/another"])


@pytest.mark.parametrize(
    ("message", "advice"),
    [
        ("In 'hydra/launcher/cores': Could not load 'hydra/launcher/joblib'.", "hydra/launcher=cores needs .*joblib"),
        ("In 'hydra/launcher/slurm': Could not load 'hydra/launcher/submitit_slurm'.", "slurm needs .*submitit"),
        ("Error locating target 'cxr.runs.search.Study', set env var", "a study needs pip install .*optuna"),
    ],
)
def test_an_extra_that_is_missing_is_named(message: str, advice: str) -> None:
    assert re.match(f".*{advice}", explain(RuntimeError(message)))
