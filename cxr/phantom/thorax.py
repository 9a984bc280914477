"""Draws a thorax in three dimensions from geometry: the anatomy of a series and the findings in it.

CT and MR have the same geometry, a map of tissues, and give these tissues different values. Coordinates are (z, y, x)
in mm from the middle of the volume: towards the head, the back and the patient's left.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter  # type: ignore[import-untyped]

CONSOLIDATION = "consolidation"
EFFUSION = "pleural_effusion"
FINDINGS = (CONSOLIDATION, EFFUSION)
"""The findings that can be drawn."""

Modality = Literal["CT", "MR"]
Mask = NDArray[np.bool_]
Values = NDArray[np.float32]
Triple = tuple[float, float, float]

_LENGTH_MM, _WIDTH_MM = 224.0, 336.0  # size of the volume along z, and along y and x
_SLICES = 56 / 96  # number of slices for each pixel along the side of a slice
_AIR, _FAT, _MUSCLE, _LUNG, _BLOOD, _CORTEX, _MARROW, _FLUID, _LESION = range(9)
# Values of the tissues: Hounsfield units for CT; for MR arbitrary units, T2-weighted (fluid bright, cortical bone dark)
_HU = np.array([-1000, -100, 50, -830, 45, 650, 200, 8, 35], np.float32)
_MR = np.array([0, 620, 260, 45, 180, 40, 420, 900, 480], np.float32)
_CONSOLIDATION_MM = (30.0, 45.0)  # radius of the filled part of a lung
_DEPTH_MM = (22.0, 45.0)  # depth of the fluid behind a lung when the patient lies on the back


@dataclass(frozen=True, eq=False)
class DrawnSeries:
    """A drawn volume in the patient's axes.

    Args:
        values: float32 [D, H, W]: Hounsfield units for CT, arbitrary units from 0 for MR.
        spacing_mm: distance of voxel centres along D (to the head), H (to the back), W (to the patient's left).
        modality: "CT" or "MR".
        lesions: mask of each finding, bool [D, H, W].
    """

    values: Values
    spacing_mm: Triple
    modality: Modality
    lesions: dict[str, Mask]

    def box_mm(self, finding: str) -> tuple[float, ...]:
        """Return the box (z0, y0, x0, z1, y1, x1) around a finding in mm from the middle of the volume."""
        low, high = [], []
        for axis, (count, spacing) in enumerate(zip(self.values.shape, self.spacing_mm, strict=True)):
            others = tuple(other for other in range(3) if other != axis)
            at = np.flatnonzero(self.lesions[finding].any(axis=others))
            low.append(float((at[0] - count / 2) * spacing))
            high.append(float((at[-1] + 1 - count / 2) * spacing))
        return (*low, *high)


@dataclass(eq=False)
class _Body:
    """The volume while it is drawn: the coordinates of each voxel, and its tissue so far."""

    z: NDArray[np.float32]  # [D, 1, 1]
    y: NDArray[np.float32]  # [1, H, 1]
    x: NDArray[np.float32]  # [1, 1, W]
    tissue: NDArray[np.uint8]
    lesions: dict[str, Mask] = field(default_factory=dict)

    def ellipsoid(self, centre: Triple, radii: Triple) -> Values:
        """Return the squared distance from ``centre`` in units of ``radii``, float32 [D, H, W]; below 1 inside."""
        (z, y, x), (rz, ry, rx) = centre, radii
        return np.asarray(((self.z - z) / rz) ** 2 + ((self.y - y) / ry) ** 2 + ((self.x - x) / rx) ** 2, np.float32)

    def ball(self, centre: NDArray[np.float64], radius: float) -> tuple[tuple[slice, ...], Mask]:
        """Return the slices of the volume around a ball, and a mask of the voxels inside the ball."""
        axes = (self.z.ravel(), self.y.ravel(), self.x.ravel())
        part = tuple(
            slice(*np.searchsorted(axis, (at - radius, at + radius)))
            for axis, at in zip(axes, centre.tolist(), strict=True)
        )
        (z, y, x), (pz, py, px) = centre.tolist(), part
        distance = (self.z[pz] - z) ** 2 + (self.y[:, py] - y) ** 2 + (self.x[:, :, px] - x) ** 2
        return part, np.asarray(distance <= radius**2)


def draw_series(
    rng: np.random.Generator, size: int = 96, findings: Collection[str] = (), modality: Modality = "CT"
) -> DrawnSeries:
    """Return a thorax with these findings and no other: ``size`` pixels along a side, and 7/12 as many slices.

    The same ``rng`` with other findings gives the same patient with those. Raises ``ValueError`` for a finding or a
    modality that cannot be drawn.
    """
    if unknown := sorted(set(findings) - set(FINDINGS)):
        raise ValueError(f"findings are {', '.join(unknown)}, expected some of {', '.join(FINDINGS)}")
    if modality not in ("CT", "MR"):
        raise ValueError(f"modality is {modality!r}, expected 'CT' or 'MR'")
    of_body, of_findings, of_scan = (np.random.default_rng(seed) for seed in rng.integers(2**63, size=3))
    slices = round(size * _SLICES)
    spacing = (_LENGTH_MM / slices, _WIDTH_MM / size, _WIDTH_MM / size)
    body = _empty(slices, size, spacing)
    lungs = _draw_body(body, of_body)
    _draw_vessels(body, of_body, lungs)
    if EFFUSION in findings:
        _draw_effusion(body, of_findings, lungs)
    if CONSOLIDATION in findings:
        _draw_consolidation(body, of_findings, lungs)
    return DrawnSeries(_scan(body, of_scan, modality), spacing, modality, body.lesions)


def _empty(slices: int, size: int, spacing: Triple) -> _Body:
    z, y, x = (
        ((np.arange(count) + 0.5 - count / 2) * mm).astype(np.float32)
        for count, mm in zip((slices, size, size), spacing, strict=True)
    )
    return _Body(z[:, None, None], y[None, :, None], x[None, None, :], np.zeros((slices, size, size), np.uint8))


def _draw_body(body: _Body, rng: np.random.Generator) -> dict[float, Mask]:
    """Draw trunk, ribs, lungs, heart, aorta and spine; return the lungs: -1 is the right one, 1 the left one."""
    wide, deep, fat = rng.uniform(138, 156), rng.uniform(92, 112), rng.uniform(8, 20)
    trunk = body.ellipsoid((0, 0, 0), (700, deep, wide))  # nearly a cylinder
    body.tissue[trunk < 1] = _FAT
    inner = body.ellipsoid((-20, -2, 0), (260, deep - fat, wide - fat))
    body.tissue[inner < 1] = _MUSCLE
    slope, apart, phase = rng.uniform(0.3, 0.5), rng.uniform(26, 31), rng.uniform(0, 30)
    ribs = (inner < 0.93) & (inner > 0.76) & ((body.z + slope * (deep - body.y) + phase) % apart < 9)
    body.tissue[ribs] = _CORTEX
    lungs = {side: _draw_lung(body, rng, side, wide - fat, deep - fat) for side in (-1.0, 1.0)}
    radius = rng.uniform(38, 50)
    heart = body.ellipsoid((rng.uniform(-55, -35), rng.uniform(-35, -20), 22), (radius * 1.15, radius * 0.85, radius))
    aorta = body.ellipsoid((0, 38, 14), (900, 12, 12))
    mediastinum = body.ellipsoid((40, 0, 0), (140, 45, 26))
    body.tissue[mediastinum < 1] = _FAT
    body.tissue[(heart < 1) | (aorta < 1)] = _BLOOD
    spine = body.ellipsoid((0, deep - fat - 30, 0), (2000, 19, 21))
    body.tissue[spine < 1] = _CORTEX
    body.tissue[(spine < 0.75) & ((body.z + phase) % 27 > 4)] = _MARROW  # disks lie between the bodies
    solid = body.tissue != _LUNG
    return {side: lung & ~solid for side, lung in lungs.items()}


def _draw_lung(body: _Body, rng: np.random.Generator, side: float, wide: float, deep: float) -> Mask:
    """Draw one lung above the dome of the diaphragm. How much air it has differs from patient to patient."""
    centre = (rng.uniform(-15, 0), rng.uniform(-2, 6), side * wide * rng.uniform(0.5, 0.54))
    lung = body.ellipsoid(
        centre, (rng.uniform(125, 160), deep * rng.uniform(0.8, 0.86), wide * rng.uniform(0.38, 0.43))
    )
    dome = body.ellipsoid((rng.uniform(-170, -135), 0, centre[2]), (90, deep * 1.1, wide * 0.55))
    inside = np.asarray((lung < 1) & (dome > 1))
    body.tissue[inside] = _LUNG
    return inside


def _draw_vessels(body: _Body, rng: np.random.Generator, lungs: dict[float, Mask]) -> None:
    """Draw tubes that run outwards from each hilum and get thinner. Cut across by a slice they look like nodules."""
    for side, lung in lungs.items():
        hilum = np.array([rng.uniform(-10, 10), 8.0, side * 30])
        for _ in range(14):
            course = np.array([rng.normal(0, 1.0), rng.normal(0, 0.6), side * rng.uniform(0.3, 1)])
            at, radius = hilum.copy(), rng.uniform(4, 6.5)
            while radius > 1.8:
                course = course / np.linalg.norm(course) + rng.normal(0, 0.12, 3)
                at += course * radius * 0.8
                radius *= 0.965
                part, ball = body.ball(at, radius)
                body.tissue[part][ball & lung[part]] = _BLOOD


def _draw_effusion(body: _Body, rng: np.random.Generator, lungs: dict[float, Mask]) -> None:
    """Draw fluid with a level surface behind one lung: the lowest place of a patient who lies on the back."""
    lung = lungs[float(rng.choice(list(lungs)))]
    rows = np.flatnonzero(lung.any(axis=(0, 2)))
    depth = rng.uniform(*_DEPTH_MM) * np.clip((rng.uniform(60, 130) - body.z) / 70, 0, 1)  # thins out towards the apex
    fluid = lung & (body.y > body.y.ravel()[rows[-1]] - depth)
    body.tissue[fluid] = _FLUID
    body.lesions[EFFUSION] = fluid


def _draw_consolidation(body: _Body, rng: np.random.Generator, lungs: dict[float, Mask]) -> None:
    """Fill a rounded part of one lung that had air with tissue, as pneumonia does."""
    aerated = body.tissue == _LUNG
    radius = rng.uniform(*_CONSOLIDATION_MM)
    places = np.argwhere(aerated & (np.abs(body.z) < _LENGTH_MM / 2 - radius))
    axes = (body.z.ravel(), body.y.ravel(), body.x.ravel())
    best, most = np.zeros(3), -1.0
    for place in places[rng.integers(len(places), size=12)]:
        centre = np.array([axis[i] for axis, i in zip(axes, place, strict=True)], float)
        part, ball = body.ball(centre, radius)
        if (share := float(aerated[part][ball].mean())) > most:
            best, most = centre, share
        if share > 0.9:
            break
    part, ball = body.ball(best, radius)
    mask = np.zeros(aerated.shape, np.bool_)
    mask[part] = ball & np.any([lung[part] for lung in lungs.values()], axis=0)
    body.tissue[mask] = _LESION
    body.lesions[CONSOLIDATION] = mask


def _scan(body: _Body, rng: np.random.Generator, modality: Modality) -> Values:
    """Return the values of the tissues with a scanner's blur and noise; MR also has a bias field and a random scale."""
    values = gaussian_filter((_HU if modality == "CT" else _MR)[body.tissue], 0.5)
    noise = rng.standard_normal(values.shape, np.float32)
    if modality == "CT":
        return np.asarray(values + noise * np.float32(rng.uniform(15, 35)), np.float32)
    z, y, x = (axis / np.abs(axis).max() for axis in (body.z, body.y, body.x))
    a, b, c = rng.uniform(-0.25, 0.25, 3)
    bias = 1 + a * z + b * y + c * x - 0.15 * (x**2 + y**2)
    return np.asarray(np.abs(values * bias + 15 * noise) * rng.uniform(0.6, 2.0), np.float32)
