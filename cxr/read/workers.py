"""Runs one task on many films, in a pool of processes. A film that kills its process does not stop the others."""

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
from multiprocessing import connection, get_context
from queue import Full, Queue
from typing import TypeVar

from pydicom.uid import UID

from cxr.progress import track
from cxr.read.decode import announce, decoders_in_use
from cxr.read.radiograph import ReadError
from cxr.read.worker_process import start_pool_worker, work

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

WORTH_A_POOL = 12  # films; starting processes takes about as long as decoding so many
_STOP_POLL_S = 0.1
_GRACE_S = 3.0  # time to finish the current films when a pool must end at once

_standing_by: dict[tuple[str, int], ProcessPoolExecutor] = {}
_staying: set[tuple[str, int]] = set()


def stand_by(module: str, workers: int, *more: str, stay: bool = False) -> None:
    """Start ``workers`` processes that import ``module``; the next pool for a task of ``module`` uses them.

    This is for a caller that first does something else for seconds, such as importing torch. With one worker there is
    no pool, so nothing is started; nor where such processes stand by already. ``more`` are modules that ``module``
    imports only when it is used. With ``stay`` the processes stand by again after each stream of such tasks.
    """
    if stay:
        _staying.add((module, workers))
    if workers > 1 and (module, workers) not in _standing_by:
        pool = _standing_by[module, workers] = _new_pool(workers)
        with _deaf_children():
            for _ in range(workers):
                pool.submit(_import, module, *more)


def outcomes(
    task: Callable[[_Item], _Result], items: Sequence[_Item], workers: int, progress: bool = True, apart: bool = False
) -> Iterator[tuple[_Item, _Result | ReadError]]:
    """Yield each film with what ``task`` returned for it, or the ``ReadError`` it raised, in the order they finish.

    A film whose process dies gets a ``ReadError`` too. Any other exception ends the run, with a note that names its
    film. An item is the argument of ``task``; ``str(item)`` is the film's path.

    Few films are read in this process, unless they are to be read ``apart`` from it, as after a process that died.
    """
    few = len(items) < WORTH_A_POOL
    results = streamed(task, items, at_least_two(workers) if apart else 1 if few else workers)
    yield from track(results, "Decoding films", len(items)) if progress and items else results


def at_least_two(workers: int) -> int:
    """Return a number of workers with which no film is read in this process, so that none can kill it."""
    return max(2, workers)


def streamed(
    task: Callable[[_Item], _Result], items: Iterable[_Item], workers: int
) -> Generator[tuple[_Item, _Result | ReadError], None, None]:
    """Do the same as ``outcomes`` for a stream of items, of which at most two for each worker are taken ahead.

    With one worker, this process does the work.
    """
    if workers > 1:
        yield from _pooled(task, iter(items), workers)
    else:
        for item in items:
            yield item, _attempt(task, item)


def in_order(task: Callable[[_Item], _Result], items: Sequence[_Item], workers: int) -> Iterator[_Result]:
    """Yield what ``task`` returns for each item, in the order of the items. With one worker, this process does it.

    When the caller stops early, for example at Ctrl-C, no further item is begun and the current ones are finished.
    """
    if workers == 1:
        yield from map(task, items)
        return
    with _open(_new_pool(workers)) as pool:
        with _deaf_children():
            results = pool.map(partial(work, task), items)
        yield from results


def ahead(*sources: Iterator[_Item], limit: int) -> Iterator[_Item]:
    """Yield the items of all ``sources`` in the order in which they become ready. Each source runs in its own thread.

    Together the threads produce up to ``limit`` items that the consumer has not asked for yet. An error of a source is
    raised here. The threads end with the consumer.
    """
    queue: Queue[_Item | _End] = Queue(limit)
    stopped = threading.Event()
    threads = [threading.Thread(target=_fill, args=(queue, items, stopped), daemon=True) for items in sources]
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
    """Marks the end of one source of ``ahead``, with the error that ended it."""

    error: BaseException | None


def _fill(queue: Queue[_Item | _End], items: Iterator[_Item], stopped: threading.Event) -> None:
    """Put all items of a source and an ``_End`` into the queue, in a thread, unless the consumer has stopped."""
    end = _End(None)
    try:
        for item in items:
            _put(queue, item, stopped)
            if stopped.is_set():
                break
    except BaseException as error:  # raised again in the thread of the consumer
        end = _End(error)
    _put(queue, end, stopped)


def _put(queue: Queue[_Item | _End], item: _Item | _End, stopped: threading.Event) -> None:
    while not stopped.is_set():
        try:
            queue.put(item, timeout=_STOP_POLL_S)
        except Full:
            continue
        return


def _import(*modules: str) -> None:
    for module in modules:
        importlib.import_module(module)


def usable_cores() -> int:
    """Return the number of cores this process may use; where the system does not say, that of the machine."""
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
    """Return the outcome and the worker's decoders, which the parent logs: the log of a worker has no handler."""
    return work(partial(_attempt, task), item), decoders_in_use()


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
    """Yield outcomes until there are no more items or a process dies; return the items that were in work at its death.

    A pool does not say which film killed its process. So only few films are in work at a time, and after a crash each
    of them is tried alone.
    """
    key = (task.__module__, workers)
    standing_by = _standing_by.pop(key, None)
    with _open(standing_by or _new_pool(workers)) as pool:
        suspects = yield from _flown(pool, task, items, workers)
        if key in _staying and not suspects:
            _standing_by[key] = pool
    return suspects


def _flown(
    pool: ProcessPoolExecutor, task: Callable[[_Item], _Result], items: Iterator[_Item], workers: int
) -> Generator[tuple[_Item, _Result | ReadError], None, list[_Item]]:
    flying: dict[Future[tuple[_Result | ReadError, dict[UID, str]]], _Item] = {}
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
    # spawn, because a fork of a process in which torch's threads run can hang
    return ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=start_pool_worker)


@contextmanager
def _open(pool: ProcessPoolExecutor) -> Iterator[ProcessPoolExecutor]:
    """Shut a pool down when the block ends, at once if an error, Ctrl-C or the consumer ends it early.

    One that stands by again then stays.
    """
    try:
        yield pool
    except BaseException:  # also GeneratorExit
        _end_now(pool)
        raise
    if pool not in _standing_by.values():
        pool.shutdown()


def _end_now(pool: ProcessPoolExecutor) -> None:
    """End a pool and drop its queue. Each process may finish its current item if that takes only seconds.

    Before Python 3.14 the executor has no public way to its processes (``_processes`` exists in 3.11 to 3.13).
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
    """Make the processes that are started in the block ignore Ctrl-C, because their parent decides when they end.

    The terminal sends Ctrl-C to all processes. A new process inherits the blocked signals of the thread that starts it.
    That thread itself gets its Ctrl-C when the block ends.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
