"""A film in a few numbers that say how it was taken, not what it shows: exposure, contrast, noise, and its likeness.

A machine that is replaced, a new processing, a detector that ages: the films change, and no label tells. Weeks of films
are compared in these numbers (``cxr.measure.shift``). They lead to no patient.
"""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cxr.read.known_films import KnownFilms, likeness

PIXELS = ("dark", "middle", "bright", "spread", "noise", "structure")
"""Of a film as the detector takes it, 0..1 with air dark: its 5, 50 and 95 % quantiles, its standard deviation, and the
strength of its noise and of its structures of about 4 px, both as powers of ten."""
LIKENESS = ("distance", "refused")
"""Its distance from the training films as a multiple of what the gate allows, and whether the gate refuses it."""

_LEAST = 1e-5  # of 1.0, below what a film of 16 bits can hold
_NOISE = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)  # Immerkær 1996: blind to edges that are straight


def film_statistics(pixels: NDArray[Any], known: Sequence[KnownFilms] = ()) -> NDArray[np.float32]:
    """Return the values of ``PIXELS`` and ``LIKENESS`` of a film; those of the latter are NaN where nothing is known.

    Args:
        pixels: [h, w] or [h, w, C] uint16, 65535 is 1.0, as the gate sees the film.
        known: what the training films look like (``cxr.read.known_films``).
    """
    grey = np.asarray(pixels, np.float32) / np.float32(65535)
    grey = grey if grey.ndim == 2 else grey.mean(axis=2)
    dark, middle, bright = np.percentile(grey, (5, 50, 95))
    noise = np.sqrt(np.pi / 2) / 6 * np.abs(cv2.filter2D(grey, -1, _NOISE)[1:-1, 1:-1]).mean()
    bands = cv2.GaussianBlur(grey, (0, 0), 2.0) - cv2.GaussianBlur(grey, (0, 0), 4.0)
    strengths = [np.log10(max(float(value), _LEAST)) for value in (noise, bands.std())]
    like = [np.nan, np.nan]
    if known:
        found = likeness(known, pixels)
        like = [found.distance, float(found.distance > 1 or found.inverted or found.turned != 0)]
    return np.array([dark, middle, bright, grey.std(), *strengths, *like], np.float32)
