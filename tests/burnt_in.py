"""A name that is burnt into the pixels of a film, and whether it can be read in a picture."""

import cv2
import numpy as np
from numpy.typing import NDArray

NAME = "LIN YU-TING 19400305"

_LEAST = 7  # px of a letter's height: nobody reads smaller ones
_STEP = 1.04  # from one size of the letters that is looked for to the next


def name_in_pixels(size: int) -> NDArray[np.uint8]:
    """The name alone, as it lies on the upper left of a film of this size."""
    letters = np.zeros((size, size), np.uint8)
    cv2.putText(letters, NAME, (size // 16, size // 10), cv2.FONT_HERSHEY_SIMPLEX, size / 900, 255, size // 340)
    return letters


def likeness(picture: NDArray[np.uint8], letters: NDArray[np.uint8]) -> float:
    """The correlation of letters with the place where they lie, 1 where they can be read."""
    rows, columns = np.flatnonzero(letters.any(1)), np.flatnonzero(letters.any(0))
    place = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    with np.errstate(invalid="ignore", divide="ignore"):  # of a place that is black all over
        return float(np.nan_to_num(np.corrcoef(picture[place].ravel(), letters[place].ravel())[0, 1]))


def _without_edges(letters: NDArray[np.uint8]) -> NDArray[np.uint8]:
    rows, columns = np.flatnonzero(letters.any(1)), np.flatnonzero(letters.any(0))
    return letters[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def likeness_anywhere(picture: NDArray[np.uint8]) -> float:
    """The largest correlation of the name with any place of a picture [h, w] in which the film is small."""
    name = _without_edges(name_in_pixels(1024))
    name = _without_edges(name[:, : name.shape[1] * 11 // 20])  # the birthday left out: a long word fits few sizes
    best, height = 0.0, float(_LEAST)
    while height <= 0.7 * len(name):
        size = round(name.shape[1] * height / len(name)), round(height)
        if size[0] <= picture.shape[1] and size[1] <= picture.shape[0]:
            found = cv2.matchTemplate(
                picture, cv2.resize(name, size, interpolation=cv2.INTER_AREA), cv2.TM_CCOEFF_NORMED
            )
            best = max(best, float(np.abs(found[np.isfinite(found)]).max(initial=0)))
        height *= _STEP
    return best
