"""A film at the size a detector takes."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cxr.read.preprocessing import Preprocessing
from cxr.read.radiograph import Radiograph


def at_working_size(film: Radiograph, intensity: Preprocessing, size: int) -> NDArray[np.uint16]:
    """Return a film as the cache keeps it: 65535 is 1.0 of the intensity, the longest side has at most ``size`` px.

    The shape is [h, w], or [h, w, C] where the intensity gives several channels (last, as in OpenCV). A larger film is
    shrunk (``INTER_AREA``), a smaller one keeps its size.
    """
    picture = intensity(film)
    if picture.ndim == 3:
        picture = np.ascontiguousarray(np.moveaxis(picture, 0, -1))
    picture = shrunk(picture, size)
    return np.asarray(np.rint(np.clip(picture, 0, 1) * 65535), np.uint16)


def shrunk(picture: NDArray[Any], size: int) -> NDArray[Any]:
    """Return a picture [h, w] or [h, w, C] whose longest side has at most ``size`` px (``INTER_AREA``)."""
    return _scaled(picture, size, cv2.INTER_AREA) if size < max(picture.shape[:2]) else picture


def to_longest_side(pixels: NDArray[np.uint16], size: int) -> NDArray[np.uint16]:
    """Return a film [h, w] or [h, w, C] enlarged or shrunk so that its longest side is ``size``."""
    return _scaled(pixels, size, cv2.INTER_LINEAR) if size != max(pixels.shape[:2]) else pixels


def _scaled(picture: NDArray[Any], size: int, how: int) -> NDArray[Any]:
    factor = size / max(picture.shape[:2])
    height, width = (max(1, round(side * factor)) for side in picture.shape[:2])
    return np.asarray(cv2.resize(picture, (width, height), interpolation=how))


def to_square(picture: NDArray[np.float32], size: int) -> tuple[NDArray[np.float32], tuple[int, int]]:
    """Return a picture [H, W] in the upper left of a square [size, size], and its height and width there.

    The longest side becomes ``size``; the rest of the square is 0, as air is.
    """
    scaled = _scaled(picture, size, cv2.INTER_AREA if size < max(picture.shape) else cv2.INTER_LINEAR)
    height, width = scaled.shape
    square = np.zeros((size, size), np.float32)
    square[:height, :width] = scaled
    return square, (height, width)
