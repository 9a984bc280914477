"""Draws the geometry of a thorax with any of the seven findings at random: outlines and lines, no pixels yet.

All coordinates are millimetres, as a frontal (PA) film shows the body: x to the right of the film (the patient's left),
y down, the origin on the midline at the height of the lung apices. A heart wider than half of the thorax is enlarged
(Danzer, Am J Med Sci 1919); a spine is scoliotic from a Cobb angle of 10 degrees.
"""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from cxr.phantom.lesions import Lesions, draw_lesions
from cxr.phantom.skeleton import (
    CAGE,
    SIDES,
    T1,
    Habitus,
    Points,
    Spine,
    Stroke,
    draw_ribs,
    draw_shoulders,
    draw_spine,
    smooth,
)

CURVATURE = "aortic_curvature"
CALCIFICATION = "aortic_atherosclerosis_calcification"
CARDIOMEGALY = "cardiac_hypertrophy"
PLEURAL_CAPS = "intercostal_pleural_thickening"
INFILTRATION = "lung_field_infiltration"
SPONDYLOSIS = "degenerative_joint_disease_of_the_thoracic_spine"
SCOLIOSIS = "scoliosis"

# Probability of each finding on films that are not normal: (in young patients, in old patients).
PREVALENCE = {
    CURVATURE: (0.16, 0.36),
    CALCIFICATION: (0.18, 0.40),
    CARDIOMEGALY: (0.20, 0.34),
    PLEURAL_CAPS: (0.20, 0.30),
    INFILTRATION: (0.26, 0.26),
    SPONDYLOSIS: (0.20, 0.42),
    SCOLIOSIS: (0.34, 0.28),
}
FINDINGS = tuple(PREVALENCE)


@dataclass(frozen=True, eq=False)
class Thorax:
    """One patient in mm: outlines ([N, 2] polygons), strokes and findings.

    Args:
        habitus: the sizes on which all parts depend.
        trunk: outline of the trunk; the arms are a stroke.
        lungs: the patient's right lung (on the left of the film), then the left.
        aorta: ascending part, arch and descending part in one line.
        airways: trachea and main bronchi.
        vessels: vessels of the lungs, one stroke for each generation of branches, the widest first.
        hila: [K, 5] bumps: centre, radii, share of the lung's air that they replace.
        ribs_back, ribs_front: posterior and anterior halves of the ribs.
        breasts, gas: [K, 5] ellipses: centre, half axes, cm of tissue or of gas.
        lesions: shapes that a disease adds.
        outlines: points [N, 2] of each finding; their bounds are its box.
    """

    habitus: Habitus
    trunk: Points
    arms: Stroke
    lungs: tuple[Points, Points]
    heart: Points
    mediastinum: Points
    aorta: Stroke
    airways: tuple[Stroke, ...]
    vessels: tuple[Stroke, ...]
    hila: Points
    spine: Spine
    ribs_back: Stroke
    ribs_front: Stroke
    clavicles: Stroke
    scapulae: tuple[Points, ...]
    humeri: Stroke
    humeral_heads: Points
    breasts: Points
    gas: Points
    lesions: Lesions
    outlines: dict[str, Points]

    @property
    def cardiothoracic_ratio(self) -> float:
        """Return the width of the heart divided by the inner width of the thorax."""
        return float(np.ptp(self.heart[:, 0]) / np.ptp(np.concatenate(self.lungs)[:, 0]))


def draw_findings(rng: np.random.Generator) -> frozenset[str]:
    """Return at least one finding. Findings of old age tend to come together."""
    age = rng.uniform()
    while True:
        findings = {name for name, (young, old) in PREVALENCE.items() if rng.uniform() < young + age * (old - young)}
        if findings:
            return frozenset(findings)


