"""Figures of a sweep: the score against each swept value, parallel coordinates, learning curves."""

import math
import statistics
from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cxr.palette import GROUND, INK, QUIET
from cxr.report.plots import ACCENT, panels
from cxr.report.sweep_jobs import Job, Sweep, number, short, shown

_LOG_FROM = 20  # times the smallest value: where a swept value is drawn on a logarithmic axis
_NAMED = 10  # arms that have a colour and a name beside the learning curves; more are hard to distinguish
_PLATE = {"facecolor": GROUND, "edgecolor": "none", "pad": 1.5, "alpha": 0.8}  # behind a letter on a line


def sweep_figures(sweep: Sweep) -> dict[str, Figure]:
    """Return the figures by name, in the order a page shows them; {} where no job has a score."""
    if not sweep.finished:
        return {}
    figures = {}
    if sweep.keys:
        figures["values"] = values_figure(sweep)
    if len(sweep.keys) > 1 and sweep.best:
        figures["parallel"] = parallel_figure(sweep)
    return figures | {"curves": curves_figure(sweep)}


def values_figure(sweep: Sweep) -> Figure:
    """Score against each swept value: a dot a completed job, a cross a pruned one, a line through the means."""
    columns = min(2, len(sweep.keys))
    figure, places = panels(math.ceil(len(sweep.keys) / columns), columns, (5.4, 4.0))
    for axes in places[len(sweep.keys) :]:
        axes.set_visible(False)
    for axes, key in zip(places, sweep.keys, strict=False):
        scale = Scale([job.value(key) for job in sweep.finished])
        scores: dict[float, list[float]] = {}
        for job, score in _scored(sweep):
            x = scale.place(job.value(key))
            if job.status == "completed":
                scores.setdefault(x, []).append(score)
            axes.plot(x, score, "o" if job.status == "completed" else "x", color=ACCENT, alpha=0.75, markersize=7)
        if any(len(of_value) > 1 for of_value in scores.values()):  # else it would only join the dots
            means = [statistics.fmean(scores[x]) for x in sorted(scores)]
            axes.plot(
                sorted(scores), means, color=INK, linewidth=0 if scale.categories else 1.5, marker="_", markersize=18
            )
        scale.dress(axes)
        axes.set(xlabel=key, ylabel=sweep.monitor)
    return figure


def parallel_figure(sweep: Sweep) -> Figure:
    """A line a completed job across its values to its score, brighter the higher it is."""
    completed = [(job, score) for job, score in _scored(sweep) if job.status == "completed"]
    completed.sort(key=lambda one: one[1])  # the best is drawn last, on top
    columns = [[job.value(key) for job, _ in completed] for key in sweep.keys]
    figure, (axes,) = panels(1, 1, (2.2 * len(columns) + 3.4, 4.4))
    scales = [*map(Scale, columns), Scale([f"{score:.3f}" for _, score in completed], linear=True)]
    for job, score in completed:
        values = [*(job.value(key) for key in sweep.keys), f"{score:.3f}"]
        path = [scale.fraction(value) for scale, value in zip(scales, values, strict=True)]
        axes.plot(range(len(path)), path, color=colormaps["viridis"](0.15 + 0.85 * path[-1]), linewidth=2, alpha=0.9)
    for x, scale in enumerate(scales):
        axes.axvline(x, color=QUIET, linewidth=1)
        for mark in scale.marks():
            axes.text(x, scale.fraction(mark), f" {shown(mark)}", fontsize=9, va="center", bbox=_PLATE)
    axes.set_xticks(range(len(scales)), [*sweep.keys, sweep.monitor])
    axes.set(yticks=[], xlim=(-0.15, len(columns) + 0.45))
    axes.grid(visible=False)
    return figure


def curves_figure(sweep: Sweep) -> Figure:
    """The monitored figure over the epochs, a line a job; jobs of an arm share a colour, the arms named best first."""
    named = min(len(sweep.arms), _NAMED)
    figure, (axes,) = panels(1, 1, (10.8, 4.3 + 0.12 * named))
    colours = [*colormaps["turbo"](np.linspace(0.88, 0.14, named))]
    for i, arm in enumerate(sweep.arms):
        name = ", ".join(f"{key}={shown(value)}" for key, value in zip(short(sweep.keys), arm.values, strict=True))
        colour = colours[i] if i < named else QUIET
        for job in arm.jobs:
            line = "solid" if job.status == "completed" else (0, (4, 2))
            points = np.array(job.curve).reshape(-1, 2)
            axes.plot(*points.T, color=colour, linestyle=line, linewidth=1.6, marker=".", zorder=2 + 1 / (i + 1))
        if sweep.keys and i <= named:
            axes.plot([], [], color=colour, label=name if i < named else "other arms")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="epoch", ylabel=sweep.monitor)
    if sweep.keys:
        figure.legend(loc="outside lower left", ncols=2, frameon=False, fontsize=9)
    return figure


class Scale:
    """Where the values of one setting lie on an axis: numbers by size, anything else side by side by name."""

    def __init__(self, values: Sequence[str], linear: bool = False) -> None:
        self._numbers = {value: read for value in values if (read := number(value)) is not None}
        self.categories = [] if len(self._numbers) == len(set(values)) else sorted(set(values))
        low, high = min(self._numbers.values(), default=0), max(self._numbers.values(), default=0)
        self.log = not linear and not self.categories and low > 0 and high > _LOG_FROM * low

    def place(self, value: str) -> float:
        """Return where on an axis ``value`` lies."""
        return float(self.categories.index(value)) if self.categories else self._numbers[value]

    def fraction(self, value: str) -> float:
        """Return where between the least (0) and the greatest (1) of the values ``value`` lies; 0.5 if it is alone."""
        places = [self.place(v) for v in self.categories or self._numbers]
        low, at, high = (math.log(p) if self.log else p for p in (min(places), self.place(value), max(places)))
        return (at - low) / (high - low) if high > low else 0.5

    def marks(self) -> list[str]:
        """Return the values to write beside an axis: all of a few, else the least and the greatest."""
        values = self.categories or sorted(self._numbers, key=self.place)
        return values if self.categories or len(values) <= 6 else [values[0], values[-1]]

    def dress(self, axes: Axes) -> None:
        """Set scale and ticks of the x axis."""
        if self.log:
            axes.set_xscale("log")
        if self.categories:
            names = [shown(value) for value in self.categories]
            axes.set_xticks(range(len(names)), names, rotation=25 if len(names) > 4 else 0)
            axes.set_xlim(-0.5, len(self.categories) - 0.5)
        elif len(self._numbers) <= 6:
            axes.set_xticks(list(self._numbers.values()), [shown(value) for value in self._numbers])
            axes.minorticks_off()
        axes.margins(x=0.08)


def _scored(sweep: Sweep) -> list[tuple[Job, float]]:
    return [(job, job.score) for job in sweep.finished if job.score is not None]
