"""The pictures of a model card: dark ink on white, as they are printed."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes

from cxr.report.plots import DARK, panels, png
from cxr.report.words import words

_INK, _LINE, _QUIET, _DIFFERS = "#1d2329", "#0b6e99", "#8a939b", "#b7791f"
LIGHT: dict[Any, Any] = DARK | {
    **{f"{axis}.color": _INK for axis in ("text", "xtick", "ytick")},
    "axes.facecolor": "white",
    "axes.labelcolor": _INK,
    "figure.facecolor": "white",
    "grid.color": "#e3e6e8",
    "legend.labelcolor": _INK,
    "savefig.dpi": 150,
}
_SIZE = (4.6, 3.1)  # inches
_LONGEST = 34  # letters of a group's name


@rc_context(LIGHT)
def froc_picture(points: Sequence[Mapping[str, Any]], language: str) -> bytes:
    """Return sensitivity against false boxes a film as a PNG: ``froc`` of ``metrics.json``."""
    say = words(language)["card"]["axes"]
    figure, (axes,) = panels(1, 1, _SIZE)
    known = [point for point in points if point["sensitivity"] is not None]
    rates = [point["rate"] for point in known]
    axes.plot(rates, [point["sensitivity"] for point in known], "o-", color=_LINE, markersize=5)
    _whiskers(axes, rates, [(point["low"], point["high"]) for point in known])
    axes.set_xscale("log", base=2)
    axes.set(ylim=(0, 1.03), xlabel=say["false_boxes"], ylabel=say["sensitivity"])
    axes.set_xticks([point["rate"] for point in points], [_fraction(point["rate"]) for point in points])
    axes.minorticks_off()
    return png(figure)


@rc_context(LIGHT)
def reliability_picture(bins: Sequence[Mapping[str, Any]], language: str) -> bytes:
    """Return the share of abnormal films against their score as a PNG: ``reliability`` of ``metrics.json``."""
    say = words(language)["card"]["axes"]
    figure, (axes,) = panels(1, 1, _SIZE)
    axes.plot([0, 1], [0, 1], color=_QUIET, linewidth=1, linestyle=":")
    scores = [one["score"] for one in bins]
    axes.plot(scores, [one["positive"]["value"] for one in bins], "o-", color=_LINE, markersize=5)
    _whiskers(axes, scores, [(one["positive"]["low"], one["positive"]["high"]) for one in bins])
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.03), xlabel=say["score"], ylabel=say["abnormal"])
    return png(figure)


@rc_context(LIGHT)
def forest_picture(lines: Sequence[tuple[str, Mapping[str, Any]]], whole: float | None) -> bytes:
    """Return figures of groups with their intervals, a line each, as a PNG; ``whole`` is that of all films."""
    figure, (axes,) = panels(1, 1, (_SIZE[0] + 1.4, 0.8 + 0.26 * len(lines)))
    if whole is not None:
        axes.axvline(whole, color=_QUIET, linewidth=1, linestyle=":")
    for row, (_, one) in enumerate(lines):
        ink = _DIFFERS if one["differs"] else _LINE
        if one["low"] is not None and one["high"] is not None:
            axes.plot([one["low"], one["high"]], [row, row], color=ink, linewidth=2.5, alpha=0.5)
        if one["value"] is not None:
            axes.plot([one["value"]], [row], "o", color=ink, markersize=6)
    axes.set_yticks(range(len(lines)), [textwrap.shorten(name, _LONGEST, placeholder="…") for name, _ in lines])
    axes.set(xlim=(-0.02, 1.02), ylim=(len(lines) - 0.5, -0.5))
    axes.grid(visible=False, axis="y")
    return png(figure)


def _whiskers(axes: Axes, places: Sequence[float], intervals: Sequence[tuple[float | None, float | None]]) -> None:
    for place, (low, high) in zip(places, intervals, strict=True):
        if low is not None and high is not None:
            axes.plot([place, place], [low, high], color=_LINE, linewidth=2.5, alpha=0.4)


def _fraction(rate: float) -> str:
    return f"1/{round(1 / rate)}" if rate < 1 else f"{rate:g}"
