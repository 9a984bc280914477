"""Ctrl-C and SIGTERM end a command within seconds, without a traceback, and say what the same command will do."""

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest

from scripts import ROOT, Job, start

MOST_S = 15.0  # "within seconds", on a machine that is busy with other tests; what is queued would take hours
STAND_IN = """
import sys, time
from pathlib import Path
sys.path.insert(0, {root!r})
from cxr.config.entry import entry
from cxr.runs import folder as run_folder
from cxr.phantom.films import write_course_layout
from cxr.read.workers import ahead, outcomes, streamed

def look(path):
    Path("begun").touch()
    time.sleep(0.2)

@entry("train")
def main(cfg):
    with run_folder.held(cfg, ("run_dir",)) as path:
        exec(Path("body.py").read_text())

if __name__ == "__main__":
    main()
"""
DRAWING = "write_course_layout('drawn', films=5000, test_films=10, size=256, workers={workers})"
DECODING = "list(outcomes(look, range(50000), {workers}, progress=False))"
AHEAD = "for _ in ahead(streamed(look, range(50000), {workers}), limit=4): time.sleep(0.1)"

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name != "posix", reason="signals of Unix")]


def started(place: Path, body: str, *words: str, before: str = "") -> Job:
    (place / "job.py").write_text(STAND_IN.format(root=str(ROOT)))
    (place / "body.py").write_text(body)
    return start(str(place / "job.py"), place, *(words or ("name=stopped",)), before=before)


def wait_for(place: Path, pattern: str) -> None:
    deadline = time.monotonic() + 60
    while not list(place.glob(pattern)):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def ended(job: Job) -> str:
    """Return what a job has printed that ends in time, with every process of its pool."""
    begun = time.monotonic()
    job.wait(60)
    while at_work(job.pid):
        assert time.monotonic() - begun < MOST_S
        time.sleep(0.02)
    assert time.monotonic() - begun < MOST_S
    assert "Traceback" not in job.printed()
    assert "Error" not in job.printed()
    return job.printed()


def at_work(group: int) -> bool:
    """Whether a process of this group is at work still; one that nobody has taken leave of yet has ended."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, of_group = stat.read_text().rpartition(")")[2].split()[:3]
            if int(of_group) == group and state != "Z":
                return True
    return False


@pytest.mark.parametrize("to_all", [True, False], ids=["terminal", "kill"])
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("body", "sign"),
    [
        (DRAWING.format(workers=2), "drawn/train/*/image/*.dcm"),
        (DRAWING.format(workers=1), "drawn/train/*/image/*.dcm"),
        (DECODING.format(workers=2), "begun"),
        (AHEAD.format(workers=2), "begun"),
    ],
    ids=["drawing", "drawing-alone", "decoding", "decoding-ahead"],
)
def test_work_on_films_ends_at_once(tmp_path: Path, body: str, sign: str, signum: int, to_all: bool) -> None:
    job = started(tmp_path, body)
    wait_for(tmp_path, sign)
    (os.killpg if to_all else os.kill)(job.pid, signum)  # the terminal signals the whole group
    out = ended(job)
    assert job.returncode == 128 + signum
    (run,) = (tmp_path / "outputs/stopped").iterdir()
    message = f"stopped before the first epoch was whole: nothing is kept but films drawn or decoded, and the same command begins anew in {run}"  # noqa: E501
    assert out.splitlines()[-1] == message
    assert not list(tmp_path.rglob(".*.part"))
    assert not [path for path in (tmp_path / "drawn").rglob(".*") if path.name != ".phantom.lock"]
    assert not (run / "failed.json").exists()


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        ("checkpoints/last.ckpt", "stopped; the same command goes on from the last whole epoch in {run}"),
        ("films.jsonl", "stopped; the same command goes on with what is not done yet in {run}"),
        ("result.json", "stopped; the run in {run} had ended before"),
    ],
)
def test_what_is_told_is_what_is_kept(tmp_path: Path, kept: str, message: str) -> None:
    body = f"(path / {kept!r}).parent.mkdir(exist_ok=True); (path / {kept!r}).touch(); time.sleep(60)"
    job = started(tmp_path, body)
    wait_for(tmp_path, f"outputs/stopped/*/{kept}")
    job.send_signal(signal.SIGTERM)
    (run,) = (tmp_path / "outputs/stopped").iterdir()
    assert ended(job) == message.format(run=run) + "\n"
    assert job.returncode == 143


def test_a_signal_that_comes_into_a_destructor_is_not_lost(tmp_path: Path) -> None:
    """Python drops what is raised there, and prints it."""
    body = """
class Slow:
    def __del__(self):
        Path("begun").touch()
        time.sleep(60)
Slow()
time.sleep(60)
"""
    job = started(tmp_path, body)
    wait_for(tmp_path, "begun")
    job.send_signal(signal.SIGINT)
    assert "stopped before the first epoch was whole" in ended(job)
    assert job.returncode == 130


def test_a_second_ctrl_c_ends_on_the_spot(tmp_path: Path) -> None:
    body = "try: Path('begun').touch(); time.sleep(60)\nfinally: Path('ending').touch(); time.sleep(60)"
    job = started(tmp_path, body)
    for sign in ("begun", "ending"):
        wait_for(tmp_path, sign)
        job.send_signal(signal.SIGINT)
    ended(job)
    assert job.returncode == 130


def test_whoever_ignores_ctrl_c_goes_on_ignoring_it(tmp_path: Path) -> None:
    """As a shell has it for ``nohup train.py &``."""
    body = "import os, signal; os.kill(os.getpid(), signal.SIGINT); print('went on')"
    job = started(tmp_path, body, before="import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)")
    assert ended(job) == "went on\n"
    assert job.returncode == 0


def test_a_sweep_that_is_stopped_says_what_is_kept(tmp_path: Path) -> None:
    job = started(tmp_path, "Path('begun').touch(); time.sleep(60)", "-m", "seed=1,2")
    wait_for(tmp_path, "begun")
    job.send_signal(signal.SIGINT)
    kept = "stopped; jobs that have ended are kept in outputs/sweeps/cxr, and the same command goes on"
    assert kept in ended(job)
    assert job.returncode == 130
    assert not (tmp_path / "outputs/sweeps/cxr/seed=2").exists()
