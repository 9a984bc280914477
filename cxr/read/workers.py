"""One task on many films, in processes that a film may kill without taking the others along."""

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from pathlib import Path

import cv2
from pydicom.uid import UID
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cxr.read.decode import announce, decoders_in_use
from cxr.read.radiograph import ReadError

Task = Callable[[Path], None]
Outcome = tuple[Path, ReadError | None]
_Result = tuple[ReadError | None, dict[UID, str]]

_WORTH_A_POOL = 12  # films; starting processes costs about as much as decoding these
_PARENT_POLL_S = 1.0


def outcomes(task: Task, paths: Sequence[Path], workers: int, progress: bool = True) -> Iterator[Outcome]:
    """Yield each path with the ``ReadError`` that ``task`` raised on it, or None, in the order they finish.

    Any other exception ends the run, with a note of its film. A film whose process dies gets a ``ReadError``.
    """
    pooled = workers > 1 and len(paths) >= _WORTH_A_POOL
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, disable=not (progress and paths)) as bar:
        films = bar.add_task("Decoding films", total=len(paths))
        for outcome in _pooled(task, paths, workers) if pooled else ((path, _attempt(task, path)) for path in paths):
            bar.advance(films)
            yield outcome


def usable_cores() -> int:
    """Return the cores this process may run on; where the system does not tell, those of the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _attempt(task: Task, path: Path) -> ReadError | None:
    try:
        task(path)
    except ReadError as error:
        return error
    except Exception as error:
        error.add_note(f"while reading {path}")
        raise
    return None


def _attempt_in_worker(task: Task, path: Path) -> _Result:
    """Return, beside the error, what the worker decodes with: its log has no handler."""
    return _attempt(task, path), decoders_in_use()


def _pooled(task: Task, paths: Sequence[Path], workers: int) -> Iterator[Outcome]:
    waiting = deque(paths)
    while waiting:
        suspects = yield from _until_a_crash(task, waiting, workers)
        for path in suspects:
            yield path, _alone(task, path)


def _until_a_crash(task: Task, waiting: deque[Path], workers: int) -> Generator[Outcome, None, list[Path]]:
    """Take from ``waiting`` and yield until it is empty or a process dies; return the films in flight at its death.

    A pool does not tell which film its process died of, so few are in flight at a time and those are tried alone.
    """
    flying: dict[Future[_Result], Path] = {}
    with _pool(workers) as pool:
        while waiting or flying:
            try:
                while waiting and len(flying) < 2 * workers:
                    flying[pool.submit(_attempt_in_worker, task, waiting[0])] = waiting[0]
                    waiting.popleft()
                for future in wait(flying, return_when=FIRST_COMPLETED).done:
                    error, decoders = future.result()
                    announce(decoders)
                    yield flying.pop(future), error
            except BrokenProcessPool:
                return list(flying.values())
    return []


def _alone(task: Task, path: Path) -> ReadError | None:
    try:
        with _pool(1) as pool:
            error, decoders = pool.submit(_attempt_in_worker, task, path).result()
    except BrokenProcessPool:
        return ReadError(f"{path}: reading it kills the process (out of memory, or a fault in its decoder)")
    announce(decoders)
    return error


def _pool(workers: int) -> ProcessPoolExecutor:
    # spawn: forking a process that has started torch's threads can hang
    return ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=start_worker)


def start_worker() -> None:
    """Initialise a process of a pool: leave the cores to the other workers, and end when the parent is gone."""
    os.environ["OMP_NUM_THREADS"] = "1"
    cv2.setNumThreads(1)
    if parent := parent_process():
        threading.Thread(target=_exit_without, args=(parent.pid,), daemon=True).start()


def _exit_without(parent: int | None) -> None:
    """End this process once another one is its parent: a parent that was killed cannot tell its pool to stop."""
    while os.getppid() == parent:
        time.sleep(_PARENT_POLL_S)
    os._exit(1)  # no clean-up: films are written whole or not at all
