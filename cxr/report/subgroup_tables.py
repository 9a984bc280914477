"""Groups of films as words, as rows of a table, as ``subgroups.csv`` and for ``metrics.json``."""

import csv
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cxr.data.groups import NOT_STATED
from cxr.files import whole_file
from cxr.measure.subgroups import Beside, Group, Subgroups
from cxr.report.evaluate_tables import shown
from cxr.report.page import Row
from cxr.report.words import words

CSV = "subgroups.csv"


def group_label(kind: str, name: str, language: str) -> str:
    """Return what a group is called on a page: "women", or the name of a machine as it is."""
    return str(words(language)["evaluate"]["groups"]["values"].get(name, name))


def kind_label(kind: str, language: str) -> str:
    """Return what a kind of groups is called."""
    return str(words(language)["evaluate"]["groups"]["kinds"][kind])


def in_words(measured: Subgroups, language: str, worse_only: bool = False) -> list[str]:
    """Return a sentence for each finding, or one that there is none.

    With ``worse_only``, only for groups on which the detector is worse, and nothing where there are none.
    """
    told = [
        _sentence(group, figure, beside, measured.tests, language)
        for group, figure, beside in measured.differing()
        if beside.difference.value < 0 or not worse_only
    ]
    if told or worse_only:
        return told
    say = words(language)["evaluate"]["groups"]
    if not measured.tests:
        return [say["no_test"].format(least=measured.least)]
    return [say["none"].format(p=p_in_words(measured.smallest_p), tests=measured.tests)]


def p_in_words(p: float) -> str:
    """Return a p-value with two digits that count."""
    return f"{p:.2g}" if p >= 0.001 else "< 0.001"


def group_rows(measured: Subgroups, language: str) -> list[Row]:
    """Return a line for each group: its size, and each figure with its difference from the other films small beside it.

    An asterisk marks a finding.
    """
    names = list(measured.whole)
    return [
        Row(
            f"{group_label(group.kind, group.name, language)}\n{kind_label(group.kind, language)}",
            [str(group.films), str(group.patients), *(_cell(group.figures[name]) for name in names)],
        )
        for group in measured.groups
    ]


def left_out_in_words(measured: Subgroups, language: str) -> list[str]:
    """Return why something cannot be told: a sentence for the kinds of one group, one for each with small groups."""
    say = words(language)["evaluate"]["groups"]
    kinds: dict[str, list[str]] = defaultdict(list)
    for kind, name in measured.alone.items():
        kinds[group_label(kind, name, language)].append(kind_label(kind, language))
    lines = [say["alone"].format(kinds=say["between"].join(of), group=group) for group, of in kinds.items()]
    small = [
        say["too_few"].format(kind=kind_label(kind, language), films=films, least=measured.least)
        for kind, (films, _) in measured.too_few.items()
        if kind not in measured.alone
    ]
    return lines + small


def write_csv(folder: Path, measured: Mapping[str, Subgroups]) -> Path:
    """Write ``subgroups.csv``, a row a figure of a group; what is undefined is empty."""
    path = folder / CSV
    with whole_file(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        writer.writerows(row for checkpoint, groups in measured.items() for row in _csv_rows(checkpoint, groups))
    return path


def as_plain(measured: Subgroups) -> dict[str, Any]:
    """Return the groups for ``metrics.json``, by kind and name."""
    kinds: dict[str, dict[str, Any]] = {}
    for group in measured.groups:
        figures = {
            name: {
                "value": beside.value,
                "rest": beside.rest,
                "difference": beside.difference,
                "p": beside.p,
                "p_holm": beside.p_holm,
                "differs": beside.differs,
            }
            for name, beside in group.figures.items()
        }
        size = {"films": group.films, "patients": group.patients}
        kinds.setdefault(group.kind, {})[group.name] = {**size, "figures": figures}
    return {
        "least_patients": measured.least,
        "tests": measured.tests,
        "all_films": dict(measured.whole),
        "kinds": kinds,
        "too_few": {kind: {"films": f, "patients": p} for kind, (f, p) in measured.too_few.items()},
        "all_in_one_group": dict(measured.alone),
        "in_words": in_words(measured, "en"),
    }


_COLUMNS = (
    *("checkpoint", "kind", "group", "films", "patients", "figure", "value", "low", "high", "rest"),
    *("difference", "difference_low", "difference_high", "p", "p_holm", "differs"),
)


def _csv_rows(checkpoint: str, measured: Subgroups) -> Iterator[list[str]]:
    for group in measured.groups:
        for name, beside in group.figures.items():
            value, difference = beside.value, beside.difference
            numbers = [value.value, value.low, value.high, beside.rest]
            numbers += [difference.value, difference.low, difference.high, beside.p, beside.p_holm]
            sizes = [str(group.films), str(group.patients)]
            cells = ["" if math.isnan(number) else f"{number:.6g}" for number in numbers]
            yield [checkpoint, group.kind, group.name, *sizes, name, *cells, str(beside.differs).lower()]


def _sentence(group: Group, figure: str, beside: Beside, tests: int, language: str) -> str:
    say = words(language)["evaluate"]["groups"]
    by = beside.difference.value
    form = say["differs_unstated"] if group.name == NOT_STATED else say["differs"]
    return str(form).format(
        kind=kind_label(group.kind, language),
        group=group_label(group.kind, group.name, language),
        films=group.films,
        patients=group.patients,
        figure=say["figures"][figure],
        value=shown(beside.value),
        by=f"{abs(by):.3f}",
        direction=say["lower" if by < 0 else "higher"],
        p=p_in_words(beside.p_holm),
        tests=tests,
    )


def _cell(beside: Beside) -> str:
    if math.isnan(beside.difference.value):
        return shown(beside.value)
    p = "" if math.isnan(beside.p_holm) else f", p {p_in_words(beside.p_holm)}{'*' if beside.differs else ''}"
    return f"{shown(beside.value)}\n{beside.difference.value:+.3f}{p}"
