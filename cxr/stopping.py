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

_received: list[int] = []
_said: list[str] = []


def install() -> None:
    """Take over SIGINT and SIGTERM, unless whoever started this process had it ignore them (``nohup``, ``&``)."""
    if threading.current_thread() is not threading.main_thread():
        return
    for signum in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(signum) is not signal.SIG_IGN:
            signal.signal(signum, _stop)


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


def _stop(signum: int, frame: FrameType | None) -> None:
    if _received:
        if signum == signal.SIGINT:
            os._exit(128 + signum)
        return
    _received.append(signum)
    latest = threading.Timer(_LATEST_S, os._exit, [128 + signum])
    latest.daemon = True
    latest.start()
    raise KeyboardInterrupt
