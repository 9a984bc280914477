"""Anchors and boxes for a graph, computed from the sizes of its maps, which are known only when the graph runs."""

from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection._utils import BoxCoder


def grid_of_cells(cell: Tensor, height: Any, width: Any, side: Any) -> Tensor:
    """Return the anchors [height · width · A, 4] xyxy of a map, cell by cell, row by row.

    Args:
        cell: anchors of one cell [A, 4], around the origin.
        height: number of cells from top to bottom: an int, or a tensor in a graph that is traced.
        width: number of cells from left to right.
        side: side of the canvas in pixels. As in torchvision, the distance of cells is a whole number of pixels.
    """
    y = torch.arange(height, device=cell.device) * (side // height)
    x = torch.arange(width, device=cell.device) * (side // width)
    rows, columns = torch.meshgrid(y, x, indexing="ij")
    shifts = torch.stack([columns, rows, columns, rows], 2).reshape(-1, 1, 4).to(cell)
    return (shifts + cell).reshape(-1, 4)


def decoded(offsets: Tensor, anchors: Tensor, coder: BoxCoder) -> Tensor:
    """Return boxes [..., 4] xyxy from offsets [..., 4] and anchors [..., 4], as torchvision's ``BoxCoder`` does."""
    sides = anchors[..., 2:] - anchors[..., :2]
    centres = anchors[..., :2] + 0.5 * sides
    weights = offsets.new_tensor(coder.weights)
    moves = offsets / weights
    middle = moves[..., :2] * sides + centres
    half = 0.5 * torch.exp(moves[..., 2:].clamp(max=coder.bbox_xform_clip)) * sides
    return torch.cat([middle - half, middle + half], -1)
