"""Drawn films that are no frontal chest films: the chest from the side, and a hand. A gate must keep them out.

Coordinates are millimetres, as in ``cxr.phantom.anatomy``. On a lateral film x runs from the front of the body (left)
to its back. The stored values are those of ``cxr.phantom.exposure.expose``: 12 bits, MONOCHROME1, LOG.
"""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from cxr.phantom.canvas import Canvas, Map, Pose
from cxr.phantom.exposure import SOFT_MU, expose
from cxr.phantom.skeleton import CIRCLE, Points, Stroke, smooth


def draw_lateral(rng: np.random.Generator, size: int) -> NDArray[np.uint16]:
    """Return a lateral chest film, ``size`` pixels along its longest side, the front of the body left or right."""
    pose = _pose(rng, size, (-125, 150), (-70, 300), mirrored=bool(rng.uniform() < 0.5))
    canvas = Canvas(pose)
    deep, tall = rng.uniform(0.88, 1.12), rng.uniform(0.9, 1.1)

    def place(points: list[tuple[float, float]]) -> Points:
        return np.array(points) * (deep, tall)

    trunk = smooth(place([
        (-30, -110), (-52, -30), (-98, 25), (-112, 110), (-108, 190), (-102, 340), (112, 340), (116, 200), (122, 90),
        (104, 0), (62, -40), (52, -110),
    ]), closed=True)  # fmt: skip
    lung = smooth(place([
        (8, 2), (-30, 22), (-72, 55), (-86, 110), (-86, 178), (-70, 196), (-30, 186), (10, 192), (48, 224), (84, 262),
        (100, 210), (104, 120), (86, 45), (46, 6),
    ]), closed=True)  # fmt: skip
    silhouette = canvas.fill([trunk], 1.0)
    tissue = (
        26 * canvas.thickness(silhouette, 45) * silhouette * (1 + 0.012 * canvas.fine(canvas.texture(rng, (60, 18))))
    )
    arms = canvas.ellipses(np.array([(0, -60, 95, 62, 9.0), (20, -20, 70, 40, 5.0)]) * (deep, tall, deep, tall, 1))
    air = (
        19
        * rng.uniform(0.85, 1.1)
        * canvas.fill([lung], 0.8)
        * (0.45 + 0.55 * canvas.thickness(canvas.fill([lung]), 40))
    )
    heart = 0.75 * canvas.fill([smooth(place([
        (-84, 170), (-60, 108), (-22, 96), (24, 128), (36, 176), (10, 200), (-50, 204),
    ]), closed=True)], 1.5)  # fmt: skip
    aorta = 0.25 * canvas.stroke(Stroke((smooth(place([(-30, 110), (-22, 70), (12, 56), (44, 76), (58, 190)])),), 26.0))
    air = air * (1 - heart) * (1 - aorta)
    return expose((tissue + arms - 0.74 * air) * SOFT_MU + _lateral_bones(canvas, rng, deep, tall), pose, rng)


def _lateral_bones(canvas: Canvas, rng: np.random.Generator, deep: float, tall: float) -> Map:
    """Return spine, ribs and breastbone from the side."""
    y = np.arange(-60.0, 300.0, 23.0)
    x = 62 + 14 * np.sin((y + 30) / 330 * np.pi) + rng.normal(0, 1)
    square = np.array([(-1, -1), (1, -1), (0.86, 0), (1, 1), (-1, 1), (-0.86, 0)])
    bodies = [(square * (15, 8.5) + centre) * (deep, tall) for centre in zip(x, y, strict=True)]
    ribs = []
    for start in np.arange(0.0, 200.0, 22.0):
        drop = rng.uniform(70, 95)
        ribs.append(smooth(np.array([(88, start), (100, start + 22), (60, start + 58), (-20, start + drop),
                                     (-84, start + drop + 14)]) * (deep, tall)))  # fmt: skip
    sternum = smooth(np.array([(-68, 44), (-90, 90), (-97, 150)]) * (deep, tall))
    return np.asarray(
        0.42 * canvas.fill(bodies)
        + 0.2 * canvas.stroke(Stroke(tuple(ribs), 11.0), wall=1.3)
        + 0.35 * canvas.stroke(Stroke((sternum,), 10.0), wall=1.5),
        np.float32,
    )


