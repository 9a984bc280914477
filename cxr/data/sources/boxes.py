"""Turns numbers of a table into boxes on films: impossible boxes are refused, slightly too large ones are clipped."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cxr.data.sources.tables import shown

Box = tuple[float, float, float, float]
"""xyxy in pixels of the film, x0 < x1 and y0 < y1."""

LARGEST_SIDE = 65535
"""Longest possible side of a film in pixels (Rows and Columns of DICOM are 16-bit), used where the size is unknown."""

# How far a box may reach over the border of its film: a pixel, or a thousandth of the side if that is more. Readers
# draw on a screen of about a thousand lines, so one line is a thousandth of a film, and tables round fractions to three
# or four digits. For these reasons boxes in published tables may end one pixel outside. A box that reaches further was
# drawn on another film or is damaged.
_OVERHANG_PIXELS = 1.0
_OVERHANG_SHARE = 1 / 1000

_BEYOND = 1e30  # larger than any film; sums with it are still finite in float32


def numbers(cells: Sequence[str]) -> tuple[float, ...] | None:
    """Return the numbers of a row's box; None if all cells are empty, which means that there is no box.

    Raises ``ValueError`` if only some cells are empty, or if one holds no number.
    """
    if not any(cells):
        return None
    if missing := sum(not cell for cell in cells):
        raise ValueError(f"{missing} of the {len(cells)} cells of its box are empty, expected none, or all")
    return tuple(map(number, cells))


def number(cell: str) -> float:
    """Return the number in a cell. Raises ``ValueError``, also for 1_0, which Python would read as 10."""
    try:
        if "_" not in cell:
            return float(cell)
    except ValueError:
        pass
    raise ValueError(f"{shown(cell)} is no number")


def corners(values: Sequence[float]) -> Box:
    """Return the box with the corners x0, y0, x1, y1. Raises ``ValueError`` for numbers that are no box."""
    x0, y0, x1, y1 = _finite(values)
    if x1 <= x0 or y1 <= y0:
        raise ValueError(f"the box {_text((x0, y0, x1, y1))} has no area, expected x0 < x1 and y0 < y1")
    return x0, y0, x1, y1


def corner_and_size(values: Sequence[float]) -> Box:
    """Return the box with the given x, y, width and height. Raises ``ValueError`` for numbers that are no box."""
    x, y, width, height = _finite(values)
    if width <= 0 or height <= 0:
        raise ValueError(f"the box {_text((x, y, width, height))} has no area, expected a width and height above 0")
    x0, y0, x1, y1 = _finite((x, y, x + width, y + height))
    return x0, y0, x1, y1


def rounded(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return values rounded to float32 but without overflow, so that boxes are the same to the bit as earlier ones."""
    return np.clip(values, -_BEYOND, _BEYOND).astype(np.float32).astype(np.float64)


def fit(boxes: NDArray[np.float64], sizes: NDArray[np.float64]) -> tuple[NDArray[np.float32], dict[int, str]]:
    """Return boxes clipped to their films, and the problems of boxes that are not on their film, by index.

    Args:
        boxes: [N, 4] xyxy in pixels of the film.
        sizes: [N, 2] width and height of the film of each box, 0 if unknown.

    Returns:
        [N, 4] float32 between 0 and the size of the film. A box with a problem has no meaning.
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
    except OverflowError:  # an integer in JSON may have hundreds of digits
        floats = (math.inf,)
    if not all(map(math.isfinite, floats)):
        raise ValueError(f"the box {shown(list(values))} holds a number that is not finite, expected pixels")
    return floats


def _text(values: Sequence[float] | NDArray[np.float64]) -> str:
    return f"[{', '.join(f'{value:.6g}' for value in values)}]"
