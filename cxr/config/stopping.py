"""Ctrl-C and SIGTERM end a command within seconds, without a traceback, with the exit code that shells expect.

The first signal is raised as ``KeyboardInterrupt`` in the main thread, so that everything is left as by any error; what
other errors the ending brings about no longer matter. A second Ctrl-C ends the process on the spot: what it writes is
whole or absent at any time.
"""

import multiprocessing
import os
import signal
import sys
import threading
import traceback
from types import FrameType

_LATEST_S = 20.0  # a library that does not return is not waited for any longer
_SOON_S = 0.05

_received: list[int] = []
_lost: list[int] = []  # signals whose KeyboardInterrupt came where Python drops it
_said: list[str] = []


def install() -> None:
    """Take over SIGINT and SIGTERM, unless whoever started this process had it ignore them (``nohup``, ``&``)."""
    if threading.current_thread() is not threading.main_thread():
        return
    for signum in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(signum) is not signal.SIG_IGN:
            signal.signal(signum, _stop)
    sys.unraisablehook = _unraisable


def installed() -> bool:
    """Whether this process ends as described here; the jobs that a launcher starts end as the launcher has it."""
    return signal.getsignal(signal.SIGINT) is _stop or signal.getsignal(signal.SIGTERM) is _stop


def received() -> bool:
    """Whether a signal has asked this process to end."""
    return bool(_received)


def say(line: str) -> None:
    """Tell the user, once, what was kept and what the same command will do."""
    if not _said:
        _said.append(line)
        print(line, file=sys.stderr, flush=True)


def end(error: BaseException) -> SystemExit:
    """Stop the processes that this one has started, and return what to raise in place of ``error``."""
    raised: BaseException | None = error
    while raised is not None:  # frees what its frames hold: generators that threads and pools hang on end themselves
        traceback.clear_frames(raised.__traceback__)
        raised = raised.__context__
    for child in multiprocessing.active_children():
        child.terminate()
    return SystemExit(128 + _received[0])


def _unraisable(arguments: "sys.UnraisableHookArgs") -> None:
    """Raise again soon what came into a destructor or a callback of the interpreter, which drop it; tell the rest."""
    if not (_received and isinstance(arguments.exc_value, KeyboardInterrupt)):
        sys.__unraisablehook__(arguments)
        return
    _lost.append(_received[0])
    again = threading.Timer(_SOON_S, os.kill, [os.getpid(), _received[0]])  # also ends a wait, as the first did
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
