"""Views of a film at test time: larger, smaller, turned or moved a little, and the boxes of a view back on the film.

What differs is how the patient stood and how far from the tube. No view mirrors the film: the heart is on the left.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

Size = tuple[int, int]

_THINNEST = 0.5
"""A turned box becomes no thinner than this share of its side, whatever its turn asks for."""


@dataclass(frozen=True)
class View:
    """One way to look at a film. A point is turned about the film's centre, then scaled, then moved.

    Args:
        scale: size of the view, as a multiple of the film's.
        degrees: that the film is turned clockwise. Its corners go out of sight.
        shift: that it is moved to the right and down, as a share of its longer side. Room is made for it, so that
            nothing goes out of sight.

    Raises ``ValueError`` for a view that is no small change.
    """

    scale: float = 1.0
    degrees: float = 0.0
    shift: float = 0.0

    def __post_init__(self) -> None:
        for name, low, high in (("scale", 0.5, 2), ("degrees", -15, 15), ("shift", 0, 0.25)):
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name} of a view is {getattr(self, name)}, expected {low} to {high}")

    @property
    def plain(self) -> bool:
        """Whether it is the film as it is."""
        return self == View()

    def of_film(self, film: Tensor) -> Tensor:
        """Return the view of a film [C, h, w] as [C, h', w']; what lies outside of the film is 0, air."""
        if self.plain:
            return film
        height, width = film.shape[-2:]
        (rows, columns), (down, right) = self._scaled((height, width)), self._moved((height, width))
        y = (torch.arange(rows + down, device=film.device, dtype=film.dtype) + 0.5 - down) * height / rows - height / 2
        x = (torch.arange(columns + right, device=film.device, dtype=film.dtype) + 0.5 - right) * width / columns
        x = x - width / 2
        cos, sin = self._turn()
        there = (cos * x[None] + sin * y[:, None], cos * y[:, None] - sin * x[None])
        grid = torch.stack([there[0] * 2 / width, there[1] * 2 / height], -1)  # -1 and 1 are the film's borders
        return grid_sample(film[None], grid[None], align_corners=False)[0]

    def boxes_on_film(self, boxes: Tensor, size: Size) -> Tensor:
        """Return boxes [N, 4] xyxy of a view in the frame of the film, whose ``size`` is (height, width).

        A box stands for the ellipse within it, as in the training's augmentation: the box around a turned ellipse
        becomes the box around the ellipse that was turned. A hull of the turned corners would grow by a tenth.
        """
        if self.plain:
            return boxes
        (rows, columns), (down, right) = self._scaled(size), self._moved(size)
        scale = boxes.new_tensor([columns / size[1], rows / size[0]])
        low, high = ((corner - boxes.new_tensor([right, down])) / scale for corner in (boxes[:, :2], boxes[:, 2:]))
        middle = boxes.new_tensor([size[1] / 2, size[0] / 2])
        cos, sin = self._turn()
        x, y = ((low + high) / 2 - middle).unbind(1)
        centre = torch.stack([cos * x + sin * y, cos * y - sin * x], 1) + middle
        half = _unturned((high - low) / 2, cos, sin)
        return torch.cat([centre - half, centre + half], 1)

    def _scaled(self, size: Size) -> Size:
        return round(size[0] * self.scale), round(size[1] * self.scale)

    def _moved(self, size: Size) -> Size:
        step = round(max(size) * self.shift)
        return step, step

    def _turn(self) -> tuple[float, float]:
        return math.cos(math.radians(self.degrees)), math.sin(math.radians(self.degrees))


VIEWS = (View(), View(scale=1.1), View(scale=0.9), View(degrees=3), View(degrees=-3), View(shift=0.03))
"""Views that a number chooses from: ``views=3`` takes the first three."""


def first_views(count: int) -> Sequence[View]:
    """Return the first ``count`` of ``VIEWS``. Raises ``ValueError`` where there are not so many."""
    if not 1 <= count <= len(VIEWS):
        raise ValueError(f"views is {count}, expected 1 to {len(VIEWS)}, or a list such as [{{}},{{scale: 1.1}}]")
    return VIEWS[:count]


def _unturned(half: Tensor, cos: float, sin: float) -> Tensor:
    """Return the half sides [N, 2] of ellipses whose hulls have these half sides once they are turned.

    The hull of an ellipse a, b has the half sides √(a²c² + b²s²) and √(a²s² + b²c²): two equations for a² and b².
    """
    squares = half.square()
    before = (squares * cos**2 - squares.flip(1) * sin**2) / (cos**2 - sin**2)
    return torch.maximum(before, squares * _THINNEST**2).sqrt()
