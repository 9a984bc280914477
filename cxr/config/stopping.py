"""Lets Ctrl-C and SIGTERM end a command within seconds, without a traceback, with the exit code that shells expect.

The first signal raises ``KeyboardInterrupt`` in the main thread, so that everything is cleaned up as after any error.
Other errors that follow from this are ignored. A second Ctrl-C ends the process at once; this is safe, because at any
time every file is whole or absent.
"""

import multiprocessing
import os
import signal
import sys
import threading
import traceback
from types import FrameType

_LATEST_S = 20.0  # the longest time to wait for a library that does not return
_SOON_S = 0.05

_received: list[int] = []
_lost: list[int] = []  # signals whose KeyboardInterrupt was raised where Python drops it
_printed: list[str] = []


def install() -> None:
    """Handle SIGINT and SIGTERM, except where this process was started to ignore them (``nohup``, ``&``)."""
    if threading.current_thread() is not threading.main_thread():
        return
    for signum in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(signum) is not signal.SIG_IGN:
            signal.signal(signum, _stop)
    sys.unraisablehook = _unraisable


def installed() -> bool:
    """Return whether ``install`` was called in this process; it is not in jobs that a launcher starts."""
    return signal.getsignal(signal.SIGINT) is _stop or signal.getsignal(signal.SIGTERM) is _stop


def received() -> bool:
    """Return whether a signal has asked this process to end."""
    return bool(_received)


def say(line: str) -> None:
    """Print, only once, what was kept and what the same command will do."""
    if not _printed:
        _printed.append(line)
        print(line, file=sys.stderr, flush=True)


def end(error: BaseException) -> SystemExit:
    """Stop the processes that this process has started, and return what to raise in place of ``error``."""
    raised: BaseException | None = error
    while raised is not None:  # frees the objects of its frames, so that generators end their threads and pools
        traceback.clear_frames(raised.__traceback__)
        raised = raised.__context__
    for child in multiprocessing.active_children():
        child.terminate()
    return SystemExit(128 + _received[0])


def _unraisable(arguments: "sys.UnraisableHookArgs") -> None:
    """Send the signal again if its KeyboardInterrupt was dropped in a destructor or callback; report other errors."""
    if not (_received and isinstance(arguments.exc_value, KeyboardInterrupt)):
        sys.__unraisablehook__(arguments)
        return
    _lost.append(_received[0])
    again = threading.Timer(_SOON_S, os.kill, [os.getpid(), _received[0]])  # a signal also interrupts a wait
    again.daemon = True
    again.start()


def _stop(signum: int, frame: FrameType | None) -> None:
    if _lost:
        _lost.clear()
        raise KeyboardInterrupt
    if _received:
        if signum == signal.SIGINT:
            os._exit(128 + signum)
        return
    _received.append(signum)
    latest = threading.Timer(_LATEST_S, os._exit, [128 + signum])
    latest.daemon = True
    latest.start()
    raise KeyboardInterrupt
