"""One task on many films, in processes that a film may kill without taking the others along."""

import importlib
import itertools
import os
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import connection, get_context, parent_process
from queue import Full, Queue
from types import FrameType
from typing import TypeVar

import cv2
from pydicom.uid import UID

from cxr.progress import track
from cxr.read.decode import announce, decoders_in_use
from cxr.read.freed_memory import keep_freed_memory
from cxr.read.radiograph import ReadError

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

WORTH_A_POOL = 12  # films; starting processes costs about as much as decoding these
_PARENT_POLL_S = 1.0
_STOP_POLL_S = 0.1
_GRACE_S = 3.0  # for the films at hand when a pool is to end at once

_standing_by: dict[tuple[str, int], ProcessPoolExecutor] = {}


def stand_by(module: str, workers: int) -> None:
    """Start the processes of the next pool of ``workers`` for a task of ``module``, which they import meanwhile.

    For a caller that has something else to do first, such as importing torch for seconds. 1: there is no pool.
    """
    if workers > 1:
        pool = _standing_by[module, workers] = _new_pool(workers)
        with _deaf_children():
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


def in_order(task: Callable[[_Item], _Result], items: Sequence[_Item], workers: int) -> Iterator[_Result]:
    """Yield what ``task`` returns for each item, in their order; 1 worker: in this process.

    When the caller stops, as for Ctrl-C, nothing is begun any more and the items at hand are ended with.
    """
    if workers == 1:
        yield from map(task, items)
        return
    with _open(_new_pool(workers)) as pool:
        with _deaf_children():
            results = pool.map(partial(_work, task), items)
        yield from results


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
    return _work(partial(_attempt, task), item), decoders_in_use()


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
    standing_by = _standing_by.pop((task.__module__, workers), None)
    with _open(standing_by or _new_pool(workers)) as pool:
        while True:
            for item in itertools.islice(items, 2 * workers - len(flying)):
                try:
                    with _deaf_children():
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
        with _open(_new_pool(1)) as pool:
            with _deaf_children():
                future = pool.submit(_attempt_in_worker, task, item)
            outcome, decoders = future.result()
    except BrokenProcessPool:
        return ReadError(f"{item}: reading it kills the process (out of memory, or a fault in its decoder)")
    announce(decoders)
    return outcome


def _new_pool(workers: int) -> ProcessPoolExecutor:
    # spawn: forking a process that has started torch's threads can hang
    return ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_start_pool_worker)


@contextmanager
def _open(pool: ProcessPoolExecutor) -> Iterator[ProcessPoolExecutor]:
    """Shut a pool down at the end of the block; at once where an error, Ctrl-C or the consumer ends it early."""
    try:
        yield pool
    except BaseException:  # also GeneratorExit
        _end_now(pool)
        raise
    pool.shutdown()


def _end_now(pool: ProcessPoolExecutor) -> None:
    """End a pool without what is queued: each process finishes the item at hand, if that takes no longer than seconds.

    The executor has no public way to its processes before Python 3.14 (``_processes`` seen in 3.11 to 3.13).
    """
    processes = list((pool._processes or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.terminate()
    left, latest = [process.sentinel for process in processes], time.monotonic() + _GRACE_S
    while left and (seconds := latest - time.monotonic()) > 0:
        ended = connection.wait(left, seconds)
        left = [sentinel for sentinel in left if sentinel not in ended]
    for process in processes:
        process.kill()


@contextmanager
def _deaf_children() -> Iterator[None]:
    """Start processes that Ctrl-C does not reach: the terminal sends it to all, and their parent says when they end.

    A thread's blocked signals are those of the processes it starts. Its own Ctrl-C comes when the block ends.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_pool_worker() -> None:
    """Initialise a process of a pool: as ``start_worker``, and asked to end it finishes the item at hand."""
    start_worker()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _asked_to_end)


_working = False  # in a worker: on an item
_ending = False  # in a worker: it was asked to end


def _asked_to_end(signum: int, frame: FrameType | None) -> None:
    global _ending  # of this process
    _ending = True
    if not _working:
        os._exit(128 + signum)


def _work(task: Callable[[_Item], _Result], item: _Item) -> _Result:
    """Call ``task`` in a worker, unless that was asked to end: a film is written whole or not begun."""
    global _working
    if _ending:
        os._exit(128 + signal.SIGTERM)
    _working = True
    try:
        return task(item)
    finally:
        _working = False


def start_worker() -> None:
    """Initialise a process of a pool: leave the cores to the other workers, and end when the parent is gone.

    Where the parent runs a detector on these cores, that one goes first: its threads wait for one another, so that a
    film decoded on one core would hold up all of them.
    """
    os.environ["OMP_NUM_THREADS"] = "1"
    cv2.setNumThreads(1)
    keep_freed_memory()
    if hasattr(os, "nice"):  # not on Windows
        os.nice(10)
    if parent := parent_process():
        threading.Thread(target=_exit_without, args=(parent.pid,), daemon=True).start()


def _exit_without(parent: int | None) -> None:
    """End this process once another one is its parent: a parent that was killed cannot tell its pool to stop."""
    while os.getppid() == parent:
        time.sleep(_PARENT_POLL_S)
    os._exit(1)  # no clean-up: films are written whole or not at all
