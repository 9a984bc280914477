"""Ctrl-C and SIGTERM end a command within seconds, without a traceback, and say what the same command will do."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scripts import ROOT

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


def started(place: Path, body: str) -> subprocess.Popen[str]:
    (place / "job.py").write_text(STAND_IN.format(root=str(ROOT)))
    (place / "body.py").write_text(body)
    # A process of its own: how Python ends is what is tested, and a fork ends with what its parent had registered
    words = [sys.executable, "job.py", "name=stopped"]
    return subprocess.Popen(
        words, cwd=place, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def wait_for(place: Path, pattern: str) -> None:
    deadline = time.monotonic() + 60
    while not list(place.glob(pattern)):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def ended(process: subprocess.Popen[str]) -> str:
    begun = time.monotonic()
    out, _ = process.communicate(timeout=60)  # returns when the last process of the pool has closed its output, too
    assert time.monotonic() - begun < MOST_S
    assert "Traceback" not in out
    assert "Error" not in out
    return out


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
    process = started(tmp_path, body)
    wait_for(tmp_path, sign)
    (os.killpg if to_all else os.kill)(process.pid, signum)  # the terminal signals the whole group
    out = ended(process)
    assert process.returncode == 128 + signum
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
    process = started(tmp_path, body)
    wait_for(tmp_path, f"outputs/stopped/*/{kept}")
    process.send_signal(signal.SIGTERM)
    (run,) = (tmp_path / "outputs/stopped").iterdir()
    assert ended(process) == message.format(run=run) + "\n"
    assert process.returncode == 143


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
    process = started(tmp_path, body)
    wait_for(tmp_path, "begun")
    process.send_signal(signal.SIGINT)
    assert "stopped before the first epoch was whole" in ended(process)
    assert process.returncode == 130


def test_a_second_ctrl_c_ends_on_the_spot(tmp_path: Path) -> None:
    body = "try: Path('begun').touch(); time.sleep(60)\nfinally: Path('ending').touch(); time.sleep(60)"
    process = started(tmp_path, body)
    for sign in ("begun", "ending"):
        wait_for(tmp_path, sign)
        process.send_signal(signal.SIGINT)
    ended(process)
    assert process.returncode == 130


def test_whoever_ignores_ctrl_c_goes_on_ignoring_it(tmp_path: Path) -> None:
    """As a shell has it for ``nohup train.py &``."""
    process = started(tmp_path, "import os, signal; os.kill(os.getpid(), signal.SIGINT); print('went on')")
    process.kill()
    process.communicate()
    script = "import signal, runpy; signal.signal(signal.SIGINT, signal.SIG_IGN); runpy.run_path('job.py', run_name='__main__')"  # noqa: E501
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "went on\n"), done.stderr


def test_a_sweep_that_is_stopped_says_what_is_kept(tmp_path: Path) -> None:
    (tmp_path / "job.py").write_text(STAND_IN.format(root=str(ROOT)))
    (tmp_path / "body.py").write_text("Path('begun').touch(); time.sleep(60)")
    process = subprocess.Popen(
        [sys.executable, "job.py", "-m", "seed=1,2"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    wait_for(tmp_path, "begun")
    process.send_signal(signal.SIGINT)
    assert "stopped; jobs that have ended are kept in outputs/sweeps/cxr, and the same command goes on" in ended(
        process
    )
    assert process.returncode == 130
    assert not (tmp_path / "outputs/sweeps/cxr/seed=2").exists()
