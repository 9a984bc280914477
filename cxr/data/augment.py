"""Augmentation of films with boxes that stay tight, by albumentations."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # before the import, which else asks the network for a newer version

import albumentations as A  # noqa: N812  the name its documentation uses


class Augment:
    """A chain of albumentations transforms on a film and its boxes, drawn from a seed given with each call.

    Transforms that move the film go first and fill what comes in from outside with 0: the film is shifted so that 0
    is its own minimum, its air. No transform may mirror the film: the heart is on the left.
    """

    def __init__(self, transforms: Sequence[A.BasicTransform] = ()) -> None:
        boxes = A.BboxParams(format="pascal_voc", label_fields=["labels"])
        # seed: makes a generator of its own, apart from the process's random and numpy.random
        self._compose = A.Compose(list(transforms), bbox_params=boxes, seed=0) if transforms else None

    def __call__(
        self, image: NDArray[np.float32], boxes: NDArray[np.float32], labels: NDArray[np.int64], seed: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
        """Return image [h, w] float32 in 0..1, boxes [M, 4] xyxy and labels [M], M <= N, from the same of N boxes.

        Boxes are clipped to the frame; one that leaves less than a pixel in it goes, with its label.
        """
        height, width = image.shape
        boxes, labels = clip_boxes(boxes, labels, width, height)
        if self._compose is None:
            return image, boxes, labels
        minimum = image.min()
        self._compose.set_random_seed(seed)
        out: dict[str, Any] = self._compose(image=image - minimum, bboxes=boxes, labels=labels)
        moved = np.asarray(out["bboxes"], np.float32).reshape(-1, 4)  # no box comes back as (0,), integers as floats
        kept = np.asarray(out["labels"]).astype(np.int64)
        boxes, labels = clip_boxes(moved, kept, width, height)
        return np.clip(out["image"] + minimum, 0, 1, dtype=np.float32), boxes, labels


def clip_boxes(
    boxes: NDArray[np.float32], labels: NDArray[np.int64], width: float, height: float
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return boxes [M, 4] xyxy cut to a frame of ``width`` and ``height``, without those under a pixel wide or high."""
    boxes = np.clip(boxes, 0, np.array([width, height, width, height], np.float32), dtype=np.float32)
    kept = (boxes[:, 2:] - boxes[:, :2] >= 1).all(axis=1)
    return boxes[kept], labels[kept]
