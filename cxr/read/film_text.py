"""Text burnt into a film, for pictures of it that are smaller than the film.

In a small picture letters are found less often (docs/gate.md). So they are looked for in the film's own file, too.
"""

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr.read.burnt_text import Boxes, cover, text_boxes
from cxr.read.dicom import ReadError, read_film

_KEPT = 4096  # films whose text is remembered: a training draws the same ones after each epoch


def without_film_text(picture: NDArray[Any], path: Path) -> NDArray[Any]:
    """Return a copy of a picture [h, w] of the whole film at ``path`` in which text is black bars.

    Text is what is found in the picture (``without_text``), and what is found in the film itself, where it can be read.
    """
    height, width = picture.shape
    sides = _text_of(path) * [width, height, width, height]
    of_film = np.concatenate([np.floor(sides[:, :2]), np.ceil(sides[:, 2:])], axis=1).astype(np.int64)
    return cover(picture, np.concatenate([text_boxes(picture), of_film]))


@lru_cache(maxsize=_KEPT)
def _text_of(path: Path) -> NDArray[np.float64]:
    """Return the lines of text in a film [N, 4] xyxy, as shares of its width and height."""
    try:
        film = read_film(path).display()
    except ReadError:
        return np.zeros((0, 4))
    height, width = film.shape
    boxes: Boxes = text_boxes(film)
    return boxes / np.array([width, height, width, height], np.float64)
