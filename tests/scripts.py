"""What the tests call the scripts with, and read their tables with.

A script imports for 5 s before it works. So the scripts are not begun anew but forked from a process that has imported
everything (``warm_process.py``): each is a process of its own all the same, with its exit code, signals and output.
"""

import atexit
import csv
import functools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
LEARNING = ("experiment=smoke", "hydra.run.dir=run", "trainer.max_epochs=10", "optimizer=adamw", "optimizer.lr=0.003")
LEARNING += ("trainer.precision=32-true",)  # as the scripts compute that it is held against


class Job:
    """A script at work."""

    def __init__(self, output: int, answers: socket.socket) -> None:
        self._output = output
        self._answers = answers
        self.returncode: int | None = None
        self.pid = self._answer()

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal; ``None`` while the script is at work."""
        return self._ended_within(0)

    def wait(self, timeout: float = 300) -> int:
        """Return the exit code as soon as there is one. A script that takes longer is killed."""
        code = self._ended_within(timeout)
        if code is None:
            self.send_signal(signal.SIGKILL)
            self._ended_within(timeout)
            raise TimeoutError(f"still at work after {timeout} s; it said:\n{self.printed()}")
        return code

    def printed(self) -> str:
        """Return what the script has printed so far, on both of its outputs."""
        return os.pread(self._output, 1 << 28, 0).decode(errors="replace")

    def send_signal(self, signum: int) -> None:
        """Send a signal to the process of the script."""
        if self.poll() is None:
            os.kill(self.pid, signum)

    def _ended_within(self, seconds: float) -> int | None:
        if self.returncode is None and select.select([self._answers], [], [], seconds)[0]:
            self.returncode = self._answer()
            self._answers.close()
        return self.returncode

    def _answer(self) -> int:
        """Return what the warm process says next of this job: its number, and then its exit code."""
        answer = self._answers.recv(100)
        if not answer:
            raise RuntimeError(f"the process that watches the script has ended; the script said:\n{self.printed()}")
        return int(answer)

    def __del__(self) -> None:
        self._answers.close()
        os.close(self._output)


@functools.cache
def _warm_process(python: str | None = None) -> socket.socket:
    """Begin the process that forks the scripts, and return what asks it to. It ends with this process.

    ``python`` is that of an environment with the wheel, which is then what is imported, and not this clone.
    """
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"OMP_NUM_THREADS": "1"} if python else {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [python or sys.executable, str(ROOT / "tests" / "warm_process.py"), str(its.fileno())],
        cwd=ROOT, env=environment, pass_fds=[its.fileno()],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    its.close()
    atexit.register(process.wait)
    atexit.register(ours.close)
    return ours


def start(
    script: str, place: Path, *words: str, before: str = "", python: str | None = None, **environment: str
) -> Job:
    """Begin ``python script words`` in the folder ``place``; ``before`` is Python that it executes first.

    ``python`` is that of another environment; this one's where there is none.
    """
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with tempfile.TemporaryFile("ab") as output, its:
        request = {"script": str(ROOT / script), "words": words, "place": str(place), "before": before}
        message = json.dumps(request | {"environment": environment}).encode()
        socket.send_fds(_warm_process(python), [message], [output.fileno(), its.fileno()])
        kept = os.open(f"/proc/self/fd/{output.fileno()}", os.O_RDONLY)
    return Job(kept, ours)


def call(
    script: str,
    place: Path,
    *words: str,
    code: int = 0,
    before: str = "",
    python: str | None = None,
    **environment: str,
) -> str:
    """Return what a script prints that has to end with this exit code."""
    job = start(script, place, *words, before=before, python=python, **environment)
    assert job.wait() == code, job.printed()
    return job.printed()


def table(path: Path) -> list[dict[str, str]]:
    """Return the rows of a csv file, each a dict from its headings."""
    return list(csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines()))
