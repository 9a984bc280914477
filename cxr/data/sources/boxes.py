"""Numbers of a table → a box on its film: what can be none is refused, what overhangs the border by a hair is cut."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cxr.data.sources.tables import shown

Box = tuple[float, float, float, float]
"""xyxy in pixels of the film, x0 < x1 and y0 < y1."""

LARGEST_SIDE = 65535
"""Pixels of the longest side a film can have (Rows and Columns of DICOM are 16-bit); stands in for an unknown size."""

# How far a box may reach over the border of its film: a pixel, or a thousandth of the side where that is more. Readers
# draw on a screen of about a thousand lines, where one line is that much of a large film, and fractions in tables are
# rounded to three or four digits. Published boxes end one pixel outside for these reasons; whatever reaches further
# was drawn on another film or is damaged.
_OVERHANG_PIXELS = 1.0
_OVERHANG_SHARE = 1 / 1000

_BEYOND = 1e30  # further out than any film; what is added to it is still finite in float32


def numbers(cells: Sequence[str]) -> tuple[float, ...] | None:
    """Return the numbers of a row's box; None where all its cells are empty, which says that there is no box.

    Raises ``ValueError`` where only some are empty, and for what is no number.
    """
    if not any(cells):
        return None
    if missing := sum(not cell for cell in cells):
        raise ValueError(f"{missing} of the {len(cells)} cells of its box are empty, expected none, or all")
    return tuple(map(number, cells))


def number(cell: str) -> float:
    """Return the number in a cell. Raises ``ValueError``; Python's own reading takes 1_0 for 10."""
    try:
        if "_" not in cell:
            return float(cell)
    except ValueError:
        pass
    raise ValueError(f"{shown(cell)} is no number")


def corners(values: Sequence[float]) -> Box:
    """Return the box with the corners x0, y0, x1, y1. Raises ``ValueError`` for numbers that can be no box."""
    x0, y0, x1, y1 = _finite(values)
    if x1 <= x0 or y1 <= y0:
        raise ValueError(f"the box {_text((x0, y0, x1, y1))} has no area, expected x0 < x1 and y0 < y1")
    return x0, y0, x1, y1


def corner_and_size(values: Sequence[float]) -> Box:
    """Return the box with the given x, y, width and height. Raises ``ValueError`` for numbers that can be no box."""
    x, y, width, height = _finite(values)
    if width <= 0 or height <= 0:
        raise ValueError(f"the box {_text((x, y, width, height))} has no area, expected a width and height above 0")
    x0, y0, x1, y1 = _finite((x, y, x + width, y + height))
    return x0, y0, x1, y1


def rounded(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return values as float32 holds them, without its overflow: boxes read before stay the same to the bit."""
    return np.clip(values, -_BEYOND, _BEYOND).astype(np.float32).astype(np.float64)


def fit(boxes: NDArray[np.float64], sizes: NDArray[np.float64]) -> tuple[NDArray[np.float32], dict[int, str]]:
    """Return boxes cut to their films, and what is wrong with those that are not on them, by their number from 0.

    Args:
        boxes: [N, 4] xyxy in pixels of the film.
        sizes: [N, 2] width and height of each box's film, 0 where they are not known.

    Returns:
        [N, 4] float32, within 0 and the size of the film; a box with a problem means nothing.
    """
    sizes = np.where(sizes > 0, sizes, LARGEST_SIDE)
    slack = np.maximum(_OVERHANG_PIXELS, sizes * _OVERHANG_SHARE)
    frame = np.concatenate([sizes, sizes], axis=1)
    cut = np.clip(boxes, 0, frame)
    fitted = cut.astype(np.float32)
    outside = (np.abs(boxes - cut) > np.concatenate([slack, slack], axis=1)).any(axis=1)
    empty = (fitted[:, 2:] <= fitted[:, :2]).any(axis=1)
    return fitted, {
        int(i): f"the box {_text(boxes[i])} is not on its film, expected 0 <= x0 < x1 <= {sizes[i, 0]:g} and "
        f"0 <= y0 < y1 <= {sizes[i, 1]:g}, {slack[i].max():.2g} px over the border at most"
        for i in np.flatnonzero(outside | empty)
    }


def _finite(values: Sequence[float]) -> tuple[float, ...]:
    try:
        floats = tuple(map(float, values))
    except OverflowError:  # an integer of a json may have hundreds of digits
        floats = (math.inf,)
    if not all(map(math.isfinite, floats)):
        raise ValueError(f"the box {shown(list(values))} holds a number that is not finite, expected pixels")
    return floats


def _text(values: Sequence[float] | NDArray[np.float64]) -> str:
    return f"[{', '.join(f'{value:.6g}' for value in values)}]"
