"""Weighted boxes fusion: boxes of several readers or detectors become one box for each thing that they mean."""

import numpy as np
from numpy.typing import NDArray

Boxes = NDArray[np.float32]

_LEAST_WEIGHT = np.float32(1e-6)  # of a box with the score 0, which has a mean all the same


def fuse_boxes(boxes: Boxes, scores: NDArray[np.float32], iou: float) -> tuple[Boxes, NDArray[np.int64]]:
    """Return the fused boxes [M, 4] of N boxes of one finding, and the fused box [N] that each was taken into.

    This is weighted boxes fusion (Solovyev, Wang and Gabruseva 2021, arXiv:1910.13302, section 3). The boxes come in
    the order of their scores. A box joins the cluster whose mean it overlaps most, if by more than ``iou``; otherwise
    it begins a new cluster. The mean of a cluster counts each box by its score. Of boxes with equal scores the largest
    comes first, so that the order of rows does not matter. Fused boxes are in the order in which they began.

    Any frame will do: pixels of the film, or shares of it.
    """
    sizes = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    sums, means = np.zeros((len(boxes), 4), np.float32), np.zeros((len(boxes), 4), np.float32)
    weights, cluster = np.zeros(len(boxes), np.float32), np.zeros(len(boxes), np.int64)
    count = 0
    for row in np.lexsort((*boxes.T, -sizes, -scores)):
        overlaps = box_iou(boxes[row][None], means[:count])[0]
        joined = int(overlaps.argmax()) if count and overlaps.max() > iou else count
        count = max(count, joined + 1)
        weight = max(scores[row], _LEAST_WEIGHT)
        sums[joined] += weight * boxes[row]
        weights[joined] += weight
        means[joined] = sums[joined] / weights[joined]
        cluster[row] = joined
    return means[:count], cluster


def box_iou(a: Boxes, b: Boxes) -> NDArray[np.float32]:
    """Return the intersection over union [N, M] of boxes [N, 4] and [M, 4]."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    areas = [np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(axis=1) for boxes in (a, b)]
    union = areas[0][:, None] + areas[1][None] - shared
    return np.asarray(shared / np.maximum(union, 1e-9), np.float32)
