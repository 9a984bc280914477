"""What a detector promises beside what films gave, as a table of a page."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Column, Table

from cxr.detect.prediction import printed_threshold
from cxr.findings import FindingVocabulary
from cxr.measure.promises import FALSE_BOXES, SCREENING, Reached
from cxr.report.evaluate_tables import shown
from cxr.report.page import Row, finding_row
from cxr.report.promise_words import OUT_OF_FOLD, too_few
from cxr.report.words import words

LEVEL, FALSE_RATE = 0.1, 0.5  # of the terminal
SHOWN = (0.05, 0.1, 0.5, 1.0)
"""Levels and rates of a page; ``metrics.json`` has all."""


@dataclass(frozen=True)
class KeptHere:
    """The promises of a detector on the films of an evaluation.

    Args:
        reached: each promise, with what these films gave.
        split, films: that they were chosen on.
        chose: how many of the evaluation's films are among those.
    """

    reached: Sequence[Reached]
    split: str
    films: int
    chose: int


def promise_table(kept: KeptHere | None, findings: FindingVocabulary, language: str) -> dict[str, Any] | None:
    """Return what a template shows of promises; None where there are none."""
    if kept is None:
        return None
    say = words(language)["promises"]
    split = say["splits"].get(kept.split, kept.split)
    return {
        "lead": say["kept_lead"].format(films=kept.films, split=split),
        "warning": say["kept_on_these"].format(films=kept.chose) if kept.chose else "",
        "of_members": say["of_members"] if kept.split == OUT_OF_FOLD else "",
        "rows": [_row(one, findings, language) for one in kept.reached if one.promise.level in SHOWN],
    }


def print_promises(kept: KeptHere | None, console: Console) -> None:
    """Print what is promised at a tenth, or half a false box a film, and what these films gave; nothing without any."""
    if kept is None:
        return
    right = [Column(name, justify="right") for name in ("at most", "from score", "on patients")]
    table = Table("missed, or false", *right, "here", title_justify="left", caption_justify="left")
    table.title = f"Promises, made on {kept.films} {kept.split} films, beside what these films gave"
    table.caption = "a promise is of the mean over many new patients: on a few films more may be missed"
    say = words("en")["promises"]
    for one in kept.reached:
        if one.promise.level == (FALSE_RATE if one.of == FALSE_BOXES else LEVEL):
            none = one.promise.threshold is None
            reached = f"no promise: {too_few(one.promise)}" if none else shown(one.risk)
            name = say["rows"].get(one.of, one.of.replace("_", " "))
            score = "–" if one.promise.threshold is None else f"{printed_threshold(one.promise.threshold):.4g}"
            table.add_row(name, f"{one.promise.level:g}", score, str(one.promise.patients), reached)
    if kept.chose:
        table.caption += f". {say['kept_on_these'].format(films=kept.chose)}"
    console.print(table)


def _row(one: Reached, findings: FindingVocabulary, language: str) -> Row:
    say, of = words(language)["promises"], one.promise
    kind = one.of if one.of in (SCREENING, FALSE_BOXES) else "boxes"
    level = f"{of.level:g}" if kind == FALSE_BOXES else f"{100 * of.level:g} %"
    threshold = f"{say['no_threshold']}\n{too_few(of, language)}" if of.threshold is None else f"{of.threshold:.6g}"
    risk = shown(one.risk).replace(" ", "\n", 1)
    cells = [say["rows"][kind], level, str(of.patients), threshold, risk, str(one.risk.n)]
    return finding_row(findings, one.of, cells, language) if kind == "boxes" else Row("", cells)