def draw_hand(rng: np.random.Generator, size: int) -> NDArray[np.uint16]:
    """Return a film of a hand, ``size`` pixels along its longest side, the fingers up, left or right."""
    pose = _pose(rng, size, (-95, 95), (-125, 150), mirrored=bool(rng.uniform() < 0.5))
    canvas = Canvas(pose)
    fingers = [
        _finger(rng, base, angle, length)
        for base, angle, length in (((-36, 8), -22, 72), ((-14, -4), -7, 92), ((6, -6), 2, 100), ((26, 0), 11, 92),
                                    ((44, 46), 48, 66))
    ]  # fmt: skip
    wrist = np.array([(0.0, 82.0), (2.0, 170.0)])
    palm = smooth(np.array([(-46, 8), (-8, -12), (34, -6), (48, 40), (34, 84), (-32, 84)], float), closed=True)
    flesh = np.maximum(
        canvas.fill([palm], 1.0),
        np.maximum(canvas.stroke(Stroke(tuple(fingers), 19.0), blur=1.0), canvas.stroke(Stroke((wrist,), 56.0))),
    )
    tissue = SOFT_MU * 2.6 * flesh * (0.5 + 0.5 * canvas.thickness(flesh, 12))
    bones = [part for finger in fingers for part in _parted(finger, 3)]
    hand = [np.array([finger[0], 0.25 * finger[0] + 0.75 * np.array([0, 66])]) for finger in fingers]
    forearm = [np.array([(-14, 98), (-15, 170)]), np.array([(16, 98), (17, 170)])]
    carpals = [np.array([x, y]) + 7 * CIRCLE for x in (-16, -2, 13) for y in (70, 84)]
    bone = canvas.stroke(Stroke((*bones, *hand), 9.0), wall=1.6) + canvas.stroke(Stroke(tuple(forearm), 19.0), wall=2.5)
    return expose(tissue + 0.5 * np.maximum(bone, canvas.fill(carpals)), pose, rng)


def _finger(rng: np.random.Generator, base: tuple[float, float], degrees: float, length: float) -> Points:
    """Return the line of a finger from its knuckle to its tip."""
    angle = np.radians(degrees + rng.normal(0, 4))
    along = np.array([np.sin(angle), -np.cos(angle)]) * length * rng.uniform(0.92, 1.08)
    return np.array(base) + np.linspace(0, 1, 8)[:, None] * along


def _parted(line: Points, parts: int) -> list[Points]:
    """Return the bones of a finger: pieces of its line with joints between them."""
    ends = np.linspace(0.04, 1.0, parts + 1)
    return [line[0] + np.array([[a], [b - 0.05]]) * (line[-1] - line[0]) for a, b in pairwise(ends)]


def _pose(rng: np.random.Generator, size: int, x: tuple[float, float], y: tuple[float, float], mirrored: bool) -> Pose:
    """Return a pose that shows x and y of the body in mm, moved and turned a little."""
    (left, right), (top, bottom) = (np.array(side) + rng.uniform(-8, 8) for side in (x, y))
    scale = size / max(right - left, bottom - top)
    angle = np.radians(rng.normal(0, 2))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    sign = -1.0 if mirrored else 1.0
    matrix = turn @ np.diag([sign, 1.0]) * scale
    middle = matrix @ np.array([(left + right) / 2, (top + bottom) / 2])
    height, width = round((bottom - top) * scale), round((right - left) * scale)
    return Pose(np.concatenate([matrix, (np.array([width, height]) / 2 - middle)[:, None]], axis=1), height, width)
