"""Draws the bones of a thorax at random: spine, ribs, clavicles, scapulae, humeri. Lines and outlines, no pixels yet.

All coordinates are millimetres, as a frontal (PA) film shows the body: x to the right of the film (the patient's left),
y down, the origin on the midline at the height of the lung apices.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]

SIDES = (-1.0, 1.0)  # signs of x on the patient's right and left side
_LEVELS = np.arange(-3, 15)  # numbers of the vertebrae C5 to L2; T1 has number 1
T1 = 4  # index of T1 among them
_ANGLES = np.linspace(0, 2 * np.pi, 24, endpoint=False)
CIRCLE = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1)  # points on a circle of radius 1


@dataclass(frozen=True, eq=False)
class Stroke:
    """Lines [N, 2] in mm, all drawn ``width`` mm wide."""

    lines: tuple[Points, ...]
    width: float

    @property
    def outline(self) -> Points:
        """Points [M, 2] on the border of the drawn lines, so that their bounds are those of the drawing."""
        rim = CIRCLE * self.width / 2
        return np.concatenate([(line[:, None] + rim).reshape(-1, 2) for line in self.lines])


@dataclass(frozen=True, eq=False)
class Habitus:
    """The build of one body, on which the sizes of all parts depend.

    Args:
        half_width: inner half width of the thorax in mm.
        height: height of the right lung in mm, from apex to diaphragm.
        stout: 0 (slim) to 1 (stout).
        female: whether the body has breasts.
    """

    half_width: float
    height: float
    stout: float
    female: bool

    def cage(self, y: NDArray[np.float64] | float) -> NDArray[np.float64]:
        """Return the inner half width of the rib cage at heights ``y``."""
        across, down = np.array(CAGE).T
        return np.asarray(np.interp(np.asarray(y) / self.height, down, across) * self.half_width)


# Shape of the rib cage: (inner half width divided by its largest, y divided by the height of the lung).
CAGE = (
    (0.36, 0.0), (0.49, 0.018), (0.62, 0.07), (0.755, 0.17), (0.87, 0.345),
    (0.945, 0.56), (0.988, 0.79), (1.0, 0.97), (0.99, 1.12), (0.95, 1.4),
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Spine:
    """Vertebrae from C5 to L2: their centres [K, 2], half sizes [K, 2] and tilts [K] in radians."""

    centres: Points
    halves: Points
    tilts: NDArray[np.float64]

    def x(self, y: NDArray[np.float64] | float) -> NDArray[np.float64]:
        """Return the lateral position of the spine at heights ``y``."""
        return np.asarray(np.interp(y, self.centres[:, 1], self.centres[:, 0]))

    @property
    def cobb_angle(self) -> float:
        """Return the angle between the most tilted vertebrae, degrees."""
        return float(np.degrees(np.ptp(self.tilts)))

    def place(self, level: int, points: Points) -> Points:
        """Return points [N, 2] in mm that are given in half sizes of the vertebra with index ``level``."""
        x, y = (points * self.halves[level]).T
        sin, cos = np.sin(self.tilts[level]), np.cos(self.tilts[level])
        turned = np.stack([x * cos + y * sin, y * cos - x * sin], axis=1)
        placed: Points = turned + self.centres[level]
        return placed

    @property
    def bodies(self) -> tuple[Points, ...]:
        """Return the outlines of the vertebral bodies: narrow in the middle, broad at the end-plates."""
        shape = np.array([(-1, -1), (0, -0.94), (1, -1), (0.86, 0), (1, 1), (0, 0.94), (-1, 1), (-0.86, 0)], float)
        return tuple(self.place(level, shape) for level in range(len(self.centres)))

    @property
    def endplates(self) -> Stroke:
        """Return the upper and lower end-plates."""
        plates = [np.array([(-0.97, y), (0.97, y)]) for y in (-0.93, 0.93)]
        return Stroke(tuple(self.place(k, plate) for k in range(len(self.centres)) for plate in plates), 1.3)

    @property
    def processes(self) -> Stroke:
        """Return pedicles (rings) and spinous processes (drops)."""
        pedicles = [CIRCLE * (0.17, 0.34) - np.array((side * 0.62, 0.25)) for side in SIDES]
        parts = [*pedicles, np.array([(0, 0.15), (0.08, 0.75), (-0.08, 0.75), (0, 0.15)])]
        return Stroke(tuple(self.place(k, part) for k in range(len(self.centres)) for part in parts), 1.6)


def draw_spine(rng: np.random.Generator, body: Habitus, scoliosis: bool) -> Spine:
    """Return a C- or S-shaped spine of Cobb angle 20 to 45 degrees, or without scoliosis one of less than 5."""
    pitch = body.height / 9.4 * (0.8 + 0.035 * np.clip(_LEVELS, 0, None))  # puts T10 at the height of the diaphragm
    y = np.cumsum(pitch)
    y -= y[T1] - rng.normal(11, 3)
    shape, mild, severe = rng.uniform(), rng.uniform(0.5, 4), rng.uniform(20, 45)
    side = float(rng.choice(SIDES))
    t = np.linspace(-0.1, 1.1, 241)
    c_shape, s_shape = np.sin(np.pi * t) ** 2, np.sin(2 * np.pi * t) * np.sin(np.pi * t)
    curve = np.where((t > 0) & (t < 1), s_shape if shape < 0.25 else c_shape, 0.0)
    top, bottom = np.interp((1.0, 13.5), _LEVELS, y)
    slope = np.gradient(curve, t) / (bottom - top)
    reach = side * np.tan(np.radians(severe if scoliosis else mild) / 2) / (np.ptp(slope) / 2)
    place = (y - top) / (bottom - top)
    centres = np.stack([np.interp(place, t, curve) * reach, y], axis=1)
    halves = np.stack([(14.5 + 0.45 * _LEVELS) * body.half_width / 132, pitch * 0.39], axis=1)
    return Spine(centres, halves, np.arctan(np.interp(place, t, slope) * reach))


def draw_ribs(rng: np.random.Generator, body: Habitus, spine: Spine) -> tuple[Stroke, Stroke]:
    """Return posterior and anterior halves of the ribs.

    A rib is half an ellipse in space that is tilted forward. Seen from the front, it falls gently beside the spine,
    turns steeply at the chest wall, and its anterior half runs back and down.
    """
    tilt = rng.uniform(0.85, 1.15)
    back, front = [], []
    for rib in range(1, 12):
        level = T1 + rib - 1
        x0, y0 = spine.centres[level]
        drop = tilt * body.height * (0.06 + 0.26 * min(rib - 0.5, 5.5) / 5.5)
        for side in SIDES:
            reach = float(body.cage(y0 + drop)) + 4 + 0.15 * rib
            lean = -side * np.tan(spine.tilts[level]) * reach * 0.7
            end = np.radians((96 if rib > 9 else 138) + rng.uniform(-4, 4))
            phi = np.linspace(np.arcsin(13 / reach), end, 34)
            x = x0 * (1 - np.sin(phi)) + side * reach * np.sin(phi)
            y = y0 - 2 + drop * (1 - np.cos(phi)) + lean * np.sin(phi) - 6 * np.sin(2 * phi)
            line = np.stack([x, y], axis=1)
            turn = int(np.searchsorted(phi, np.pi / 2)) + 1
            back.append(line[:turn])
            if rib < 10:
                front.append(line[turn - 3 :])
    width = body.height / 21 * rng.uniform(0.85, 1.1)
    return Stroke(tuple(back), width), Stroke(tuple(front), width * 1.1)


def draw_shoulders(rng: np.random.Generator, body: Habitus) -> tuple[Stroke, tuple[Points, ...], Stroke, Points]:
    """Return clavicles, shoulder blades, upper arm bones, and the centres [2, 2] of the humeral heads."""
    w, h = body.half_width, body.height
    lift, turned = rng.uniform(-12, 14), rng.uniform(-0.1, 0.04)
    parts: list[tuple[Points, ...]] = []
    for side in SIDES:
        up = lift + rng.normal(0, 3)
        clavicle = smooth(np.array([(17, 27), (0.38 * w, 14), (0.72 * w, 2 - up), (1.3 * w, -6 - up)]))
        rim = np.array([(1.27, -2), (1.32, 10), (1.24, 24), (1.13, 52), (1.06, 56), (1.05, 20), (1.1, 2)]) * (1, 0.01)
        blade = (smooth(rim, closed=True) + np.array((turned, -up / h))) * (w, h)
        head = np.array([1.46 * w, 12 - up])
        arm = head + np.array([(0, 0), (0.2 * w, 0.6 * h), (0.26 * w, 1.5 * h)])
        parts.append(tuple(part * (side, 1) for part in (clavicle, blade, arm, head)))
    clavicles, blades, arms, heads = zip(*parts, strict=True)
    return Stroke(clavicles, rng.uniform(9.5, 12.5)), blades, Stroke(arms, 21.0), np.array(heads)


def smooth(points: Points, closed: bool = False, per: int = 10) -> Points:
    """Return a Catmull-Rom curve through points [N, 2], with ``per`` points from each of them to the next."""
    padded = np.concatenate([points[-1:], points, points[:2]] if closed else [points[:1], points, points[-1:]])
    p0, p1, p2, p3 = (padded[i : len(padded) - 3 + i, None] for i in range(4))
    t = (np.arange(per) / per)[None, :, None]
    square, cube = 2 * p0 - 5 * p1 + 4 * p2 - p3, 3 * p1 - p0 - 3 * p2 + p3
    curve: Points = (p1 + 0.5 * ((p2 - p0) * t + square * t**2 + cube * t**3)).reshape(-1, 2)
    return curve if closed else np.concatenate([curve, points[-1:]])
