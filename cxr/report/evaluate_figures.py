"""Figures of an evaluation: FROC, precision and recall, ROC, reliability, mixed-up findings, sizes of boxes."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cxr.measure.evaluation import POOLED, Evaluation, FindingFigures
from cxr.measure.froc import FP_RATES
from cxr.measure.intervals import Values, clopper_pearson
from cxr.palette import INK, QUIET, colour
from cxr.report.plots import ACCENT, DARK, panels
from cxr.report.words import words

Evaluations = Mapping[str, Evaluation]
"""Checkpoint by the letter it is called on the page, one or two of them."""

_INKS = (ACCENT, "#ffd166")  # of the first and the second checkpoint
_Line = Literal["solid"] | tuple[float, tuple[float, ...]]
_LINES: tuple[_Line, _Line] = ("solid", (0, (4, 2)))
_LEAST = 1 / 32  # false positives a film: what lies left of it is drawn there, the axis being logarithmic


@rc_context(DARK)
def evaluation_figures(folder: Path, evaluations: Evaluations, language: str = "en") -> dict[str, Path]:
    """Draw every figure into ``folder``, its words in ``language``; return its path by name, in the order of a page."""
    folder.mkdir(exist_ok=True)
    draw: dict[str, Callable[[Evaluations, str], Figure]] = {
        "froc": froc_figure,
        "precision_recall": precision_recall_figure,
        "roc": roc_figure,
        "reliability": reliability_figure,
        "confusion": confusion_figure,
        "sizes": sizes_figure,
    }
    paths = {}
    for name, figure in draw.items():
        paths[name] = folder / f"{name}.png"
        figure(evaluations, language).savefig(paths[name], pil_kwargs={"compress_level": 6})
    return paths


def froc_figure(evaluations: Evaluations, language: str = "en") -> Figure:
    """Sensitivity against false positives a film: all findings with the rates marked, and each finding."""
    figure, (pooled, single) = _curves(
        evaluations, language, lambda measured: (measured.curve.false_positives, measured.curve.sensitivity)
    )
    for evaluation, ink in zip(evaluations.values(), _INKS, strict=False):
        for rate, point in zip(FP_RATES, evaluation.per_finding[POOLED].points, strict=True):
            pooled.plot([rate] * 2, [point.low, point.high], color=ink, linewidth=3, alpha=0.45)
            pooled.plot([rate], [point.sensitivity], "o", color=ink, markersize=6)
    say = words(language)["evaluate"]["axes"]
    for axes in (pooled, single):
        axes.set_xscale("log", base=2)
        axes.set(xlim=(_LEAST, 2 * FP_RATES[-1]), xlabel=say["false_positives"], ylabel=say["sensitivity"])
        axes.set_xticks(FP_RATES, ["1/8", "1/4", "1/2", "1", "2", "4", "8"])
        axes.minorticks_off()
    return figure


def precision_recall_figure(evaluations: Evaluations, language: str = "en") -> Figure:
    """Precision against recall of the boxes: all findings together, and each finding."""
    figure, places = _curves(evaluations, language, lambda measured: measured.precision_recall)
    say = words(language)["evaluate"]["axes"]
    for axes in places:
        axes.set(xlim=(-0.02, 1.02), xlabel=say["recall"], ylabel=say["precision"])
    return figure


def roc_figure(evaluations: Evaluations, language: str = "en") -> Figure:
    """Sensitivity against 1 - specificity of "this film is abnormal", with the operating point where there is one."""
    say = words(language)["evaluate"]["axes"]
    figure, axes = _square()
    for (name, evaluation), ink in zip(evaluations.items(), _INKS, strict=False):
        roc, area = evaluation.roc, evaluation.per_finding[POOLED].auc.value
        label = say["area"].format(name=_called(name, evaluations, say), area=f"{area:.3f}")
        axes.plot(1 - roc.specificity, roc.sensitivity, color=ink, linewidth=2, label=label)
        if evaluation.screening is not None:
            sensitivity, specificity = (evaluation.screening.figures[k].value for k in ("sensitivity", "specificity"))
            axes.plot([1 - specificity], [sensitivity], "D", color=ink, markersize=9, markeredgecolor=INK)
    axes.set(xlabel=say["false_positive_rate"], ylabel=say["film_sensitivity"])
    _dress(axes, say["roc"])
    return figure


def reliability_figure(evaluations: Evaluations, language: str = "en") -> Figure:
    """Share of abnormal films against their score, in bins of equally many films, with intervals."""
    say = words(language)["evaluate"]["axes"]
    figure, axes = _square()
    for (name, evaluation), ink in zip(evaluations.items(), _INKS, strict=False):
        bins = evaluation.calibration.bins
        ece = f"{evaluation.calibration.ece.value:.3f}"
        label = say["bins"].format(name=_called(name, evaluations, say), bins=len(bins), ece=ece)
        axes.plot([b.score for b in bins], [b.positive.value for b in bins], "o-", color=ink, label=label)
        for b in bins:
            axes.plot([b.score] * 2, [b.positive.low, b.positive.high], color=ink, linewidth=3, alpha=0.35)
    axes.set(xlabel=say["mean_score"], ylabel=say["abnormal_share"])
    _dress(axes, say["reliability"])
    return figure


def confusion_figure(evaluations: Evaluations, language: str = "en") -> Figure:
    """What was detected where a reader marked a finding; small names of findings, counts in the cells."""
    say = words(language)["evaluate"]["axes"]
    names = next(iter(evaluations.values())).names
    side = 2.6 + 0.62 * len(names)
    figure, places = _beside(len(evaluations), size=(side + 1.4, side))
    for place, (name, evaluation) in zip(places, evaluations.items(), strict=True):
        labels = [evaluation.findings.label(finding, language) for finding in names]
        counts = evaluation.confusion
        share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
        share[-1] = 0  # the false alarms are no share of anything marked
        place.imshow(share, cmap="viridis", vmin=0, vmax=1)
        for (row, column), count in np.ndenumerate(counts):
            ink = "#000000" if share[row, column] > 0.6 else INK
            if count:
                place.text(column, row, str(count), ha="center", va="center", color=ink, fontsize=9)
        ticks = range(len(labels) + 1)
        place.set_xticks(ticks, [*labels, say["not_detected"]], rotation=40, ha="right", rotation_mode="anchor")
        place.set_yticks(ticks, [*labels, say["nothing_marked"]])
        place.set(xlabel=say["detected"], ylabel=say["marked"])
        _dress(place, _called(name, evaluations, say))
        place.set_ylim(len(labels) + 0.5, -0.5)
        place.grid(visible=False)
    return figure


def sizes_figure(evaluations: Evaluations, language: str = "en") -> Figure:
    """Sensitivity by size of the true box."""
    say = words(language)["evaluate"]["axes"]
    figure, (axes,) = _beside(1)
    strata = next(iter(evaluations.values())).sizes
    width = 0.7 / len(evaluations)
    for i, (evaluation, ink) in enumerate(zip(evaluations.values(), _INKS, strict=False)):
        for x, stratum in enumerate(evaluation.sizes):
            if not stratum.boxes:
                continue
            at = x + (i - (len(evaluations) - 1) / 2) * width
            value = stratum.hits / stratum.boxes
            axes.bar([at], [value], width * 0.92, color=ink, alpha=0.85)
            axes.plot([at, at], clopper_pearson(stratum.hits, stratum.boxes), color=INK, linewidth=1.5)
    ticks = [f"{100 * s.low:g}–{100 * s.high:g} %\n" + say["boxes"].format(boxes=s.boxes) for s in strata]
    axes.set_xticks(range(len(strata)), ticks)
    axes.set(xlabel=say["box_area"], ylabel=say["sensitivity"], xlim=(-0.6, len(strata) - 0.4))
    _dress(axes, say["sizes"])
    return figure


def _curves(
    evaluations: Evaluations, language: str, curve: Callable[[FindingFigures], tuple[Values, Values]]
) -> tuple[Figure, list[Axes]]:
    """Draw a curve of all findings of each checkpoint, and beside it one of each finding that any film has.

    The second checkpoint's findings are dashed.
    """
    say = words(language)["evaluate"]["axes"]
    figure, (pooled, single) = _beside(2)
    for (name, evaluation), ink, line in zip(evaluations.items(), _INKS, _LINES, strict=False):
        _steps(pooled, curve(evaluation.per_finding[POOLED]), ink, _called(name, evaluations, say))
        for finding in evaluation.names:
            measured = evaluation.per_finding[finding]
            if measured.boxes:
                label = f"{evaluation.findings.label(finding, language)} ({measured.boxes})" if line == "solid" else ""
                _steps(single, curve(measured), colour(evaluation.findings, finding), label, line)
    _dress(pooled, say["pooled"])
    _dress(single, say["each_dashed" if len(evaluations) > 1 else "each"])
    return figure, [pooled, single]


def _square() -> tuple[Figure, Axes]:
    """A figure of shares against shares, with its diagonal."""
    figure, (axes,) = _beside(1)
    axes.plot([0, 1], [0, 1], color=QUIET, linewidth=1, linestyle=":")
    axes.set(xlim=(-0.02, 1.02), aspect="equal")
    return figure, axes


def _beside(count: int, size: tuple[float, float] = (5.4, 4.6)) -> tuple[Figure, list[Axes]]:
    return panels(1, count, size, wspace=0.06)


def _steps(axes: Axes, curve: tuple[Values, Values], ink: str, label: str, line: _Line = "solid") -> None:
    """Draw a curve that holds its value until the next threshold."""
    axes.plot(*curve, color=ink, linewidth=1.8, linestyle=line, label=label or None, drawstyle="steps-post")


def _called(name: str, evaluations: Evaluations, say: Mapping[str, str]) -> str:
    return say["checkpoint"].format(name=name) if len(evaluations) > 1 else say["this_detector"]


def _dress(axes: Axes, title: str) -> None:
    """Add the title and, where curves have names, the legend; the y axis goes from 0 to 1."""
    axes.set(ylim=(-0.02, 1.02), title=title)
    if axes.get_legend_handles_labels()[1]:
        axes.legend(loc="best", frameon=True, facecolor="#1c2024", edgecolor="#33393f")