def draw_thorax(rng: np.random.Generator, findings: Collection[str]) -> Thorax:
    """Return a thorax with these findings and no other.

    Every part has its own random numbers, so the same ``rng`` with other findings gives the same patient with those.
    Raises ``ValueError`` for a finding that cannot be drawn.
    """
    unknown = sorted(set(findings) - set(FINDINGS))
    if unknown:
        raise ValueError(f"cannot draw {', '.join(unknown)}; known findings: {', '.join(FINDINGS)}")
    of_body, of_spine, of_ribs, of_organs, of_aorta, of_vessels, of_soft, of_lesions = (
        np.random.default_rng(seed) for seed in rng.integers(2**63, size=8)
    )
    body = _draw_habitus(of_body)
    spine = draw_spine(of_spine, body, SCOLIOSIS in findings)
    ribs_back, ribs_front = draw_ribs(of_ribs, body, spine)
    clavicles, scapulae, humeri, heads = draw_shoulders(of_ribs, body)
    lungs = _draw_lungs(of_organs, body)
    heart = _draw_heart(of_organs, body, CARDIOMEGALY in findings)
    aorta = _draw_aorta(of_aorta, body, spine, CURVATURE in findings)
    vessels, hila = _draw_vessels(of_vessels, body)
    lesions = draw_lesions(of_lesions, body, spine, lungs, aorta)
    outlines = _outlines_of_findings(aorta, heart, lungs, spine, lesions)
    return Thorax(
        habitus=body,
        trunk=_trunk(body),
        arms=_arms(body, heads),
        lungs=lungs,
        heart=heart,
        mediastinum=_mediastinum(of_organs, body, spine),
        aorta=aorta,
        airways=_airways(of_organs, body, spine),
        vessels=vessels,
        hila=hila,
        spine=spine,
        ribs_back=ribs_back,
        ribs_front=ribs_front,
        clavicles=clavicles,
        scapulae=scapulae,
        humeri=humeri,
        humeral_heads=heads,
        breasts=_draw_breasts(of_soft, body),
        gas=_draw_gas(of_soft, body),
        lesions=lesions.only(
            calcium=CALCIFICATION in findings,
            spondylosis=SPONDYLOSIS in findings,
            caps=PLEURAL_CAPS in findings,
            opacities=INFILTRATION in findings,
        ),
        outlines={name: outlines[name] for name in FINDINGS if name in findings},
    )


def _outlines_of_findings(
    aorta: Stroke, heart: Points, lungs: tuple[Points, Points], spine: Spine, lesions: Lesions
) -> dict[str, Points]:
    """Return points for each finding; their bounds are its box."""
    return {
        CURVATURE: aorta.outline,
        CALCIFICATION: lesions.calcium.outline,
        CARDIOMEGALY: heart,
        PLEURAL_CAPS: np.concatenate(lesions.caps),
        INFILTRATION: np.concatenate(lungs),
        SPONDYLOSIS: np.concatenate([lesions.bridges.outline, *lesions.bridged]),
        SCOLIOSIS: np.concatenate(spine.bodies[T1 : T1 + 12]),
    }


def _draw_habitus(rng: np.random.Generator) -> Habitus:
    stout, female = rng.beta(1.6, 2.2), rng.uniform() < 0.5
    half_width = rng.normal(124 if female else 136, 6) + 8 * stout
    height = half_width * rng.uniform(1.62, 1.95) * (1 - 0.14 * stout)
    return Habitus(float(half_width), float(height), float(stout), female)


def _trunk(body: Habitus) -> Points:
    w, wall = body.half_width, 13 + 34 * body.stout
    neck = 50 + 16 * body.stout
    half = np.array([
        (neck, -260), (neck - 2, -110), (neck + 2, -78), (neck + 22, -54), (w, -40), (1.35 * w, -30), (1.55 * w, -8),
        (1.6 * w, 40), (1.12 * w + wall, 0.52 * body.height), (w + wall + 5, 0.75 * body.height),
        (w + wall, 1.0 * body.height), (w + 1.1 * wall, 1.3 * body.height), (w + 1.2 * wall, 2.6 * body.height),
    ])  # fmt: skip
    half = smooth(half)
    return np.concatenate([half, half[::-1] * (-1, 1)])


def _arms(body: Habitus, heads: Points) -> Stroke:
    course = np.array([(0, 0.08), (0.3, 0.58), (0.5, 2.08)]) * (body.half_width, body.height)
    lines = tuple(head + course * (side, 1) for side, head in zip(SIDES, heads, strict=True))
    return Stroke(lines, 66 + 26 * body.stout)


