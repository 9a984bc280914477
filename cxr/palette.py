"""The colours of every picture, page and plot: one a finding, the dark ground, and the letters on it."""

import numpy as np
from numpy.typing import NDArray

from cxr.findings import FindingVocabulary

GROUND, INK, QUIET = "#14171a", "#e8eaed", "#9aa0a6"  # the ground, letters, and letters that matter less
# Light and saturated, so that each stands out on a grey film; neighbours in hue differ in lightness too.
_COLOURS = (
    "#ffd166",
    "#4cc9f0",
    "#ff6b6b",
    "#80ed99",
    "#c77dff",
    "#ff9f1c",
    "#f72585",
    "#00f5d4",
    "#bde0fe",
    "#e9ff70",
)


def colour(findings: FindingVocabulary, name: str) -> str:
    """Return the colour of a finding as ``#rrggbb``."""
    return _COLOURS[findings.names.index(name) % len(_COLOURS)]


def laid_over(film: NDArray[np.uint8], heat: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a film [H, W] with a map [h, w] (255 = 1.0) of the same field over it, RGB [H, W, 3].

    A pixel is a mixture of the film (six tenths) and the map's colour in inferno, which is black where there is no
    evidence, so the film can be seen through the map everywhere.
    """
    import cv2  # here, as the next one: who draws no map does not wait for them
    from pytorch_grad_cam.utils.image import show_cam_on_image  # imports torch, which takes seconds

    grey = np.repeat(film[..., None].astype(np.float32) / 255, 3, axis=2)
    mask = cv2.resize(heat.astype(np.float32) / 255, (film.shape[1], film.shape[0]), interpolation=cv2.INTER_LINEAR)
    picture: NDArray[np.uint8] = show_cam_on_image(grey, mask, True, cv2.COLORMAP_INFERNO, image_weight=0.6)
    return picture
