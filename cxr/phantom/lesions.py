"""Draws at random what diseases add to a thorax: calcium, osteophytes, apical caps, opacities. No pixels yet.

A large heart, a tortuous aorta and a curved spine are not here: they are shapes of parts in anatomy and skeleton.
"""

from dataclasses import dataclass

import numpy as np

from cxr.phantom.skeleton import SIDES, T1, Habitus, Points, Spine, Stroke, smooth


@dataclass(frozen=True, eq=False)
class Lesions:
    """The lesions of one patient in mm. A kind that is absent is empty.

    Args:
        calcium: arcs and flecks on the wall of the aortic knob.
        bridges, sclerosis: osteophytes that bridge discs, and hardened end-plates.
        bridged: outlines of the vertebrae with osteophytes.
        caps: outlines of the thickened pleura under each apex.
        opacities: [K, 5] bumps in the lungs: centre, radii, density.
    """

    calcium: Stroke
    bridges: Stroke
    sclerosis: Stroke
    bridged: tuple[Points, ...]
    caps: tuple[Points, ...]
    opacities: Points

    def only(self, calcium: bool, spondylosis: bool, caps: bool, opacities: bool) -> "Lesions":
        """Return the lesions without those of the kinds that are False."""
        none = Stroke((), 1.0)
        return Lesions(
            calcium=self.calcium if calcium else none,
            bridges=self.bridges if spondylosis else none,
            sclerosis=self.sclerosis if spondylosis else none,
            bridged=self.bridged if spondylosis else (),
            caps=self.caps if caps else (),
            opacities=self.opacities if opacities else self.opacities[:0],
        )


def draw_lesions(
    rng: np.random.Generator, body: Habitus, spine: Spine, lungs: tuple[Points, Points], aorta: Stroke
) -> Lesions:
    """Return lesions of all kinds for this body. Each kind has its own random numbers."""
    of_calcium, of_spurs, of_caps, of_opacities = (np.random.default_rng(seed) for seed in rng.integers(2**63, size=4))
    return Lesions(
        _draw_calcium(of_calcium, aorta),
        *_draw_osteophytes(of_spurs, spine),
        tuple(_draw_cap(of_caps, lung) for lung in lungs),
        _draw_opacities(of_opacities, body),
    )


def _draw_calcium(rng: np.random.Generator, aorta: Stroke) -> Stroke:
    """Return arcs along the wall of the aortic knob, and a few flecks beside them."""
    knob = aorta.lines[0][32]  # where the arch turns down, between the fourth and fifth point of its curve
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


def _draw_osteophytes(rng: np.random.Generator, spine: Spine) -> tuple[Stroke, Stroke, tuple[Points, ...]]:
    """Return bridges over the discs, hardened end-plates, and the outlines of the 8 or 9 vertebrae that have them."""
    count = int(rng.integers(8, 10))
    first = T1 + int(rng.integers(3, 13 - count))  # T4 at the highest, T12 at the lowest
    full_side = -1.0 if rng.uniform() < 0.75 else 1.0  # the aorta's pulse keeps the left side free in most patients
    bridges, plates = [], []
    for upper in range(first, first + count - 1):
        for side in SIDES:
            bulge = rng.uniform(1.4, 1.7)
            if side == full_side or rng.uniform() < 0.7:
                bridges.append(_bridge(spine, upper, side, bulge))
        plates += [spine.place(upper + i, np.array([(-1.05, y), (1.05, y)])) for i, y in ((0, 0.98), (1, -0.98))]
    strokes = Stroke(tuple(bridges), rng.uniform(5.0, 6.5)), Stroke(tuple(plates), rng.uniform(2.8, 3.8))
    return *strokes, spine.bodies[first : first + count]


def _bridge(spine: Spine, upper: int, side: float, bulge: float) -> Points:
    """Return the line of an osteophyte from one vertebra to the next; it bulges by ``bulge`` half widths."""
    above = spine.place(upper, np.array([(0.95, 0.1), (1.12, 0.75), (bulge, 1.25)]) * (side, 1))
    below = spine.place(upper + 1, np.array([(bulge, -1.25), (1.12, -0.75), (0.95, -0.1)]) * (side, 1))
    middle = (above[-1:] + below[:1]) / 2
    return smooth(np.concatenate([above[:-1], middle, below[1:]]))


def _draw_cap(rng: np.random.Generator, lung: Points) -> Points:
    """Return a crescent under the apex of a lung, thickest in its middle."""
    reach, thick = rng.uniform(28, 40), rng.uniform(9, 17)
    rim = lung[: np.argmax(lung[:, 1] > reach)]
    inward = np.array([rim[:, 0].mean(), reach + 10]) - rim
    inward /= np.linalg.norm(inward, axis=1, keepdims=True)
    depth = thick * np.sin(np.pi * np.linspace(0, 1, len(rim))) ** 0.6
    return np.concatenate([rim, (rim + depth[:, None] * inward)[::-1]])


def _draw_opacities(rng: np.random.Generator, body: Habitus) -> Points:
    """Return [K, 5] bumps (centre, radii, density) in one or both lungs, most of them in the lower zones."""
    sides = SIDES if rng.uniform() < 0.8 else (rng.choice(SIDES),)
    w, h = body.half_width, body.height
    patches = []
    for side in sides:
        for _ in range(rng.integers(2, 5)):
            x, y = side * rng.uniform(0.38, 0.8) * w, rng.triangular(0.3, 0.75, 0.98) * h
            patches.append((x, y, rng.uniform(0.16, 0.3) * w, rng.uniform(0.12, 0.24) * h, rng.uniform(0.4, 1.0)))
    return np.array(patches)
