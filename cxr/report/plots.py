"""The look of plots: the dark ground of the pages, light letters of the bundled font, no frames.

``rc_context(DARK)`` has to be open while a plot is drawn and while it is written: labels of ticks are made last.
"""

import io
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from cxr.fonts import figure_font
from cxr.palette import GROUND, INK

ACCENT = "#4cc9f0"
DPI = 110
DARK: dict[Any, Any] = {
    **{f"axes.spines.{side}": False for side in ("left", "right", "top", "bottom")},
    **{f"{axis}.color": INK for axis in ("text", "xtick", "ytick")},
    **{f"{axis}.major.size": 0 for axis in ("xtick", "ytick")},
    "axes.axisbelow": True,
    "axes.facecolor": GROUND,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.titlesize": 10,
    "figure.facecolor": GROUND,
    "font.family": figure_font().get_name(),
    "grid.color": "#2c3136",
    "legend.labelcolor": INK,
    "savefig.dpi": DPI,
}


def png(figure: Figure, **settings: Any) -> bytes:
    """Return a figure as a PNG, with ``settings`` of ``savefig``."""
    out = io.BytesIO()
    figure.savefig(out, format="png", **settings)
    return out.getvalue()


def panels(
    rows: int, columns: int, size: tuple[float, float], wspace: float | None = None, sharey: bool = False
) -> tuple[Figure, list[Axes]]:
    """Return a figure of ``rows`` × ``columns`` panels of ``size`` inches each, ``wspace`` of a panel between them."""
    layout = ConstrainedLayoutEngine(wspace=wspace)
    figure = Figure(figsize=(size[0] * columns, size[1] * rows), layout=layout)
    return figure, list(figure.subplots(rows, columns, squeeze=False, sharey=sharey).ravel())
