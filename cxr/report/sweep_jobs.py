"""The jobs of a sweep, what differs between them, and arms: the jobs that differ in nothing but their seed."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from cxr.report.without_paths import overrides_without_paths, settings_without_paths, text_without_paths

SEED = "seed"
_CHOICE = "sweep"  # names the sweep itself, the same for all its jobs
_LONG = 8  # characters: a longer number was drawn, not typed

Status = Literal["completed", "pruned", "failed", "running", "interrupted", "damaged"]


@dataclass(frozen=True)
class Job:
    """One job of a sweep, read from its folder.

    Args:
        folder: of the job.
        overrides: it was begun with, as typed (``optimizer.lr=0.001``).
        status: "damaged" where a file of it cannot be read.
        score: the best epoch's monitored figure, higher is better; None where the job has not ended, or has none.
        monitor: the name of that figure.
        epochs: whole ones that were trained.
        seconds: the job took; nan where it has not ended.
        reason: of a failed or damaged job, one line; "" of another.
        config: resolved, nested; {} where the job failed before it had one.
        curve: (epoch from 1, monitored figure) of each epoch that has it.
    """

    folder: Path
    overrides: tuple[str, ...]
    status: Status
    score: float | None = None
    monitor: str = ""
    epochs: int = 0
    seconds: float = math.nan
    reason: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    curve: tuple[tuple[int, float], ...] = ()

    @property
    def typed(self) -> dict[str, str]:
        """The overrides by key, but for the one that names the sweep."""
        pairs = (override.lstrip("+").partition("=") for override in self.overrides)
        return {key: value for key, _, value in pairs if key != _CHOICE}

    def value(self, key: str) -> str:
        """Return what ``key`` was set to, by an override or by default: so 1e-3 and 0.001 are the same."""
        node: Any = self.config
        for name in key.split("."):
            node = node.get(name) if isinstance(node, Mapping) else None
        if isinstance(node, bool):
            return str(node).lower()
        if isinstance(node, int | float | str):
            return str(node)
        return self.typed.get(key, "")  # the name of a group's file, or a list


@dataclass(frozen=True)
class Arm:
    """Jobs that differ in nothing but their seed, the best first; ``values`` are those of the swept keys."""

    values: tuple[str, ...]
    jobs: tuple[Job, ...]

    @property
    def scores(self) -> list[float]:
        """Scores of the completed jobs; a pruned one has seen fewer epochs and does not count."""
        return [job.score for job in self.jobs if job.status == "completed" and job.score is not None]

    @property
    def mean(self) -> float:
        """Mean score; nan where no job completed."""
        return statistics.fmean(self.scores) if self.scores else math.nan

    @property
    def deviation(self) -> float:
        """Standard deviation of the scores (n - 1); nan for fewer than two."""
        return statistics.stdev(self.scores) if len(self.scores) > 1 else math.nan


@dataclass(frozen=True)
class Sweep:
    """What a report says of the jobs of one sweep.

    Args:
        name: of the sweep's folder.
        jobs: all of them, by folder.
        keys: of the settings that differ, the seed aside.
        seeded: whether the seed differs too.
        shared: the overrides that all jobs have alike, ``key=value``.
        arms: with their jobs the best first; damaged jobs are in none.
    """

    name: str
    jobs: tuple[Job, ...]
    keys: tuple[str, ...]
    seeded: bool
    shared: tuple[str, ...]
    arms: tuple[Arm, ...]

    @property
    def monitor(self) -> str:
        """The name of the figure the jobs are judged by."""
        return next((job.monitor for job in self.jobs if job.monitor), "score")

    @property
    def finished(self) -> list[Job]:
        """Jobs with a score, arm by arm, the best first."""
        return [job for arm in self.arms for job in arm.jobs if job.score is not None]

    @property
    def best(self) -> Job | None:
        """The completed job with the highest score."""
        completed = [job for job in self.finished if job.status == "completed"]
        return max(completed, key=_score, default=None)


def compare(name: str, jobs: Sequence[Job]) -> Sweep:
    """Find what differs between the jobs of a sweep and group them into arms, the best first."""
    sound = [job for job in jobs if job.status != "damaged"]
    typed = list(dict.fromkeys(key for job in sound for key in job.typed))
    values = {key: {job.value(key) for job in sound} for key in typed}
    differ = [key for key in typed if len(values[key]) > 1]
    keys = tuple(key for key in differ if key != SEED)
    shared = tuple(f"{key}={min(values[key])}" for key in typed if key not in differ)
    return Sweep(name, tuple(jobs), keys, SEED in differ, shared, _arms(sound, keys))


def without_paths(sweep: Sweep) -> Sweep:
    """Return a sweep as its page and table show it: with pseudonyms in place of folders of films."""
    jobs = [
        replace(
            job,
            overrides=tuple(overrides_without_paths(job.overrides)),
            reason=text_without_paths(job.reason),
            config=settings_without_paths(job.config),
        )
        for job in sweep.jobs
    ]
    return compare(sweep.name, jobs)


def short(keys: Sequence[str]) -> list[str]:
    """Return the last word of each key, the whole key where two end alike."""
    words = [key.rpartition(".")[2] for key in keys]
    return [word if words.count(word) == 1 else key for key, word in zip(keys, words, strict=True)]


def number(value: str) -> float | None:
    """Return the finite number that a setting's value is, None for any other value."""
    try:
        read = float(value)
    except ValueError:
        return None
    return read if math.isfinite(read) else None


def shown(value: str) -> str:
    """Return a setting's value for a reader: a number of many digits with four of them, "–" for none."""
    read = number(value)
    return (value or "–") if read is None or len(value) <= _LONG else f"{read:.4g}"


def _arms(jobs: Iterable[Job], keys: Sequence[str]) -> tuple[Arm, ...]:
    groups: dict[tuple[str, ...], list[Job]] = {}
    for job in jobs:
        groups.setdefault(tuple(job.value(key) for key in keys), []).append(job)
    arms = [Arm(values, tuple(sorted(group, key=_score, reverse=True))) for values, group in groups.items()]
    # Arms of which no job completed come last, those with the best pruned job before the others
    return tuple(sorted(arms, key=_rank, reverse=True))


def _rank(arm: Arm) -> tuple[bool, float]:
    return bool(arm.scores), arm.mean if arm.scores else _score(arm.jobs[0])


def _score(job: Job) -> float:
    return -math.inf if job.score is None else job.score
