"""A sweep in words: the rows of its table, ``sweep.csv``, what went wrong, and the command of its best run."""

import csv
import math
import os
import shlex
from collections import Counter
from pathlib import Path

from cxr import installation
from cxr.files import whole_file
from cxr.report.page import Row
from cxr.report.sweep_jobs import SEED, Arm, Job, Sweep, short, shown


def headings(sweep: Sweep) -> tuple[str, ...]:
    """Return what the cells of a row stand for, settings by their short names."""
    return (*short(_columns(sweep)), sweep.monitor, "epochs", "duration", "status")


def rows(sweep: Sweep) -> list[Row]:
    """Return the table, the best arm first; an arm of several jobs has a row of the kind "mean" before theirs."""
    lines = []
    for arm in sweep.arms:
        if len(arm.jobs) > 1:
            completed = [f"n = {len(arm.scores)}"] if sweep.seeded else []
            cells = [*map(shown, arm.values), *completed, mean(arm), "", "", "mean"]
            lines.append(Row(cells[0], cells[1:], "mean"))
        for job in arm.jobs:
            values = [shown(job.value(key)) for key in _columns(sweep)]
            score = "–" if job.score is None else f"{job.score:.3f}"
            cells = [*values, score, str(job.epochs), duration(job.seconds), job.status]
            lines.append(Row(cells[0], cells[1:]))
    return lines


def mean(arm: Arm) -> str:
    """Return an arm's mean score with its standard deviation (n - 1), "–" where no job of it completed."""
    if not arm.scores:
        return "–"
    return f"{arm.mean:.3f}" + ("" if math.isnan(arm.deviation) else f" ± {arm.deviation:.3f}")


def duration(seconds: float) -> str:
    """Return a time in words, "–" for nan."""
    if math.isnan(seconds):
        return "–"
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def counts(sweep: Sweep) -> str:
    """Return how many jobs there are, and how many of each status."""
    each = Counter(job.status for job in sweep.jobs).most_common()
    return f"{len(sweep.jobs)} jobs" + "".join(f", {n} {status}" for status, n in each)


def problems(sweep: Sweep) -> list[tuple[str, str]]:
    """Return (job, why) of those that failed or cannot be read, then of those that have not ended."""
    ended_badly = [(job.folder.name, f"{job.status}: {job.reason}") for job in sweep.jobs if job.reason]
    unfinished = [
        (job.folder.name, f"{job.status} after {job.epochs} epochs")
        for job in sweep.jobs
        if job.status in ("running", "interrupted")
    ]
    return ended_badly + unfinished


def command(job: Job, threads: int | None, config_dir: str | None = None) -> str:
    """Return the line for a shell that trains ``job`` again, to the last bit on the same machine.

    ``threads`` is what torch had when the job was trained (sums depend on it), None where that is not known;
    ``config_dir`` the folder of the user's own YAML, None where the job had none.
    """
    typed = [override for override in job.overrides if not override.startswith("sweep=")]  # that would start the sweep
    environment = "" if threads in (None, os.cpu_count()) else f"OMP_NUM_THREADS={threads} "
    folder = [] if config_dir is None else ["--config-dir", config_dir]
    return environment + " ".join(filter(None, (installation.command("train"), shlex.join([*folder, *typed]))))


def write_csv(path: Path, sweep: Sweep) -> None:
    """Write a row a job, the best first; what is unknown is empty."""
    keys = _columns(sweep)
    with whole_file(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["folder", "status", "score", "epochs", "seconds", *keys, "reason"])
        damaged = [job for job in sweep.jobs if job.status == "damaged"]
        for job in (*(job for arm in sweep.arms for job in arm.jobs), *damaged):
            seconds = "" if math.isnan(job.seconds) else job.seconds
            values = [job.value(key) for key in keys]
            writer.writerow([job.folder.name, job.status, job.score, job.epochs, seconds, *values, job.reason])


def _columns(sweep: Sweep) -> tuple[str, ...]:
    return (*sweep.keys, SEED) if sweep.seeded else sweep.keys
