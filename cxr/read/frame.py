"""A film at the size a detector takes."""

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
    height, width = film.pixels.shape
    picture = intensity(film)
    if picture.ndim == 3:
        picture = np.ascontiguousarray(np.moveaxis(picture, 0, -1))
    scale = size / max(height, width)
    if scale < 1:
        to = (max(1, round(width * scale)), max(1, round(height * scale)))
        picture = np.asarray(cv2.resize(picture, to, interpolation=cv2.INTER_AREA), np.float32)
    return np.asarray(np.rint(np.clip(picture, 0, 1) * 65535), np.uint16)


def to_longest_side(pixels: NDArray[np.uint16], size: int) -> NDArray[np.uint16]:
    """Return a film [h, w] or [h, w, C] enlarged or shrunk so that its longest side is ``size``."""
    height, width = pixels.shape[:2]
    factor = size / max(height, width)
    if factor == 1:
        return pixels
    shape = max(1, round(width * factor)), max(1, round(height * factor))
    return np.asarray(cv2.resize(pixels, shape, interpolation=cv2.INTER_LINEAR))


def to_square(picture: NDArray[np.float32], size: int) -> tuple[NDArray[np.float32], tuple[int, int]]:
    """Return a picture [H, W] in the upper left of a square [size, size], and its height and width there.

    The longest side becomes ``size``; the rest of the square is 0, as air is.
    """
    scale = size / max(picture.shape)
    height, width = (max(1, round(side * scale)) for side in picture.shape)
    square = np.zeros((size, size), np.float32)
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    square[:height, :width] = cv2.resize(picture, (width, height), interpolation=how)
    return square, (height, width)
