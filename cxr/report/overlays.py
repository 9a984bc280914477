"""Maps over films: their colours, their size on a page or in a picture, and the words needed to read them."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib import colormaps, colors
from numpy.typing import NDArray
from PIL import Image

from cxr.explain.record import Explained, ExplainedFilm

LEVELS = 64  # of colour and opacity in an overlay of the page


def _heat() -> colors.ListedColormap:
    """Return the page's colours: inferno whose opacity is the value itself, clear where there is no evidence."""
    table = colormaps["inferno"](np.linspace(0, 1, LEVELS))
    table[:, 3] = np.linspace(0, 1, LEVELS)
    return colors.ListedColormap(table, name="heat")


HEAT = _heat()


def overlay(path: Path, longest: int) -> NDArray[np.uint8] | None:
    """Return a written map [h, w] as uint8 (255 = 1.0), at most ``longest`` pixels a side; None if it is all zero.

    A pixel that stands for several holds their maximum: the peaks of a fine-grained map would sink in their mean.
    """
    with Image.open(path) as grey:
        heat = np.asarray(grey)
    if not heat.any():
        return None
    sides = heat.shape
    for axis, size in enumerate(sides):
        kept = max(1, min(size, size * longest // max(sides)))
        heat = np.maximum.reduceat(heat, np.arange(kept) * size // kept, axis)
    return heat


def cautions(box: Explained, method: str, heat: NDArray[np.uint8] | None, say: Mapping[str, str]) -> list[str]:
    """Return what must be known of a map to read it: that it is missing or zero (``heat`` is None), and its note.

    A note that is a key of the fixed words (``blind``) is given in their language, any other as it is.
    """
    lacking = [] if heat is not None else [say["zero" if method in box.maps else "no_map"]]
    notes = [say.get(note, note) for key, note in box.notes.items() if key == method]
    return list(dict.fromkeys(lacking + notes))


def outcome_words(box: Explained, record: ExplainedFilm, say: Mapping[str, str]) -> str:
    """Return what became of a box; a film without marks has no hits and no false alarms."""
    if box.outcome == "suppressed":
        return say["no_detection"]
    if not record.truth_known:
        return say["detected"]
    return say["hit"] if box.outcome == "hit" else say["false_alarm"]
