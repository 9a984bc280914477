"""One task on many films, in processes that a film may kill without taking the others along."""

import importlib
import itertools
import os
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from queue import Full, Queue
from typing import TypeVar

import cv2
from pydicom.uid import UID

from cxr.progress import track
from cxr.read.decode import announce, decoders_in_use
from cxr.read.radiograph import ReadError

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

WORTH_A_POOL = 12  # films; starting processes costs about as much as decoding these
_PARENT_POLL_S = 1.0
_STOP_POLL_S = 0.1

_standing_by: dict[tuple[str, int], ProcessPoolExecutor] = {}


def stand_by(module: str, workers: int) -> None:
    """Start the processes of the next pool of ``workers`` for a task of ``module``, which they import meanwhile.

    For a caller that has something else to do first, such as importing torch for seconds. 1: there is no pool.
    """
    if workers > 1:
        pool = _standing_by[module, workers] = _new_pool(workers)
        for _ in range(workers):
            pool.submit(_import, module)


def outcomes(
    task: Callable[[_Item], _Result], items: Sequence[_Item], workers: int, progress: bool = True
) -> Iterator[tuple[_Item, _Result | ReadError]]:
    """Yield each film with what ``task`` returned for it, or the ``ReadError`` it raised, in the order they finish.

    Any other exception ends the run, with a note of its film. A film whose process dies gets a ``ReadError``. An item
    is what the task takes; as a string it is the film's path.
    """
    found = streamed(task, items, workers if len(items) >= WORTH_A_POOL else 1)
    yield from track(found, "Decoding films", len(items)) if progress and items else found


def streamed(
    task: Callable[[_Item], _Result], items: Iterable[_Item], workers: int
) -> Iterator[tuple[_Item, _Result | ReadError]]:
    """Do as ``outcomes`` for items without end: taken as they are needed, two a worker at once; 1: in this process."""
    if workers > 1:
        yield from _pooled(task, iter(items), workers)
    else:
        for item in items:
            yield item, _attempt(task, item)


def ahead(*sources: Iterator[_Item], limit: int) -> Iterator[_Item]:
    """Yield the items of ``sources``, each of which a thread takes items from, in the order they come.

    The threads run up to ``limit`` items, all together, ahead of whoever asks for them. What a source raises is raised
    here. When the consumer is done the threads end.
    """
    queue: Queue[_Item | _End] = Queue(limit)
    stopped = threading.Event()

    def put(item: _Item | _End) -> None:
        while not stopped.is_set():
            try:
                queue.put(item, timeout=_STOP_POLL_S)
            except Full:
                continue
            return

    def fill(items: Iterator[_Item]) -> None:
        end = _End(None)
        try:
            for item in items:
                put(item)
                if stopped.is_set():
                    break
        except BaseException as error:  # raised again by the consumer
            end = _End(error)
        put(end)

    threads = [threading.Thread(target=fill, args=(items,), daemon=True) for items in sources]
    for thread in threads:
        thread.start()
    try:
        running = len(threads)
        while running:
            item = queue.get()
            if not isinstance(item, _End):
                yield item
            elif item.error is not None:
                raise item.error
            else:
                running -= 1
    finally:
        stopped.set()
        for thread in threads:
            thread.join()


@dataclass(frozen=True)
class _End:
    """What comes behind the last item of a source of ``ahead``."""

    error: BaseException | None


def _import(module: str) -> None:
    importlib.import_module(module)


def usable_cores() -> int:
    """Return the cores this process may run on; where the system does not tell, those of the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _attempt(task: Callable[[_Item], _Result], item: _Item) -> _Result | ReadError:
    try:
        return task(item)
    except ReadError as error:
        return error
    except Exception as error:
        error.add_note(f"while reading {item}")
        raise


def _attempt_in_worker(task: Callable[[_Item], _Result], item: _Item) -> tuple[_Result | ReadError, dict[UID, str]]:
    """Return, beside the outcome, what the worker decodes with: its log has no handler."""
    return _attempt(task, item), decoders_in_use()


def _pooled(
    task: Callable[[_Item], _Result], items: Iterator[_Item], workers: int
) -> Iterator[tuple[_Item, _Result | ReadError]]:
    crashed = True
    while crashed:
        suspects = yield from _until_a_crash(task, items, workers)
        for item in suspects:
            yield item, _alone(task, item)
        crashed = bool(suspects)


def _until_a_crash(
    task: Callable[[_Item], _Result], items: Iterator[_Item], workers: int
) -> Generator[tuple[_Item, _Result | ReadError], None, list[_Item]]:
    """Take from ``items`` and yield until there are no more or a process dies; return those in flight at its death.

    A pool does not tell which film its process died of, so few are in flight at a time and those are tried alone.
    """
    flying: dict[Future[tuple[_Result | ReadError, dict[UID, str]]], _Item] = {}
    with _standing_by.pop((task.__module__, workers), None) or _new_pool(workers) as pool:
        while True:
            for item in itertools.islice(items, 2 * workers - len(flying)):
                try:
                    flying[pool.submit(_attempt_in_worker, task, item)] = item
                except BrokenProcessPool:
                    return [*flying.values(), item]
            if not flying:
                return []
            for future in wait(flying, return_when=FIRST_COMPLETED).done:
                try:
                    outcome, decoders = future.result()
                except BrokenProcessPool:
                    return list(flying.values())
                announce(decoders)
                yield flying.pop(future), outcome


def _alone(task: Callable[[_Item], _Result], item: _Item) -> _Result | ReadError:
    try:
        with _new_pool(1) as pool:
            outcome, decoders = pool.submit(_attempt_in_worker, task, item).result()
    except BrokenProcessPool:
        return ReadError(f"{item}: reading it kills the process (out of memory, or a fault in its decoder)")
    announce(decoders)
    return outcome


def _new_pool(workers: int) -> ProcessPoolExecutor:
    # spawn: forking a process that has started torch's threads can hang
    return ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=start_worker)


def start_worker() -> None:
    """Initialise a process of a pool: leave the cores to the other workers, and end when the parent is gone.

    Where the parent runs a detector on these cores, that one goes first: its threads wait for one another, so that a
    film decoded on one core would hold up all of them.
    """
    os.environ["OMP_NUM_THREADS"] = "1"
    cv2.setNumThreads(1)
    if hasattr(os, "nice"):  # not on Windows
        os.nice(10)
    if parent := parent_process():
        threading.Thread(target=_exit_without, args=(parent.pid,), daemon=True).start()


def _exit_without(parent: int | None) -> None:
    """End this process once another one is its parent: a parent that was killed cannot tell its pool to stop."""
    while os.getppid() == parent:
        time.sleep(_PARENT_POLL_S)
    os._exit(1)  # no clean-up: films are written whole or not at all
