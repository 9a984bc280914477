"""A process that has imported what the scripts import and forks itself for each script that ``scripts.py`` asks for.

The forked process is as one that was just begun: it has its own folder, environment, output, session and signals, and
ends as any does, but for taking its modules apart, which takes a second or two. No thread runs before the fork, and
nothing has been computed, so that nothing is lost.
"""

import atexit
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import sys
from contextlib import suppress
from typing import Any

# What train.py, evaluate.py, explain.py and predict.py import when they are at work. What is missing here is imported
# by the script itself: it takes longer, and that is all.
IMPORTED_FIRST = (
    *("cxr.runs.commands", "cxr.runs.train", "cxr.runs.evaluate", "cxr.runs.explain", "cxr.runs.predict"),
    "cxr.runs.serve",
    *("cxr.phantom.films", "cxr.detect.faster_rcnn"),
    *("torch.utils.tensorboard", "matplotlib.pyplot", "faster_coco_eval", "highdicom"),
)

_codes: list[int] = []  # of the exit that is under way


def serve(requests: socket.socket) -> dict[str, Any]:
    """Fork for each request, and return in the forked process, with the request; ends when nobody can ask any more."""
    signal.signal(signal.SIGCHLD, lambda signum, frame: leave_no_zombies())
    while True:
        message, descriptors, _, _ = socket.recv_fds(requests, 1 << 18, 2)
        if not message:
            os._exit(0)
        if os.fork() == 0:
            break
        for descriptor in descriptors:
            os.close(descriptor)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    requests.close()
    output, answers = descriptors
    watch(answers)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    return dict(json.loads(message))


def leave_no_zombies() -> None:
    """Take leave of the watchers that have ended."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def watch(answers: int) -> None:
    """Fork once more and return in the new process; this one answers with its number and, when it ends, with how."""
    job = os.fork()
    if job == 0:
        os.close(answers)
        return
    os.write(answers, f"{job}\n".encode())
    _, status = os.waitpid(job, 0)
    with suppress(OSError):  # the tests are over
        os.write(answers, f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def run(script: str, words: list[str], place: str, environment: dict[str, str], before: str) -> None:
    """Do in this process what ``python script words`` does in one of its own; ``before`` is executed first."""
    os.setsid()
    os.chdir(place)
    os.environ.update(environment)
    sys.argv = [script, *words]
    sys.path[0] = os.path.dirname(script)  # noqa: PTH120 - as Python has it
    exec(before, {})  # noqa: S102
    try:
        runpy.run_path(script, run_name="__main__")
        _codes.append(0)
    except SystemExit as end:
        _codes.append(end.code if isinstance(end.code, int) else int(end.code is not None))
        raise
    except Exception:
        _codes.append(1)
        raise


def end_here() -> None:
    """End the process, after all other functions that are to be called at its end."""
    if _codes:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(_codes[0])


if __name__ == "__main__":
    atexit.register(end_here)  # the first that is registered is the last that is called
    for name in IMPORTED_FIRST:
        with suppress(ImportError):  # an extra that is not installed
            importlib.import_module(name)
    gc.freeze()  # what is there already is not looked through again, and so not copied
    run(**serve(socket.socket(fileno=int(sys.argv[1]))))
