"""Non-maximum suppression and the choice of the best as a graph has them: whole batches, fixed sizes, no loop.

torchvision goes film by film and keeps lists of any length. A graph holds tensors of fixed length instead, in which a
score of ``ABSENT`` marks what is not there.
"""

from typing import Any

import torch
from torch import Tensor

Found = tuple[Tensor, Tensor, Tensor, list[Tensor]]
"""Boxes [B, D, 4], labels [B, D] and scores [B, D] of a batch, and what the layers computed [B, …] to choose them."""

ABSENT = -1.0
_FLOOR = -0.5  # between ABSENT and 0, the lowest score there is


def suppressed(boxes: Tensor, scores: Tensor, iou: float, most: int) -> Tensor:
    """Return ``scores`` with ``ABSENT`` for each box that overlaps a stronger one of its group by more than ``iou``.

    Args:
        boxes: [G, N, 4] xyxy float32.
        scores: [G, K, N] float32: K groups share the boxes; ``ABSENT`` stays absent and suppresses nothing.
        iou: intersection over union, 0..1.
        most: no more than the strongest so many of a group are kept.
    """
    if torch.onnx.is_in_onnx_export():
        keep: Any = _OnnxSuppression.apply
    else:  # a trace of Python would hold the loop's turns of one batch; a script holds the loop
        jit: Any = torch.jit
        keep = jit.script(_kept) if jit.is_tracing() else _kept
    kept = keep(boxes, scores, iou, most)
    return torch.where(kept > 0, scores, torch.full_like(scores, ABSENT))


def best(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the ``count`` highest of scores [B, N], the highest first, and their places int64 [B, count].

    Where N is smaller than ``count``, the rest are ``ABSENT``, with place 0.
    """
    filled = torch.cat([scores, torch.full_like(scores[:, :1], ABSENT).expand(-1, count)], 1)
    values, places = filled.topk(count, dim=1)
    return values, torch.where(values > _FLOOR, places, torch.zeros_like(places))


def clipped(boxes: Tensor, sizes: Tensor) -> Tensor:
    """Return boxes [B, N, 4] xyxy cut at the border of their film; ``sizes`` [B, 2] are heights and widths."""
    limits = sizes.flip(1).repeat(1, 2)[:, None].to(boxes.dtype)
    return torch.minimum(boxes.clamp(min=0.0), limits)


def rows(values: Tensor, places: Tensor) -> Tensor:
    """Return [B, M, C] of values [B, N, C] at places int64 [B, M]."""
    return values.gather(1, places[..., None].expand(-1, -1, values.shape[2]))


def _kept(boxes: Tensor, scores: Tensor, iou: float, most: int) -> Tensor:
    """Return 1 where a box is kept and 0 elsewhere, float32 [G, K, N]; written so that TorchScript takes it."""
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
        """Return what ``_kept`` returns, for the sizes that tracing wants to know."""
        return _kept(boxes, scores, iou, most)

    @staticmethod
    def symbolic(g: Any, boxes: Any, scores: Any, iou: float, most: int) -> Any:
        """Return the nodes of the graph: the chosen (group, kind, box), and 1 at these places of zeros."""
        numbers = (torch.tensor([most]), torch.tensor([iou]), torch.tensor([_FLOOR]))
        limits = [g.op("Constant", value_t=number) for number in numbers]
        chosen = g.op("NonMaxSuppression", boxes, scores, *limits)
        zeros = g.op("ConstantOfShape", g.op("Shape", scores), value_t=torch.tensor([0.0]))
        count = g.op("Gather", g.op("Shape", chosen), g.op("Constant", value_t=torch.tensor([0])), axis_i=0)
        ones = g.op("ConstantOfShape", count, value_t=torch.tensor([1.0]))
        return g.op("ScatterND", zeros, chosen, ones).setType(scores.type())