def _draw_lungs(rng: np.random.Generator, body: Habitus) -> tuple[Points, Points]:
    """Return right and left lung, along rib cage, a sharp costophrenic angle, diaphragm and mediastinum."""
    scale = np.array([body.half_width, body.height])
    angle = rng.uniform(1.1, 1.17)
    lungs = []
    for dome in (1.0, 1.0 + rng.uniform(0.02, 0.07)):  # the liver lifts the right dome
        wall = [(0.16, 0.075), (0.24, 0.02), *(p for p in CAGE if p[1] < 1.05), (0.985, dome * angle)]
        below_dome = [(0.93, 0.08), (0.8, 0.025), (0.6, 0), (0.38, 0.012), (0.2, 0.035), (0.1, 0.05)]
        floor = [(0.985, dome * angle), *((x, dome + y) for x, y in below_dome)]
        outline = np.concatenate([smooth(np.array(wall)), smooth(np.array(floor)), [(0.1, 0.2)]])
        lungs.append(outline * scale)
    return lungs[0] * (-1, 1), lungs[1]


def _draw_heart(rng: np.random.Generator, body: Habitus, enlarged: bool) -> Points:
    """Return the outline of a heart 0.38 to 0.48 times as wide as the thorax; if enlarged, 0.54 to 0.66 times."""
    small, large = rng.uniform(0.38, 0.48), rng.uniform(0.54, 0.66)
    width = 2 * body.half_width * (large if enlarged else small)
    right = rng.uniform(0.28, 0.36) * width
    left = width - right
    top, bottom = rng.uniform(0.4, 0.46) * body.height, rng.uniform(1.09, 1.12) * body.height
    sag = rng.uniform(0.02, 0.1)  # a rounder or a flatter left border
    rows = [
        (-24, 0.0), (-0.72 * right, 0.3), (-right, 0.62), (-0.93 * right, 0.86), (-0.6 * right, 0.97),
        (0.2 * left, 1.0), (0.6 * left, 0.99), (0.88 * left, 0.96), (left, 0.86), (0.92 * left, 0.67),
        (0.66 * left + 3, 0.4 - sag), (0.4 * left + 12, 0.16 - sag / 2), (30, 0.0), (10, -0.05),
    ]  # fmt: skip
    outline = smooth(np.array(rows) * (1, bottom - top) + (0, top), closed=True)
    x = outline[:, 0]
    outline[:, 0] = (x - x.min()) * (width / np.ptp(x)) - right
    return outline


def _mediastinum(rng: np.random.Generator, body: Habitus, spine: Spine) -> Points:
    k, h = body.half_width / 132 * rng.uniform(0.9, 1.15), body.height
    right = np.array([(-34, -0.4), (-30, -0.1), (-27, 0.1), (-29, 0.3), (-33, 0.42), (-27, 0.6), (-22, 1.2)])
    left = np.array([(34, -0.4), (30, -0.1), (22, 0.12), (21, 0.3), (30, 0.42), (24, 0.6), (20, 1.2)])
    outline = np.concatenate([smooth(right * (k, h)), smooth(left * (k, h))[::-1]])
    outline[:, 0] += spine.x(outline[:, 1])  # the tissue beside the spine bends with it
    return outline


def _airways(rng: np.random.Generator, body: Habitus, spine: Spine) -> tuple[Stroke, ...]:
    carina = np.array([rng.uniform(-6, 1), rng.uniform(0.3, 0.35) * body.height])
    line = smooth(np.array([(0, -150), (0, -60), (-2, 0), carina]))
    line[:, 0] += 0.5 * (spine.x(line[:, 1]) - spine.x(carina[1]))
    right = carina + np.array([(0, 0), (-20, 26), (-32, 46)])
    left = carina + np.array([(0, 0), (22, 20), (42, 33)])
    return Stroke((line,), rng.uniform(13, 18)), Stroke((smooth(right), smooth(left)), 10.0)


