"""The report of a sweep: ``python -m cxr sweep outputs/sweeps/NAME``.

Prints its jobs, the best first, and writes ``sweep.csv`` and ``index.html`` into its folder. Nothing here imports
torch, and no job is touched: a sweep may be looked at while it runs.
"""

import argparse
import json
import math
from pathlib import Path
from typing import Any

import yaml
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from cxr import installation
from cxr.config.run_files import COMMAND, FAILED, LOCK, RESULT, locked
from cxr.files import DamagedFileError, read_mapping
from cxr.report.epochs import read_epochs
from cxr.report.sweep_jobs import Job, Status, Sweep, compare, without_paths
from cxr.report.sweep_page import sweep_page
from cxr.report.sweep_tables import command, counts, headings, problems, rows, write_csv
from cxr.report.words import LANGUAGES


def read_sweep(folder: Path) -> Sweep:
    """Return the jobs of a sweep's folder, compared."""
    return compare(folder.resolve().name, read_jobs(folder))


def read_jobs(folder: Path) -> list[Job]:
    """Return the jobs of a sweep's folder, by name; one whose files cannot be read has the status "damaged"."""
    begun = sorted(job for job in folder.iterdir() if (job / COMMAND).exists() or (job / FAILED).exists())
    return [_read_job(job) for job in begun]


def job_status(folder: Path) -> Status:
    """Return how the job in ``folder`` stands."""
    try:
        return _status(folder)
    except ValueError:
        return "damaged"


def write_report(folder: Path, language: str = "en") -> None:
    """Write ``sweep.csv`` and ``index.html``, a page in ``language``, into a sweep's folder.

    Both may be passed on, so folders of films are pseudonyms in them. ``print_report`` prints the command as typed.
    """
    sweep = without_paths(read_sweep(folder))
    write_csv(folder / "sweep.csv", sweep)
    sweep_page(folder / "index.html", sweep, _best_command(sweep), language)


def print_report(folder: Path) -> None:
    """Print the jobs of a sweep's folder, the best first, what went wrong, and how to train the best one again."""
    sweep, console = read_sweep(folder), Console(highlight=False)
    console.print(f"[bold]{sweep.name}[/bold]: {counts(sweep)}")
    if sweep.shared:
        console.print("the same in all:", " ".join(sweep.shared), markup=False)
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in headings(sweep):
        table.add_column(heading, overflow="fold")
    for row in rows(sweep):
        table.add_row(row.heading, *row.cells, style="bold" if row.kind else None)
    console.print(table)
    for job, why in problems(sweep):
        console.print(f"{job}\n    {why}", markup=False)
    best = _best_command(sweep)
    if best:
        console.print("the best run again:")
        console.print(best, markup=False, soft_wrap=True)


def _status(folder: Path) -> Status:
    if (folder / LOCK).exists() and locked(folder):
        return "running"
    if (folder / FAILED).exists():  # before the result: that may be of an earlier call with fewer epochs
        return "failed"
    if (folder / RESULT).exists():
        return "pruned" if _read(folder / RESULT, "status")["status"] == "pruned" else "completed"
    return "interrupted"


def _read_job(folder: Path) -> Job:
    try:
        status = _status(folder)
        failed = _read(folder / FAILED, "reason", "overrides", "seconds") if status == "failed" else {}
        begun = _read(folder / COMMAND, "overrides", "config") if (folder / COMMAND).exists() else failed
        ended = _read(folder / RESULT, "score", "seconds") if status in ("completed", "pruned") else failed
        config = begun.get("config", {})
        monitor = config.get("monitor", "")
        epochs = read_epochs(folder / "metrics.csv")
        return Job(
            folder,
            tuple(begun["overrides"]),
            status,
            score=ended.get("score"),
            monitor=monitor,
            epochs=len(epochs),
            seconds=ended.get("seconds", math.nan),
            reason=ended.get("reason", ""),
            config=config,
            curve=tuple((int(row["epoch"]) + 1, row[monitor]) for row in epochs if monitor in row),
        )
    except (OSError, ValueError) as error:
        return Job(folder, (), "damaged", reason=str(error))


def _read(path: Path, *needed: str) -> dict[str, Any]:
    """Return the mapping in a JSON file; ``ValueError`` where it holds none, or lacks a key that is needed."""
    try:
        return read_mapping(path, *needed)
    except DamagedFileError as error:
        raise ValueError(f"{error}; only jobs of train.py are reported".replace(str(path), path.name)) from error


def _best_command(sweep: Sweep) -> str:
    """The command of the best run with the threads of its last session; "" where no job completed."""
    if sweep.best is None:
        return ""
    return command(sweep.best, _threads(sweep.best.folder), _config_dir(sweep.best.folder))


def _config_dir(job: Path) -> str | None:
    """The folder that was given as ``--config-dir``; None where there was none."""
    try:
        hydra = yaml.safe_load((job / ".hydra" / "hydra.yaml").read_text(encoding="utf-8"))["hydra"]
        sources = {source["provider"]: str(source["path"]) for source in hydra["runtime"]["config_sources"]}
    except (OSError, LookupError, TypeError, yaml.YAMLError):  # absent, or cut short
        return None
    return sources.get("command-line")


def _threads(job: Path) -> int | None:
    try:
        return int(json.loads((job / "provenance.json").read_text(encoding="utf-8"))[-1]["hardware"]["threads"])
    except (OSError, ValueError, LookupError, TypeError):  # absent, cut short, or of an older version
        return None


def main(prog: str = "python -m cxr sweep") -> None:
    """Read the command line, print the report and write it; exit with 2 where there is no sweep."""
    parser = argparse.ArgumentParser(prog=prog, description="Report the jobs of a sweep.")
    parser.add_argument("folder", type=Path, help="of the sweep: outputs/sweeps/NAME")
    parser.add_argument("--language", choices=LANGUAGES, default="en", help="of the page")
    arguments = parser.parse_args()
    folder = arguments.folder
    if not folder.is_dir():
        known = ", ".join(sorted(str(p) for p in folder.parent.glob("*/"))) or "none"
        parser.exit(2, f"{folder}: there is no such folder; beside it there are: {known}\n")
    if not read_jobs(folder):
        parser.exit(
            2, f"{folder}: holds no job of a sweep; type a folder that `{installation.command('train')} -m …` wrote\n"
        )
    write_report(folder, arguments.language)
    print_report(folder)
    Console(highlight=False).print(f"page: {folder / 'index.html'}   ·   table: {folder / 'sweep.csv'}", soft_wrap=True)


if __name__ == "__main__":
    main()
