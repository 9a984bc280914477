"""Phantom films with and without ribs, clavicles and vessels, with masks of bone, lung and heart."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxr.phantom.anatomy import Thorax
from cxr.phantom.canvas import Canvas, Map, Pose
from cxr.phantom.exposure import attenuate, draw_pose, expose_alike

PARTS = ("bone", "lung", "heart")
"""The parts that a network learns to outline, in the order of its maps."""

SUPPRESSED = ("ribs", "clavicles", "vessels")
"""Layers of ``cxr.phantom.exposure.attenuate`` that are removed. Spine, shoulders and calcium stay, because there are
findings in them."""

_BONES = ("ribs", "clavicles", "spine", "shoulders")
_BONE = 0.04  # least attenuation of bone, about a tenth of a rib's, so that blurred edges are left out


@dataclass(frozen=True, eq=False)
class LayeredFilm:
    """A film with the layers and masks that nobody knows of a real film.

    Args:
        pixels: [H, W] uint16, 12-bit stored values: MONOCHROME1, LOG.
        without: the same film without ``SUPPRESSED``.
        masks: bool [3, H, W], the places of ``PARTS``.
    """

    pixels: NDArray[np.uint16]
    without: NDArray[np.uint16]
    masks: NDArray[np.bool_]


def draw_layered(thorax: Thorax, rng: np.random.Generator, size: int) -> LayeredFilm:
    """Return a film of a thorax, ``size`` pixels along its longest side; pose, dose and noise come from ``rng``."""
    pose = draw_pose(rng, thorax, size)
    layers = attenuate(thorax, pose, rng)
    whole = np.sum(list(layers.values()), axis=0)
    less = np.sum([layer for name, layer in layers.items() if name not in SUPPRESSED], axis=0)
    pixels, without = expose_alike([whole, less], pose, rng)
    bone = np.sum([layers[name] for name in _BONES], axis=0) > _BONE
    return LayeredFilm(pixels, without, np.stack([bone, *_organs(thorax, pose)]))


def _organs(thorax: Thorax, pose: Pose) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return masks of lung and heart, bool [H, W]. As readers outline it, the lung excludes heart and mediastinum."""
    canvas = Canvas(pose)
    filled: list[Map] = [canvas.fill(o) for o in (thorax.lungs, [thorax.heart], [thorax.mediastinum])]
    lung, heart, mediastinum = (one > 0.5 for one in filled)
    return lung & ~heart & ~mediastinum, heart
