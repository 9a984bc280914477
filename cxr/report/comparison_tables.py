"""What a comparison of two detectors, or of two arms, says: on a page and on the terminal."""

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Column, Table

from cxr.measure.comparison import Comparison
from cxr.report.evaluate_tables import shown, write_figures
from cxr.report.page import NotShown, Row, write_page
from cxr.report.words import words

Comparisons = Mapping[str, Comparison]
"""By the name of the figure."""


def comparison_table(comparison: Comparisons, language: str = "en") -> dict[str, Any] | None:
    """Return what a template shows of a comparison; None where there is none."""
    if not comparison:
        return None
    say, first = words(language)["evaluate"], next(iter(comparison.values()))
    margin = f"{first.margin:g}"
    lead = say["comparison_lead"].format(margin=margin, patients=first.patients)
    columns = [heading.format(margin=margin) for heading in say["comparison_columns"]]
    rows = [Row(say["differences"][name], _cells(one, say)) for name, one in comparison.items()]
    return {"lead": lead, "columns": columns, "rows": rows}


def print_comparison(comparison: Comparisons, console: Console) -> None:
    """Print by how much B exceeds A, what may be said of it, and how many patients would tell; nothing without a B."""
    told = comparison_table(comparison)
    if told is None:
        return
    headings = [Column(heading, justify="right", overflow="fold") for heading in told["columns"][1:]]
    table = Table("", *headings, title="B exceeds A by", title_justify="left")
    for row in told["rows"]:
        table.add_row(row.heading, *row.cells)
    console.print(table)


def write_arms(
    folder: Path, comparison: Comparisons, arms: Mapping[str, Sequence[str]], films: Mapping[str, Any]
) -> None:
    """Write ``metrics.json`` of a comparison of arms; ``arms`` names the runs of each, ``films`` are counted."""
    differences = {name: one.difference for name, one in comparison.items()}
    content = {"arms": arms, "second_over_first": differences, "comparison": comparison, "films": films}
    write_figures(folder / "metrics.json", content)


def arms_page(
    folder: Path,
    comparison: Comparisons,
    arms: Mapping[str, Sequence[str]],
    about: Mapping[str, str],
    warnings: Sequence[str],
    not_shown: NotShown,
    language: str = "en",
) -> Path:
    """Write ``index.html`` of a comparison of arms: the differences, and the figures of each run."""
    say = words(language)["evaluate"]
    return write_page(
        folder / "index.html",
        "arms.html",
        language,
        comparison=comparison_table(comparison, language),
        runs_columns=["", *(say["fold_figures"][name] for name in comparison)],
        runs=[row for place, letter in enumerate(arms) for row in _run_rows(comparison, place, letter, arms[letter])],
        about=about,
        warnings=warnings,
        not_shown=not_shown,
    )


def _cells(one: Comparison, say: Mapping[str, Any]) -> list[str]:
    needed = "–" if one.patients_needed is None else f"{one.patients_needed:,}"
    low, high = one.equivalence
    narrow = "–" if math.isnan(low) else f"[{low:+.3f}, {high:+.3f}]"
    verdict = say["verdicts"][one.verdict].format(margin=f"{one.margin:g}")
    return [shown(one.difference, signed=True), narrow, verdict, needed]


def _run_rows(comparison: Comparisons, place: int, letter: str, runs: Sequence[str]) -> list[Row]:
    """Return a line for each run of an arm, and at last their mean ± standard deviation."""
    values = [one.runs[place] for one in comparison.values()]
    rows = [Row(f"{letter}{n + 1}", [f"{of[n]:.3f}" for of in values]) for n in range(len(runs))]
    if len(runs) > 1:
        means = [f"{statistics.fmean(of):.3f} ± {statistics.stdev(of):.3f}" for of in values]
        rows.append(Row(f"{letter}\nmean ± SD", means))
    return rows
