"""Films are decoded in processes, and a film that kills its process is named."""

import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cxr.read import decode
from cxr.read.workers import outcomes

TASKS = """
import os
from cxr.read.radiograph import ReadError

def read(path):
    if "kill" in path.name:
        os._exit(9)
    if "bad" in path.name:
        raise ReadError(f"{path}: bad")
    if "bug" in path.name:
        raise KeyError("bug")
    with path.open("a") as file:
        file.write(str(os.getpid()))
"""


@pytest.fixture
def read(tmp_path, monkeypatch):
    (tmp_path / "film_tasks.py").write_text(TASKS)
    monkeypatch.syspath_prepend(tmp_path)
    import film_tasks

    return film_tasks.read


def films(tmp_path, special):
    return [tmp_path / f"{n}{special.get(n, '')}.film" for n in range(14)]


def test_a_film_that_kills_its_process_is_named_and_the_others_are_read(tmp_path, read):
    paths = films(tmp_path, {3: "kill", 7: "bad"})
    results = dict(outcomes(read, paths, workers=2, progress=False))
    assert set(results) == set(paths)
    assert {p for p, error in results.items() if error} == {paths[3], paths[7]}
    assert str(results[paths[3]]).startswith(f"{paths[3]}: reading it kills the process")
    assert str(results[paths[7]]) == f"{paths[7]}: bad"
    pids = {p.read_text() for p in paths if p.exists()}
    assert str(os.getpid()) not in pids


def test_few_films_are_read_in_this_process(tmp_path, read):
    paths = films(tmp_path, {})[:3]
    assert dict(outcomes(read, paths, workers=2, progress=False)) == dict.fromkeys(paths)
    assert {p.read_text() for p in paths} == {str(os.getpid())}


@pytest.mark.parametrize("workers", [1, 2])
def test_a_bug_is_raised_with_the_film_in_its_note(tmp_path, read, workers):
    paths = films(tmp_path, {5: "bug"})
    with pytest.raises(KeyError) as caught:
        list(outcomes(read, paths, workers=workers, progress=False))
    assert caught.value.__notes__ == [f"while reading {paths[5]}"]


DECODING = """
from pydicom.uid import ImplicitVRLittleEndian
from cxr.read.decode import announce

def read(path):
    announce({ImplicitVRLittleEndian: "numpy"})
"""


def test_what_workers_decode_with_is_logged_here_once(tmp_path, monkeypatch, caplog):
    (tmp_path / "decoding_tasks.py").write_text(DECODING)
    monkeypatch.syspath_prepend(tmp_path)
    import decoding_tasks

    monkeypatch.setattr(decode, "_in_use", {})
    with caplog.at_level(logging.INFO, logger="cxr.read.decode"):
        list(outcomes(decoding_tasks.read, films(tmp_path, {}), workers=2, progress=False))
    assert caplog.messages == ["Implicit VR Little Endian (1.2.840.10008.1.2) is decoded by numpy"]


PARENT = """
import sys
from pathlib import Path
from cxr.read.workers import outcomes
from sleeping_tasks import read

if __name__ == "__main__":
    list(outcomes(read, [Path(sys.argv[1]) / str(n) for n in range(14)], workers=2, progress=False))
"""
SLEEPING = """
import os, time

def read(path):
    path.write_text(str(os.getpid()))
    time.sleep(60)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="a process keeps the number of its dead parent")
def test_workers_end_when_their_parent_is_killed(tmp_path):
    (tmp_path / "parent.py").write_text(PARENT)
    (tmp_path / "sleeping_tasks.py").write_text(SLEEPING)
    (out := tmp_path / "out").mkdir()
    path = os.pathsep.join([str(tmp_path), str(Path.cwd())])
    parent = subprocess.Popen([sys.executable, tmp_path / "parent.py", out], env=os.environ | {"PYTHONPATH": path})
    try:
        until(lambda: len([p for p in out.iterdir() if p.read_text()]) == 2)
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    workers = [int(p.read_text()) for p in out.iterdir()]
    until(lambda: not any(map(alive, workers)))


def until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(0.05)


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return not state.startswith("Z")  # whoever adopts it may leave it as a zombie for a while
