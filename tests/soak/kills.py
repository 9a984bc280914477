"""Kills a script at random moments, types the same command again, and compares its end with that of a run left alone.

A moment is drawn from the time that a whole run takes of a processor, so that other work on the machine does not decide
where in a run it falls. A run that ends before its moment came is compared, and the next one begins in a folder of its
own.
"""

import math
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from os import killpg, sysconf
from pathlib import Path

from scripts import Job, start
from soak.whole import contents

_LONGEST = 1200.0  # seconds for a run on a machine that does much else


@dataclass(frozen=True)
class Verb:
    """A command that is killed.

    Args:
        script: that is called.
        words: it is called with.
        named: one more word, which names the folder ``{}`` of the run.
        left: where the run is then, from the folder in which the command is typed.
    """

    script: str
    words: tuple[str, ...]
    named: str = "hydra.run.dir={}"
    left: str = "{}"


@dataclass
class Outcome:
    """What killing a command again and again showed."""

    kills: int = 0
    ended: int = 0
    seconds_alone: float = 0.0
    faults: list[str] = field(default_factory=list)


def kill_again_and_again(
    verb: Verb, place: Path, kills: int, seconds: float, chance: random.Random, name: str
) -> Outcome:
    """Kill ``verb`` at ``kills`` moments, or at as many as fit into ``seconds``."""
    outcome = Outcome()
    outcome.seconds_alone = _time_of_a_run(start(verb.script, place, *verb.words, verb.named.format(f"{name}_alone")))
    expected = contents(place / verb.left.format(f"{name}_alone"))
    until = time.monotonic() + seconds
    while outcome.kills < kills and time.monotonic() < until and len(outcome.faults) < 5:
        folder = f"{name}_{outcome.ended}"
        words = (*verb.words, verb.named.format(folder))
        killed = _until_its_end(verb.script, place, words, kills - outcome.kills, outcome, chance)
        outcome.ended += 1
        faults = list(differences(expected, contents(place / verb.left.format(folder))))
        outcome.faults += [f"{folder} after {killed} kills: {fault}" for fault in faults]
    return outcome


def _until_its_end(
    script: str, place: Path, words: tuple[str, ...], left: int, outcome: Outcome, chance: random.Random
) -> int:
    """Begin a command until it ends by itself, and return how often it was killed."""
    killed = 0
    while True:
        job = start(script, place, *words)
        moment = chance.uniform(0, outcome.seconds_alone) if killed < left else math.inf
        if not killed_after(job, moment, whole_session=chance.random() < 0.5):
            break
        killed += 1
        outcome.kills += 1
    if job.returncode != 0:
        outcome.faults.append(f"{' '.join(words)} ends with {job.returncode} after {killed} kills: {job.printed()}")
    return killed


def _time_of_a_run(job: Job) -> float:
    """Return how long a run that ends well has a processor."""
    seconds = 0.0
    while job.poll() is None:
        seconds = max(seconds, time_of_processor(job.pid))
        time.sleep(0.05)
    if job.returncode != 0:
        raise RuntimeError(job.printed())
    return seconds


def time_of_processor(pid: int) -> float:
    """Return for how long a process has had a processor, 0 where it has ended."""
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / sysconf("SC_CLK_TCK")
    return 0.0


def killed_after(
    job: Job, seconds: float, whole_session: bool, clock: Callable[[int], float] = time_of_processor
) -> bool:
    """Kill a script after so many seconds, and with ``whole_session`` its workers, too; False: it had ended before."""
    begun, longest = clock(job.pid), time.monotonic() + _LONGEST
    while clock(job.pid) - begun < seconds:
        if job.poll() is not None:
            return False
        if time.monotonic() > longest:
            raise TimeoutError(f"still at work after {_LONGEST:g} s: {job.printed()}")
        time.sleep(0.01)
    if whole_session:
        with suppress(ProcessLookupError):
            killpg(job.pid, signal.SIGKILL)
    job.send_signal(signal.SIGKILL)
    return job.wait() == -signal.SIGKILL


def differences(expected: dict[str, str], there: dict[str, str]) -> Iterator[str]:
    """Yield what a folder lacks, has beyond, or has in another way."""
    for name in sorted(expected.keys() | there.keys()):
        if name not in there:
            yield f"{name} is missing"
        elif name not in expected:
            yield f"{name} is one too many"
        elif expected[name] != there[name]:
            yield f"{name} is not the same"
