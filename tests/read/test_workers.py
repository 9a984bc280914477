"""Films are decoded in processes, and a film that kills its process is named."""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from cxr.read import decode, workers
from cxr.read.workers import ahead, outcomes, stand_by, streamed

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


def test_few_films_are_read_apart_from_this_process_where_one_of_them_may_kill_it(tmp_path, read):
    paths = films(tmp_path, {1: "kill"})[:3]
    results = dict(outcomes(read, paths, workers=1, progress=False, apart=True))
    assert [n for n, path in enumerate(paths) if results[path]] == [1]
    assert str(os.getpid()) not in {path.read_text() for path in paths if path.exists()}


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


@pytest.mark.parametrize("workers", [1, 2])
def test_films_are_taken_only_as_they_are_needed(tmp_path, read, workers):
    taken = []

    def endless():
        while True:
            taken.append(tmp_path / f"{len(taken)}.film")
            yield taken[-1]

    results = streamed(read, endless(), workers)
    assert [next(results)[1] for _ in range(20)] == [None] * 20
    assert len(taken) <= 20 + 2 * workers
    results.close()


def test_a_stream_goes_on_after_films_that_kill_their_process(tmp_path, read):
    paths = films(tmp_path, {0: "kill", 6: "kill", 13: "kill"})
    results = dict(streamed(read, iter(paths), 2))
    assert [n for n, path in enumerate(paths) if results[path]] == [0, 6, 13]


def test_what_is_computed_ahead_comes_in_order_and_is_bounded():
    taken = []

    def numbers():
        for n in range(100):
            taken.append(n)
            yield n

    items = ahead(numbers(), limit=3)
    assert next(items) == 0
    time.sleep(0.3)
    assert len(taken) <= 6  # one consumed, three waiting, one in hand
    assert list(items) == list(range(1, 100))


def test_several_sources_come_whole_and_side_by_side():
    both = threading.Barrier(2, timeout=10)

    def numbers(first):
        both.wait()  # neither begins before the other has
        yield from range(first, 100, 2)

    assert sorted(ahead(numbers(0), numbers(1), limit=3)) == list(range(100))


def test_processes_that_stand_by_are_those_that_read(tmp_path, read):
    stand_by(read.__module__, 2)
    (pool,) = workers._standing_by.values()
    paths = films(tmp_path, {})
    for _ in streamed(read, paths, workers=2):
        pass
    assert not workers._standing_by
    with pytest.raises(RuntimeError, match="shutdown"):
        pool.submit(print)


def test_an_error_ahead_is_raised_behind_the_items_before_it():
    def broken():
        yield 1
        raise KeyError("bug")

    items = ahead(broken(), limit=5)
    assert next(items) == 1
    with pytest.raises(KeyError, match="bug"):
        next(items)


def test_who_stops_consuming_leaves_no_thread_behind():
    before = threading.active_count()
    items = ahead(iter(range(1000)), limit=2)
    next(items)
    assert threading.active_count() == before + 1
    items.close()
    assert threading.active_count() == before
