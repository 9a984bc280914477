"""The bones of a thorax, drawn at random: spine, ribs, clavicles, scapulae, humeri. Lines and outlines, no pixels.

Frame: millimetres as a frontal (PA) film shows the body, x to the right of the film (the patient's left), y down,
the origin on the midline at the height of the lung apices.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]

SIDES = (-1.0, 1.0)  # of the film: the patient's right, the patient's left
_LEVELS = np.arange(-3, 15)  # vertebrae C5 to L2, T1 is 1
_CIRCLE = np.linspace(0, 2 * np.pi, 25)[:-1]


@dataclass(frozen=True, eq=False)
class Stroke:
    """Lines [N, 2] in mm, all drawn ``width`` mm wide."""

    lines: tuple[Points, ...]
    width: float

    @property
    def outline(self) -> Points:
        """Points [M, 2] on the border of the lines: their bounds are those of what is drawn."""
        rim = np.stack([np.cos(_CIRCLE), np.sin(_CIRCLE)], axis=1) * self.width / 2
        return np.concatenate([(line[:, None] + rim).reshape(-1, 2) for line in self.lines])


@dataclass(frozen=True, eq=False)
class Habitus:
    """What the parts of one body have in common: lengths in mm, ``stout`` and ``age`` (share of a long life) 0..1.

    ``half_width`` is the inner half width of the thorax, ``height`` that of the right lung from apex to dome.
    """

    half_width: float
    height: float
    stout: float
    age: float
    female: bool

    def cage(self, y: NDArray[np.float64] | float) -> NDArray[np.float64]:
        """Return the inner half width of the rib cage at heights ``y``."""
        across, down = np.array(CAGE).T
        return np.asarray(np.interp(np.asarray(y) / self.height, down, across) * self.half_width)


# Inner half width of the rib cage over its largest, by height over that of the lung.
CAGE = (
    (0.36, 0.0), (0.49, 0.018), (0.62, 0.07), (0.755, 0.17), (0.87, 0.345),
    (0.945, 0.56), (0.988, 0.79), (1.0, 0.97), (0.99, 1.12), (0.95, 1.4),
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Spine:
    """Vertebrae from C5 to L2: centres [K, 2], half sizes [K, 2] and tilts [K] (radians, of the curve)."""

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
        """Return points [N, 2] given in half sizes of vertebra ``level`` (an index), in mm of the body."""
        x, y = (points * self.halves[level]).T
        sin, cos = np.sin(self.tilts[level]), np.cos(self.tilts[level])
        return self.centres[level] + np.stack([x * cos + y * sin, y * cos - x * sin], axis=1)

    @property
    def bodies(self) -> tuple[Points, ...]:
        """Return the outlines of the vertebral bodies: waisted, with broad end-plates."""
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
        ring = np.stack([np.cos(_CIRCLE) * 0.17, np.sin(_CIRCLE) * 0.34 - 0.25], axis=1)
        parts = [ring + (-0.62, 0), ring + (0.62, 0), np.array([(0, 0.15), (0.08, 0.75), (-0.08, 0.75), (0, 0.15)])]
        return Stroke(tuple(self.place(k, part) for k in range(len(self.centres)) for part in parts), 1.6)


def draw_spine(rng: np.random.Generator, body: Habitus, scoliosis: bool) -> Spine:
    """Return a spine of Cobb angle 15 to 40 degrees, C- or S-shaped, or a nearly straight one (under 5)."""
    pitch = body.height / 9.4 * (0.8 + 0.035 * np.clip(_LEVELS, 0, None))  # T10 stands at the dome
    y = np.cumsum(pitch)
    y -= y[np.argmax(_LEVELS == 1)] - rng.normal(11, 3)
    shape, mild, severe = rng.uniform(), rng.uniform(0.5, 4), rng.uniform(15, 40)
    side = rng.choice(SIDES)
    t = np.linspace(-0.1, 1.1, 241)
    c_shape, s_shape = np.sin(np.pi * t) ** 2, np.sin(2 * np.pi * t) * np.sin(np.pi * t)
    curve = np.where((t > 0) & (t < 1), s_shape if shape < 0.35 else c_shape, 0.0)
    top, bottom = np.interp((1.0, 13.5), _LEVELS, y)
    slope = np.gradient(curve, t) / (bottom - top)
    reach = side * np.tan(np.radians(severe if scoliosis else mild) / 2) / (np.ptp(slope) / 2)
    place = (y - top) / (bottom - top)
    centres = np.stack([np.interp(place, t, curve) * reach, y], axis=1)
    halves = np.stack([(14.5 + 0.45 * _LEVELS) * body.half_width / 132, pitch * 0.39], axis=1)
    return Spine(centres, halves, np.arctan(np.interp(place, t, slope) * reach))


def draw_ribs(rng: np.random.Generator, body: Habitus, spine: Spine) -> tuple[Stroke, Stroke]:
    """Return posterior and anterior halves of the ribs.

    A rib is half an ellipse in space, tilted to the front, seen from the front: that gives the gentle slope beside
    the spine, the steep turn at the chest wall and the way back down of the anterior half.
    """
    tilt = rng.uniform(0.85, 1.15)
    back, front = [], []
    for rib in range(1, 12):
        level = int(np.argmax(rib == _LEVELS))
        x0, y0 = spine.centres[level]
        drop = tilt * body.height * (0.06 + 0.26 * min(rib - 0.5, 5.5) / 5.5)
        for side in SIDES:
            reach = body.cage(y0 + drop) + 4 + 0.15 * rib
            lean = -side * np.tan(spine.tilts[level]) * reach * 0.5
            end = np.radians((96 if rib > 9 else 138) + rng.uniform(-4, 4))
            phi = np.linspace(np.arcsin(min(0.9, 17 / reach)), end, 34)
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
    w, lift, turned = body.half_width, rng.uniform(-12, 14), rng.uniform(-0.1, 0.04)
    clavicles, blades, arms, heads = [], [], [], []
    for side in SIDES:
        lift_here = lift + rng.normal(0, 3)
        course = np.array([(17, 27), (0.38 * w, 14), (0.72 * w, 2 - lift_here), (1.3 * w, -6 - lift_here)])
        blade = np.array([(1.27, -0.02), (1.32, 0.1), (1.24, 0.24), (1.13, 0.52), (1.06, 0.56), (1.05, 0.2), (1.1, 0.02)])
        head = np.array([1.46 * w, 12 - lift_here])
        clavicles.append(smooth(course) * (side, 1))
        blades.append((smooth(blade + (turned, 0), closed=True) * (w, body.height) - (0, lift_here)) * (side, 1))
        arms.append(np.array([head, head + (0.2 * w, 0.6 * body.height), head + (0.26 * w, 1.5 * body.height)]) * (side, 1))
        heads.append(head * (side, 1))
    return Stroke(tuple(clavicles), rng.uniform(9.5, 12.5)), tuple(blades), Stroke(tuple(arms), 21.0), np.array(heads)


def draw_osteophytes(rng: np.random.Generator, spine: Spine) -> tuple[Stroke, Stroke, Points]:
    """Return bridges over the discs, hardened end-plates, and the outline of the vertebrae concerned (5 to 8)."""
    count = int(rng.integers(5, 9))
    first = int(rng.integers(4, 13 - count)) + int(np.argmax(_LEVELS == 0))
    right_first = rng.uniform() < 0.75  # the aorta keeps the left side free in most
    bridges, plates = [], []
    for level in range(first, first + count - 1):
        for side in SIDES:
            if side == (1 if right_first else -1) and rng.uniform() < 0.3:
                continue
            bulge = rng.uniform(1.3, 1.55)
            above = spine.place(level, np.array([(side * 0.95, 0.1), (side * 1.12, 0.75)]))
            middle = (spine.place(level, np.array([(side * bulge, 1.25)])) + spine.place(level + 1, np.array([(side * bulge, -1.25)]))) / 2
            below = spine.place(level + 1, np.array([(side * 1.12, -0.75), (side * 0.95, -0.1)]))
            bridges.append(smooth(np.concatenate([above, middle, below])))
        plates += [spine.place(level, np.array([(-1.05, 0.98), (1.05, 0.98)])), spine.place(level + 1, np.array([(-1.05, -0.98), (1.05, -0.98)]))]
    strokes = Stroke(tuple(bridges), rng.uniform(4.0, 5.5)), Stroke(tuple(plates), rng.uniform(2.2, 3.2))
    bodies = np.concatenate(spine.bodies[first : first + count])
    return *strokes, np.concatenate([bodies, strokes[0].outline])


def smooth(points: Points, closed: bool = False, per: int = 10) -> Points:
    """Return a Catmull-Rom curve through points [N, 2], ``per`` points a piece."""
    padded = np.concatenate([points[-1:], points, points[:2]] if closed else [points[:1], points, points[-1:]])
    p0, p1, p2, p3 = (padded[i : len(padded) - 3 + i, None] for i in range(4))
    t = (np.arange(per) / per)[None, :, None]
    pieces = 0.5 * (2 * p1 + (p2 - p0) * t + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2 + (3 * p1 - p0 - 3 * p2 + p3) * t**3)
    curve: Points = pieces.reshape(-1, 2)
    return curve if closed else np.concatenate([curve, points[-1:]])
