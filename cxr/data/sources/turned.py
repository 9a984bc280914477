"""The box around a shape that an annotator turned."""

import math
from collections.abc import Iterable

from cxr.data.sources.boxes import Box

Point = tuple[float, float]


def around(points: Iterable[Point]) -> Box:
    """Return the box around points."""
    across, down = zip(*points, strict=True)
    return min(across), min(down), max(across), max(down)


def turned_rectangle(box: Box, degrees: float, pivot: Point) -> Box:
    """Return the box around a rectangle that is turned clockwise about ``pivot``; all in pixels, y downwards."""
    x0, y0, x1, y1 = box
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return around(
        (pivot[0] + (x - pivot[0]) * cosine - (y - pivot[1]) * sine,
         pivot[1] + (x - pivot[0]) * sine + (y - pivot[1]) * cosine)
        for x in (x0, x1) for y in (y0, y1)
    )  # fmt: skip


def turned_ellipse(center: Point, radii: Point, degrees: float) -> Box:
    """Return the box around an ellipse whose axes are turned clockwise."""
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    across = math.hypot(radii[0] * cosine, radii[1] * sine)
    down = math.hypot(radii[0] * sine, radii[1] * cosine)
    return center[0] - across, center[1] - down, center[0] + across, center[1] + down
