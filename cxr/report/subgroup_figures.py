"""Forest plots: a figure of each group of films with its interval, beside that of all films."""

import math
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure

from cxr.measure.subgroups import Group, Subgroups
from cxr.palette import INK, QUIET
from cxr.report.plots import ACCENT, DARK, panels
from cxr.report.subgroup_tables import group_label, kind_label
from cxr.report.words import words

_DIFFERS = "#ffd166"
_INKS, _MARKS = (ACCENT, "#c792ea"), ("o", "s")  # of the first and the second checkpoint
_ROW, _FRAME = 0.34, 1.1  # inches: of a group, and of what stands around them
_LONGEST = 26  # letters of a group's name


@rc_context(DARK)
def forest_figures(folder: Path, measured: Mapping[str, Subgroups], language: str) -> dict[str, Path]:
    """Draw a forest plot of each figure that any group has; return its path by the figure's name."""
    folder.mkdir(exist_ok=True)
    paths = {}
    for name in next(iter(measured.values())).whole:
        if not all(math.isnan(group.figures[name].value.value) for group in _groups(measured)):
            paths[name] = folder / f"subgroups_{name.replace('@', '_at_')}.png"
            forest_figure(measured, name, language).savefig(paths[name], pil_kwargs={"compress_level": 6})
    return paths


def forest_figure(measured: Mapping[str, Subgroups], name: str, language: str) -> Figure:
    """Return the forest plot of one figure. A line a group, in the order of the table; yellow ones differ."""
    say = words(language)["evaluate"]["groups"]
    lines = list(dict.fromkeys((group.kind, group.name) for group in _groups(measured)))
    figure, (axes,) = panels(1, 1, (5.6, _FRAME + _ROW * len(lines)))
    apart = 0.26 if len(measured) > 1 else 0.0
    for number, subgroups in enumerate(measured.values()):
        axes.axvline(subgroups.whole[name], color=_INKS[number], linewidth=1, linestyle=":")
        for group in subgroups.groups:
            beside = group.figures[name]
            row = lines.index((group.kind, group.name)) + apart * (number - (len(measured) - 1) / 2)
            ink = _DIFFERS if beside.differs else _INKS[number]
            if not math.isnan(beside.value.low):
                axes.plot([beside.value.low, beside.value.high], [row, row], color=ink, linewidth=2, alpha=0.7)
            axes.plot([beside.value.value], [row], _MARKS[number], color=ink, markersize=6)
    for place, (before, after) in enumerate(pairwise(lines)):
        if before[0] != after[0]:
            axes.axhline(place + 0.5, color=QUIET, linewidth=0.5)
    sizes = {(group.kind, group.name): group.patients for group in _groups(measured)}
    axes.set_yticks(range(len(lines)), [_tick(kind, one, sizes[kind, one], language) for kind, one in lines])
    axes.set(xlim=(_left(measured, name), 1.02), ylim=(len(lines) - 0.5, -0.5), xlabel=say["figures"][name])
    axes.locator_params(axis="x", nbins=5)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", colors=INK, labelsize=9)
    return figure


def _left(measured: Mapping[str, Subgroups], name: str) -> float:
    """Return where the axis begins: at a tenth below all intervals, so that small differences can be seen."""
    ends = [
        end for group in _groups(measured) for end in (group.figures[name].value.low, group.figures[name].value.value)
    ]
    lowest = min((end for end in ends if not math.isnan(end)), default=0.0)
    return math.floor(10 * max(lowest - 0.02, 0)) / 10


def _groups(measured: Mapping[str, Subgroups]) -> list[Group]:
    return [group for subgroups in measured.values() for group in subgroups.groups]


def _tick(kind: str, name: str, patients: int, language: str) -> str:
    label = group_label(kind, name, language)
    label = label if len(label) <= _LONGEST else f"{label[: _LONGEST - 3]}..."
    return f"{kind_label(kind, language)} · {label} ({patients})"