def _draw_aorta(rng: np.random.Generator, body: Habitus, spine: Spine, tortuous: bool) -> Stroke:
    """Return ascending aorta, arch with its knob, and descending aorta. A tortuous one is wide, high and bent left."""
    wide, out, high, bent = rng.uniform(size=4)
    k, h = body.half_width / 132, body.height
    knob = 20 + 4 * out + tortuous * (11 + 9 * out)
    y = h * (0.27 - 0.02 * high - tortuous * (0.03 + 0.02 * high))
    width = 27 + 4 * wide + tortuous * (3 + 3 * wide)
    bulge = tortuous * (15 + 13 * bent)
    line = np.array([
        (-12 - 7 * tortuous, 0.44 * h), (-11 - 8 * tortuous, y + 0.07 * h), (4, y - 0.02 * h),
        (0.75 * knob, y - 0.005 * h), (knob, y + 0.06 * h), (17 + 0.7 * bulge, 0.45 * h),
        (15 + bulge, 0.58 * h), (12 + 0.75 * bulge, 0.72 * h), (9 + 0.1 * bulge, 0.87 * h), (6, 1.0 * h),
    ]) * (k, 1)  # fmt: skip
    line = smooth(line)
    line[:, 0] += 0.25 * spine.x(line[:, 1])
    return Stroke((line,), width * k)


def _draw_vessels(rng: np.random.Generator, body: Habitus) -> tuple[tuple[Stroke, ...], Points]:
    """Return trees of vessels that branch from both hila, thinner with each generation, and the hila."""
    w, h = body.half_width, body.height
    roots = np.array([(-0.3 * w, 0.46 * h), (0.3 * w, 0.42 * h)]) + rng.normal(0, 4, (2, 2))
    tips, headings = [], []
    for side, root in zip(SIDES, roots, strict=True):
        angle = np.array([-1.3, -0.95, -0.5, 0.05, 0.5, 0.85, 1.15, 1.4]) + rng.normal(0, 0.13, 8)
        tips.append(root + rng.normal(0, 1, (8, 2)) * (0.03 * w, 0.04 * h))
        headings.append(np.where(side > 0, angle, np.pi - angle))
    start, heading = np.concatenate(tips), np.concatenate(headings)
    strokes = []
    for width, length in ((3.4, 0.13), (2.4, 0.13), (1.7, 0.13), (1.1, 0.12), (0.8, 0.1)):
        bend = heading + rng.normal(0, 0.25, len(heading))
        reach = length * h * rng.uniform(0.5, 1.3, (len(heading), 1))
        middle = start + reach / 2 * np.stack([np.cos(heading), np.sin(heading)], axis=1)
        end = middle + reach / 2 * np.stack([np.cos(bend), np.sin(bend)], axis=1)
        strokes.append(Stroke(tuple(np.stack([start, middle, end], axis=1)), width))
        fork = rng.uniform(0.1, 0.55, len(heading))
        start, heading = np.concatenate([end, end]), np.concatenate([bend + fork, bend - fork * rng.uniform(0.2, 1.2)])
    hila = [(*root, 0.11 * w, 0.085 * h, rng.uniform(0.25, 0.45)) for root in roots]
    return tuple(strokes), np.array(hila)


def _draw_breasts(rng: np.random.Generator, body: Habitus) -> Points:
    if not body.female:
        return np.zeros((0, 5))
    size = rng.uniform(0.7, 1.0) * (0.85 + 0.3 * body.stout)
    x, y = rng.uniform(0.5, 0.62) * body.half_width, rng.uniform(0.72, 0.98) * body.height
    cm = rng.uniform(2.0, 3.5) + 2.5 * body.stout
    sides = [(s * x, y + rng.normal(0, 5), 0.46 * size * body.half_width, 0.3 * size * body.height, cm) for s in SIDES]
    return np.array(sides)


def _draw_gas(rng: np.random.Generator, body: Habitus) -> Points:
    """Return the gas of the stomach, under the left half of the diaphragm, and some gas of the bowel."""
    w, h = body.half_width, body.height
    bubble = rng.uniform((0.4 * w, 1.13 * h, 14, 9, 1.5), (0.6 * w, 1.18 * h, 34, 18, 5))
    bowel = rng.uniform((-0.7 * w, 1.28 * h, 9, 9, 0.5), (0.8 * w, 1.6 * h, 24, 24, 2.5), (rng.integers(0, 7), 5))
    return np.concatenate([bubble[None], bowel])
