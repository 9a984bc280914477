"""How good maps are, as a csv file and as tables on the terminal."""

import csv
import math
from collections.abc import Sequence
from dataclasses import astuple, fields
from pathlib import Path

from rich.console import Console
from rich.table import Column, Table

from cxr.explain.scores import ALL, BASELINES, FIGURES, ScoreRow
from cxr.files import whole_file


def write_scores(path: Path, rows: Sequence[ScoreRow]) -> None:
    """Write the rows as csv, a column each field; what could not be measured is empty. Whole or not at all."""
    with whole_file(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(field.name for field in fields(ScoreRow))
        for row in rows:
            writer.writerow(_cell(value) for value in astuple(row))


def print_scores(rows: Sequence[ScoreRow], console: Console) -> None:
    """Print two tables: the mean over findings of every figure with its interval, and the hit rate of each finding."""
    if not rows:
        console.print("No map could be scored.")
        return
    console.print(_means_table(rows))
    if any(row.figure == "hit" for row in rows):
        _print_hits(rows, console)


def print_differences(rows: Sequence[ScoreRow], console: Console) -> None:
    """Print by how much each method exceeds each baseline: rows of ``paired_difference``."""
    measured = [row for row in rows if row.boxes]
    if not measured:
        return
    columns = list(dict.fromkeys((row.method.split(" - ")[1], row.figure) for row in measured))
    cells = {(*row.method.split(" - "), row.figure): row for row in measured}
    headings = [Column(f"{figure}\nover {baseline}", justify="right") for baseline, figure in columns]
    first = Column("method", no_wrap=True)
    table = Table(first, *headings, title="Paired differences with their 95 % intervals, mean over findings")
    for method in dict.fromkeys(method for method, *_ in cells):
        table.add_row(method, *(_signed(cells.get((method, *column))) for column in columns))
    console.print(table)


def _cell(value: str | float) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.4f}"
    return str(value)


def _means_table(rows: Sequence[ScoreRow]) -> Table:
    means = {(row.method, row.figure): row for row in rows if row.finding == ALL}
    figures = [figure for figure in FIGURES if any(figure == seen for _, seen in means)]
    headings = [_right(f"{figure} {FIGURES[figure]}") for figure in figures]
    table = Table(Column("method", no_wrap=True), *headings, title="Maps: mean over findings, and its 95 % interval")
    for method in dict.fromkeys(method for method, _ in means):
        if method == next((m for m, _ in means if m in BASELINES), None):
            table.add_section()
        table.add_row(method, *(_with_interval(means.get((method, figure))) for figure in figures))
    table.caption = "bootstrap over patients; ↑ high is good, ↓ low is; below the line: baselines"
    return table


def _print_hits(rows: Sequence[ScoreRow], console: Console) -> None:
    """Print a line a method and a numbered column a finding; its name stands below, too long to stand above."""
    hits = {(row.finding, row.method): row for row in rows if row.figure == "hit" and row.finding != ALL}
    findings = sorted({finding for finding, _ in hits})
    table = Table("method", *(_right(str(n)) for n in range(1, len(findings) + 1)), title="Hit rate of each finding")
    for method in dict.fromkeys(method for _, method in hits):
        of_method = [hits.get((finding, method)) for finding in findings]
        table.add_row(method, *(_share(row) for row in of_method))
    console.print(table)
    for n, finding in enumerate(findings, start=1):
        boxes = max(row.boxes for (name, _), row in hits.items() if name == finding)
        console.print(f"  {n}  {finding.replace('_', ' ')}: {boxes} boxes", highlight=False)


def _share(row: ScoreRow | None) -> str:
    return "–" if row is None or math.isnan(row.value) else f"{row.value:.2f}"


def _signed(row: ScoreRow | None) -> str:
    if row is None or math.isnan(row.value):
        return "–"
    return f"{row.value:+.2f}" if math.isnan(row.low) else f"{row.value:+.2f}\n{row.low:+.2f} {row.high:+.2f}"


def _with_interval(row: ScoreRow | None) -> str:
    if row is None or math.isnan(row.value) or math.isnan(row.low):
        return _share(row)
    return f"{row.value:.2f}  {row.low:.2f}–{row.high:.2f}"


def _right(heading: str) -> Column:
    return Column(heading, justify="right", overflow="fold")  # nothing is cut off on a narrow terminal
