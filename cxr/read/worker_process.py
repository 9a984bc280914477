"""What happens inside a process of a pool: how it starts, works on an item, and ends."""

import os
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing import parent_process
from types import FrameType
from typing import TypeVar

import cv2

from cxr.read.freed_memory import keep_freed_memory

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

_PARENT_POLL_S = 1.0


def start_pool_worker() -> None:
    """Initialise a process of a pool. When it is asked to end, it first finishes its current item."""
    _leave_cores_to_others()
    _end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _asked_to_end)


_working = False  # whether this process works on an item
_ending = False  # whether this process was asked to end


def _asked_to_end(signum: int, frame: FrameType | None) -> None:
    global _ending
    _ending = True
    if not _working:
        os._exit(128 + signum)


def work(task: Callable[[_Item], _Result], item: _Item) -> _Result:
    """Call ``task``, or end the process if it was asked to: a film is finished or not begun at all."""
    global _working
    if _ending:
        os._exit(128 + signal.SIGTERM)
    _working = True
    try:
        return task(item)
    finally:
        _working = False


def _leave_cores_to_others() -> None:
    """Use one core only, with less priority than the parent.

    The parent may run a detector on the same cores. Its threads wait for one another, so a film that is decoded on one
    core would delay all of them.
    """
    os.environ["OMP_NUM_THREADS"] = "1"
    cv2.setNumThreads(1)
    keep_freed_memory()
    if hasattr(os, "nice"):  # not on Windows
        os.nice(10)


def _end_with_parent() -> None:
    """End this process when its parent is gone."""
    if parent := parent_process():
        threading.Thread(target=_exit_without, args=(parent.pid,), daemon=True).start()


def _exit_without(parent: int | None) -> None:
    """End this process once its parent is no longer ``parent``: a killed parent cannot tell its pool to stop."""
    while os.getppid() == parent:
        time.sleep(_PARENT_POLL_S)
    os._exit(1)  # without clean-up: no film is left half-written anyway
