"""What disease adds to a thorax, drawn at random: calcium, osteophytes, apical caps, opacities. No pixels.

A large heart, a tortuous aorta and a curved spine are other shapes of the same parts: see anatomy and skeleton.
"""

import numpy as np

from cxr.data.skeleton import SIDES, T1, Habitus, Points, Spine, Stroke, smooth


def draw_calcium(rng: np.random.Generator, aorta: Stroke) -> Stroke:
    """Return arcs along the wall of the aortic knob, and a few flecks beside them."""
    knob = aorta.lines[0][32]  # where the arch turns down: between the fourth and fifth point it is drawn through
    radius = aorta.width / 2 - 1.5
    arcs = []
    for start, end in rng.uniform(((-2.5, -0.7), (-0.3, 0.6)), ((-2.0, 0.0), (0.1, 1.0))):
        angle = np.linspace(start, end, 14)
        arc = knob + radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)
        arcs.append(arc + rng.normal(0, 0.25, arc.shape))
    for _ in range(rng.integers(0, 4)):
        fleck = knob + rng.uniform(-0.6, 0.7, 2) * radius
        arcs.append(np.stack([fleck, fleck + rng.normal(0, 1.2, 2)]))
    return Stroke(tuple(arcs), rng.uniform(2.2, 3.2))


def draw_osteophytes(rng: np.random.Generator, spine: Spine) -> tuple[Stroke, Stroke, Points]:
    """Return bridges over the discs, hardened end-plates, and the outline of the 5 to 8 vertebrae concerned."""
    count = int(rng.integers(5, 9))
    first = T1 + int(rng.integers(3, 12 - count))  # T4 at the highest, T11 at the lowest
    full_side = -1.0 if rng.uniform() < 0.75 else 1.0  # the pulse of the aorta keeps the left side free in most
    bridges, plates = [], []
    for upper in range(first, first + count - 1):
        for side in SIDES:
            bulge = rng.uniform(1.3, 1.55)
            if side == full_side or rng.uniform() < 0.7:
                bridges.append(_bridge(spine, upper, side, bulge))
        plates += [spine.place(upper + i, np.array([(-1.05, y), (1.05, y)])) for i, y in ((0, 0.98), (1, -0.98))]
    strokes = Stroke(tuple(bridges), rng.uniform(4.0, 5.5)), Stroke(tuple(plates), rng.uniform(2.2, 3.2))
    bodies = np.concatenate(spine.bodies[first : first + count])
    return *strokes, np.concatenate([bodies, strokes[0].outline])


def _bridge(spine: Spine, upper: int, side: float, bulge: float) -> Points:
    """Return the way of an osteophyte from the flank of one vertebra to that of the next, ``bulge`` half widths out."""
    above = spine.place(upper, np.array([(0.95, 0.1), (1.12, 0.75), (bulge, 1.25)]) * (side, 1))
    below = spine.place(upper + 1, np.array([(bulge, -1.25), (1.12, -0.75), (0.95, -0.1)]) * (side, 1))
    middle = (above[-1:] + below[:1]) / 2
    return smooth(np.concatenate([above[:-1], middle, below[1:]]))


def draw_cap(rng: np.random.Generator, lung: Points) -> Points:
    """Return a crescent under the apex of a lung, thickest in its middle."""
    reach, thick = rng.uniform(28, 40), rng.uniform(9, 17)
    rim = lung[: np.argmax(lung[:, 1] > reach)]
    inward = np.array([rim[:, 0].mean(), reach + 10]) - rim
    inward /= np.linalg.norm(inward, axis=1, keepdims=True)
    depth = thick * np.sin(np.pi * np.linspace(0, 1, len(rim))) ** 0.6
    return np.concatenate([rim, (rim + depth[:, None] * inward)[::-1]])


def draw_opacities(rng: np.random.Generator, body: Habitus) -> Points:
    """Return [K, 5] bumps (centre, radii, density) in one or both lungs, most of them in the lower zones."""
    sides = SIDES if rng.uniform() < 0.8 else (rng.choice(SIDES),)
    w, h = body.half_width, body.height
    patches = []
    for side in sides:
        for _ in range(rng.integers(2, 5)):
            x, y = side * rng.uniform(0.38, 0.8) * w, rng.triangular(0.3, 0.75, 0.98) * h
            patches.append((x, y, rng.uniform(0.16, 0.3) * w, rng.uniform(0.12, 0.24) * h, rng.uniform(0.4, 1.0)))
    return np.array(patches)
