"""A plot of how good the maps of each method are."""

import math
from collections.abc import Sequence
from pathlib import Path

from matplotlib import rc_context

from cxr.explain.scores import ALL, BASELINES, ScoreRow
from cxr.palette import QUIET
from cxr.report.methods import in_order, method_text
from cxr.report.plots import ACCENT, DARK, panels
from cxr.report.words import words


@rc_context(DARK)
def score_plot(rows: Sequence[ScoreRow], path: Path, language: str = "en") -> Path:
    """Plot hit rate and energy inside the box by method, means over findings with their 95 % intervals."""
    say = words(language)
    means = {(row.method, row.figure): row for row in rows if row.finding == ALL}
    methods = in_order(method for method, _ in means)
    # The space keeps 1.0 of one axis clear of 0.0 of the next
    figure, places = panels(1, 2, (5, 1.6 + 0.34 * len(methods)), wspace=0.05, sharey=True)
    for axes, key in zip(places, ("hit", "energy"), strict=True):
        for y, method in enumerate(methods):
            row = means.get((method, key))
            if row is None or math.isnan(row.value):
                continue
            ink = QUIET if method in BASELINES else ACCENT
            axes.plot([row.low, row.high], [y, y], color=ink, linewidth=2.5, solid_capstyle="round")
            axes.plot([row.value], [y], "o", color=ink, markersize=8)
        axes.set_title(say[f"fig_{key}"], linespacing=1.3)
        axes.set(xlim=(-0.02, 1.02), ylim=(len(methods) - 0.5, -0.5))
        axes.set_yticks(range(len(methods)), [method_text(m, language).name for m in methods])
        axes.grid(axis="y", visible=False)
    figure.supxlabel(f"{say['interval']} · {say['baselines']}", color=QUIET, fontsize=10)
    figure.savefig(path, pil_kwargs={"compress_level": 2})
    return path
