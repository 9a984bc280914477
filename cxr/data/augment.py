"""Augmentation of films with boxes that stay tight, by albumentations."""

from collections.abc import Sequence
from typing import Any

import albumentations as A  # noqa: N812  the name its documentation uses
import numpy as np
from numpy.typing import NDArray


class Augment:
    """Chains of albumentations transforms on a film and its boxes, drawn from a seed given with each call.

    No transform may mirror the film: the heart is on the left.

    Args:
        geometry: transforms that move the film and its boxes, on 16-bit pixels (a third faster than on floats). What
            comes in from outside is filled with the film's own minimum, its air, in each channel: their ``fill`` is set
            for each film.
        appearance: transforms of grey values, on float32 in 0..1. They are handed ``boxes`` too, [M, 4] xyxy in pixels
            of the film, so that what covers a film can spare them.
    """

    def __init__(self, geometry: Sequence[A.BasicTransform] = (), appearance: Sequence[A.BasicTransform] = ()) -> None:
        # boxes are clipped before and after the chain here; between its transforms they need not be checked too
        boxes = A.BboxParams(format="pascal_voc", check_each_transform=False)
        # seed: makes a generator of its own, apart from the process's random and numpy.random
        self._geometry = A.Compose(list(geometry), bbox_params=boxes, seed=0) if geometry else None
        self._appearance = A.Compose(list(appearance), seed=0) if appearance else None

    def __call__(
        self, pixels: NDArray[np.uint16], boxes: NDArray[np.float32], labels: NDArray[np.int64], seed: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
        """Return image [h, w] float32 in 0..1, boxes [M, 4] xyxy and labels [M] of a film of [h, w] uint16.

        Several channels stand last, [h, w, C], in film and image; all move and change alike.
        Boxes are clipped to the frame; one that leaves less than a pixel in it goes with its label, so M <= N.
        """
        height, width = pixels.shape[:2]
        boxes, labels = clip_boxes(boxes, labels, width, height)
        if self._geometry is not None:
            self._geometry.set_random_seed(seed)
            pixels, boxes, labels = _move(self._geometry, pixels, boxes, labels)
        image = np.multiply(pixels, np.float32(1 / 65535), dtype=np.float32)
        if self._appearance is not None:
            self._appearance.set_random_seed(seed)
            image = np.clip(self._appearance(image=image, boxes=boxes)["image"], 0, 1, dtype=np.float32)
        return image, boxes, labels


def clip_boxes(
    boxes: NDArray[np.float32], labels: NDArray[np.int64], width: float, height: float
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return boxes [M, 4] xyxy cut to a frame of ``width`` and ``height``, without those under a pixel wide or high."""
    boxes = np.clip(boxes, 0, np.array([width, height, width, height], np.float32), dtype=np.float32)
    kept = (boxes[:, 2:] - boxes[:, :2] >= 1).all(axis=1)
    return boxes[kept], labels[kept]


def _move(
    geometry: A.Compose, pixels: NDArray[np.uint16], boxes: NDArray[np.float32], labels: NDArray[np.int64]
) -> tuple[NDArray[np.uint16], NDArray[np.float32], NDArray[np.int64]]:
    air = float(pixels.min()) if pixels.ndim == 2 else tuple(pixels.min(axis=(0, 1)).astype(float).tolist())
    transforms: list[Any] = (
        geometry.transforms
    )  # those that move a film have ``fill``, which their base does not declare
    for transform in transforms:
        transform.fill = air
    # A fifth column says which box a row was: cheaper than label fields, which are encoded and decoded on every call
    numbered = np.column_stack([boxes, np.arange(len(boxes), dtype=np.float32)])
    out: dict[str, Any] = geometry(image=pixels, bboxes=numbered)
    moved = np.asarray(out["bboxes"], np.float32).reshape(-1, 5)  # no box comes back as (0,)
    height, width = pixels.shape[:2]
    return out["image"], *clip_boxes(moved[:, :4], labels[moved[:, 4].astype(np.int64)], width, height)
