"""Non-maximum suppression and the choice of the best boxes for a graph: whole batches, fixed sizes, no loop.

torchvision handles one film after the other and keeps lists of any length. A graph has tensors of fixed length, in
which the score ``ABSENT`` marks entries that hold no box.
"""

from typing import Any

import torch
from torch import Tensor

Detections = tuple[Tensor, Tensor, Tensor, list[Tensor]]
"""Boxes [B, D, 4], labels [B, D] and scores [B, D] of a batch, and the output of the layers [B, …] behind them."""

ABSENT = -1.0
_FLOOR = -0.5  # between ABSENT and 0, the lowest score of a box


def suppressed(boxes: Tensor, scores: Tensor, iou: float, most: int) -> Tensor:
    """Return ``scores`` with ``ABSENT`` for each box that overlaps a stronger one of its group by more than ``iou``.

    Args:
        boxes: [G, N, 4] xyxy float32.
        scores: [G, K, N] float32: K groups share the same boxes. An ``ABSENT`` entry stays and suppresses nothing.
        iou: intersection over union, 0..1.
        most: largest number of boxes of a group that are kept, the strongest ones.
    """
    if torch.onnx.is_in_onnx_export():
        keep: Any = _OnnxSuppression.apply
    else:  # tracing Python would store the iterations of one batch; a script stores the loop
        jit: Any = torch.jit
        keep = jit.script(_kept) if jit.is_tracing() else _kept
    kept = keep(boxes, scores, iou, most)
    return torch.where(kept > 0, scores, torch.full_like(scores, ABSENT))


def best(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the ``count`` highest of scores [B, N], the highest first, and their indices int64 [B, count].

    If N is smaller than ``count``, the rest are ``ABSENT``, with index 0.
    """
    filled = torch.cat([scores, torch.full_like(scores[:, :1], ABSENT).expand(-1, count)], 1)
    values, places = filled.topk(count, dim=1)
    return values, torch.where(values > _FLOOR, places, torch.zeros_like(places))


def clipped(boxes: Tensor, sizes: Tensor) -> Tensor:
    """Return boxes [B, N, 4] xyxy clipped to their film; ``sizes`` [B, 2] are heights and widths."""
    limits = sizes.flip(1).repeat(1, 2)[:, None].to(boxes.dtype)
    return torch.minimum(boxes.clamp(min=0.0), limits)


def rows(values: Tensor, places: Tensor) -> Tensor:
    """Return the values [B, N, C] at the indices ``places`` int64 [B, M]: [B, M, C]."""
    return values.gather(1, places[..., None].expand(-1, -1, values.shape[2]))


def _kept(boxes: Tensor, scores: Tensor, iou: float, most: int) -> Tensor:
    """Return 1 where a box is kept and 0 elsewhere, float32 [G, K, N]; written so that TorchScript can compile it."""
    kept = torch.zeros_like(scores)
    for group in range(scores.shape[0]):
        for kind in range(scores.shape[1]):
            here = torch.nonzero(scores[group, kind] > -0.5)[:, 0]
            chosen = torch.ops.torchvision.nms(boxes[group][here], scores[group, kind][here], iou)
            kept[group, kind, here[chosen[:most]]] = 1.0
    return kept


class _OnnxSuppression(torch.autograd.Function):
    """ONNX's NonMaxSuppression, which takes all groups at once."""

    @staticmethod
    def forward(ctx: Any, boxes: Tensor, scores: Tensor, iou: float, most: int) -> Tensor:
        """Return what ``_kept`` returns: tracing needs a result of this size."""
        return _kept(boxes, scores, iou, most)

    @staticmethod
    def symbolic(g: Any, boxes: Any, scores: Any, iou: float, most: int) -> Any:
        """Return the nodes of the graph: they choose (group, kind, box) and put 1 at these indices of zeros."""
        numbers = (torch.tensor([most]), torch.tensor([iou]), torch.tensor([_FLOOR]))
        limits = [g.op("Constant", value_t=number) for number in numbers]
        chosen = g.op("NonMaxSuppression", boxes, scores, *limits)
        zeros = g.op("ConstantOfShape", g.op("Shape", scores), value_t=torch.tensor([0.0]))
        count = g.op("Gather", g.op("Shape", chosen), g.op("Constant", value_t=torch.tensor([0])), axis_i=0)
        ones = g.op("ConstantOfShape", count, value_t=torch.tensor([1.0]))
        return g.op("ScatterND", zeros, chosen, ones).setType(scores.type())
