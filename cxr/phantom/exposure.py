"""Turns the geometry of a thorax into the stored values of a film: attenuation in layers, then noise and window.

The layers follow the law of Beer and Lambert: each one is what its part adds to mu * thickness along the ray. The film
is exp(-sum of layers). A film without ribs, or without vessels, is the same sum without that layer.
"""

from collections.abc import Sequence
from copy import deepcopy

import cv2
import numpy as np
from numpy.typing import NDArray

from cxr.phantom.anatomy import Thorax
from cxr.phantom.canvas import Canvas, Map, Pose
from cxr.phantom.scanner import WeakScanner
from cxr.phantom.skeleton import CIRCLE, Points, Stroke

SOFT_MU = 0.2  # attenuation of water per cm, in a chest beam of about 70 keV effective
_AIR_SHARE = 0.74  # share of air in the volume of an inflated lung


def draw_pose(rng: np.random.Generator, thorax: Thorax, size: int) -> Pose:
    """Return a pose with both lungs on the film: turned by up to 3 degrees, moved from the centre, near or far."""
    angle = np.radians(np.clip(rng.normal(0, 1.2), -3, 3))
    sin, cos = np.sin(angle), np.cos(angle)
    turn = np.array([[cos, -sin], [sin, cos]])
    lungs = np.concatenate(thorax.lungs) @ turn.T
    (left, top), (right, bottom) = lungs.min(axis=0), lungs.max(axis=0)
    wide = right - left
    left, right = left - rng.uniform(0.07, 0.24) * wide, right + rng.uniform(0.07, 0.24) * wide
    top, bottom = top - rng.uniform(0.1, 0.26) * wide, bottom + rng.uniform(0.04, 0.3) * wide
    scale = size / max(right - left, bottom - top)
    matrix = np.concatenate([turn * scale, [[-left * scale], [-top * scale]]], axis=1)
    return Pose(matrix, round((bottom - top) * scale), round((right - left) * scale))


def attenuate(thorax: Thorax, pose: Pose, rng: np.random.Generator) -> dict[str, Map]:
    """Return the attenuation of each part, float32 [H, W]. Their sum is that of the body; air outside is 0."""
    canvas = Canvas(pose)
    of_body, of_lungs, of_opacities = (np.random.default_rng(seed) for seed in rng.integers(2**63, size=3))
    layers = {"soft": _soft(canvas, thorax, of_body)}
    layers |= _chest(canvas, thorax, of_lungs, of_opacities)
    layers |= _bones(canvas, thorax)
    return layers


def _soft(canvas: Canvas, thorax: Thorax, rng: np.random.Generator) -> Map:
    """Return muscle, fat and abdomen, with gas in stomach and bowel, but as if there were no air in the chest."""
    body = thorax.habitus
    silhouette = np.maximum(canvas.fill([thorax.trunk], 0.8), canvas.stroke(thorax.arms, blur=0.8))
    down = canvas.grid[..., 1] / body.height
    chest = 19 + 7.5 * body.stout
    along = np.interp(down, (-0.5, -0.2, 0.25, 0.9, 1.5), (10.5, 11.5, chest, chest, chest + 2.5)).astype(np.float32)
    across = np.abs(canvas.grid[..., 0]) / body.half_width
    along *= np.interp(across, (0, 0.5, 1.3, 1.7), (1.03, 1.0, 0.8, 0.5)).astype(np.float32)
    along *= 1 + 0.012 * canvas.texture(rng, (60, 18, 6))
    tissue = canvas.fine(along) * canvas.thickness(silhouette, 38) * silhouette
    return (tissue + canvas.ellipses(thorax.breasts) - canvas.ellipses(thorax.gas)) * SOFT_MU


def _chest(
    canvas: Canvas, thorax: Thorax, of_lungs: np.random.Generator, of_opacities: np.random.Generator
) -> dict[str, Map]:
    """Return the lungs, which are negative (air in place of tissue), and the parts that replace some of their air.

    Each such part takes its share of the air that the parts before it have left.
    """
    body = thorax.habitus
    fields = canvas.fill(thorax.lungs, 0.7)
    depth = (11.5 + 3.5 * body.stout) * (0.38 + 0.62 * canvas.thickness(fields, 48))
    grain = 1 + 0.03 * canvas.fine(canvas.texture(of_lungs, (9, 4, 2)))
    air: Map = fields * depth * grain * np.float32(SOFT_MU * _AIR_SHARE)
    layers = {"lungs": -air}
    shares = {
        "mediastinum": 0.92 * canvas.fill([thorax.mediastinum], 1.4),
        "aorta": 0.75 * _aorta(canvas, thorax),
        "heart": 0.8 * _rounded(canvas, thorax.heart),
        "vessels": _vessels(canvas, thorax),
    }
    if thorax.lesions.caps:
        shares["caps"] = 0.8 * canvas.fill(thorax.lesions.caps, 1.2)
    if len(thorax.lesions.opacities):
        shares["opacities"] = _opacities(canvas, thorax, of_opacities)
    for name, share in shares.items():
        layers[name] = air * share
        air = air - layers[name]
    layers["airways"] = -0.4 * canvas.stroke(*thorax.airways, levels=(1.0, 0.7), blur=1.0)
    return layers


def _aorta(canvas: Canvas, thorax: Thorax) -> Map:
    # great vessels, fat and nodes in the bend of the arch contain no air either
    bend = canvas.fill([line[: len(line) // 2] for line in thorax.aorta.lines], 1.0)
    return np.maximum(bend, canvas.stroke(thorax.aorta, blur=1.0))


def _rounded(canvas: Canvas, outline: Points) -> Map:
    silhouette = canvas.fill([outline], 1.0)
    rounded: Map = silhouette * (0.62 + 0.38 * canvas.thickness(silhouette, 40))
    return rounded


def _vessels(canvas: Canvas, thorax: Thorax) -> Map:
    """Return the vessels, thin branches fainter than wide ones, and the blurred hila."""
    thin_first = thorax.vessels[::-1]
    branches = canvas.stroke(*thin_first, levels=[0.08 + 0.09 * stroke.width for stroke in thin_first], blur=0.7)
    hila = canvas.fine(canvas.bumps(thorax.hila))
    return np.asarray(np.clip(branches * 0.75 + hila, 0, 0.8), np.float32)


def _opacities(canvas: Canvas, thorax: Thorax, rng: np.random.Generator) -> Map:
    """Return cloudy patches without sharp borders: smooth bumps with texture."""
    cloud = canvas.bumps(thorax.lesions.opacities) * np.exp(0.45 * canvas.texture(rng, (24, 12, 6)))
    return canvas.fine(1 - np.exp(-cloud))


def _bones(canvas: Canvas, thorax: Thorax) -> dict[str, Map]:
    bodies, plates = canvas.fill(thorax.spine.bodies), canvas.stroke(thorax.spine.endplates)
    blades = canvas.fill(thorax.scapulae)
    rims = canvas.stroke(Stroke(tuple(np.concatenate([o, o[:1]]) for o in thorax.scapulae), 2.2))
    heads = canvas.fill([centre + 23 * CIRCLE for centre in thorax.humeral_heads])
    bones = {
        "ribs": 0.34 * canvas.stroke(thorax.ribs_back, wall=1.3, blur=0.6)
        + 0.17 * canvas.stroke(thorax.ribs_front, wall=1.2, blur=0.9),
        "clavicles": 0.4 * canvas.stroke(thorax.clavicles, wall=1.8),
        "spine": 0.27 * bodies + 0.13 * plates + 0.1 * canvas.stroke(thorax.spine.processes),
        "shoulders": 0.13 * blades + 0.13 * rims + 0.5 * np.maximum(heads, canvas.stroke(thorax.humeri, wall=3.5)),
    }
    if thorax.lesions.calcium.lines:
        bones["calcium"] = 0.66 * canvas.stroke(thorax.lesions.calcium, blur=0.4)
    if thorax.lesions.bridges.lines:
        bones["osteophytes"] = 0.52 * canvas.stroke(thorax.lesions.bridges, blur=0.9) + 0.34 * canvas.stroke(
            thorax.lesions.sclerosis
        )
    return bones


def expose(
    attenuation: Map, pose: Pose, rng: np.random.Generator, scanner: WeakScanner | None = None
) -> NDArray[np.uint16]:
    """Return the 12-bit stored values [H, W] of a film, MONOCHROME1 and LOG: high where the attenuation is low.

    The film has scatter, quantum noise, the window of a machine, markers and collimation. The normalisation of the
    course, clip(-ln((1 + x) / 4096) / 2.5, 0, 1), gives the picture with air dark. ``scanner`` is the machine, where it
    is a weak one.
    """
    return expose_alike([attenuation], pose, rng, scanner)[0]


def expose_alike(
    attenuations: Sequence[Map], pose: Pose, rng: np.random.Generator, scanner: WeakScanner | None = None
) -> list[NDArray[np.uint16]]:
    """Return a film [H, W] of each attenuation, all with the dose, noise, window and markers of the first.

    So films of one body with and without some layers differ only by these layers, and by the few quanta that they
    scatter and absorb. The first film is the same as the one of ``expose``.
    """
    streams = [rng, *(deepcopy(rng) for _ in attenuations[1:])]
    seen = [_detect(one, pose, stream, scanner) for one, stream in zip(attenuations, streams, strict=True)]
    films = []
    for one, stream in zip(seen, streams, strict=True):
        picture = _window(one, seen[0], stream)
        _mark(picture, pose, stream)
        films.append(np.asarray(np.rint(4096 * np.exp(np.float32(-2.5) * picture) - 1), np.uint16))
    return films


def _detect(attenuation: Map, pose: Pose, rng: np.random.Generator, scanner: WeakScanner | None) -> Map:
    """Return the attenuation as the X-ray detector sees it: with scatter from about 25 mm around and quantum noise."""
    primary = np.exp(-np.maximum(attenuation, 0))
    step = 4.0 * pose.scale  # scatter is smooth, so pixels of 4 mm are enough
    small = cv2.resize(np.minimum(primary, 0.3), None, fx=1 / step, fy=1 / step, interpolation=cv2.INTER_AREA)
    veil = cv2.GaussianBlur(small, (0, 0), 25 / 4) * rng.uniform(0.03, 0.14)
    primary += cv2.resize(veil.astype(np.float32), primary.shape[::-1], interpolation=cv2.INTER_LINEAR)
    seen = -np.log(primary)
    quanta = rng.uniform(0.0015, 0.005)
    if scanner is not None:
        seen, quanta = scanner.flattened(seen, pose.scale), quanta * scanner.noise
    noise: Map = rng.standard_normal(primary.shape, dtype=np.float32)
    if pose.scale > 1.5:  # the X-ray detector blurs over 0.3 mm
        noise = 2 * np.asarray(cv2.GaussianBlur(noise, (0, 0), 0.3 * pose.scale), np.float32)
    return np.asarray(seen + noise * np.float32(quanta) / np.sqrt(primary), np.float32)


def _window(seen: Map, film: Map, rng: np.random.Generator) -> Map:
    """Return the picture in 0..1, air dark, as a machine shows it. ``film`` decides the window; a curve follows."""
    height, width = film.shape
    inner = film[height // 8 : height * 7 // 8 : 4, width // 8 : width * 7 // 8 : 4]
    dark, bright = np.percentile(inner, (4, 97))
    spread = bright - dark
    low, high = dark - rng.uniform(0.1, 0.45) * spread, bright + rng.uniform(0.05, 0.3) * spread
    picture = np.clip((seen - low) / np.float32(high - low), 0, 1) ** np.float32(rng.uniform(0.7, 1.15))
    return np.asarray(picture * np.float32(rng.uniform(0.7, 1.0)), np.float32)


def _mark(picture: Map, pose: Pose, rng: np.random.Generator) -> None:
    """Draw a side marker, sometimes text and ECG leads, and collimation on the picture."""
    height, width = picture.shape
    unit = max(height, width) / 512
    on_right = rng.uniform() < 0.8  # the patient's right is on the film's left
    x = rng.uniform(0.03, 0.16) if on_right else rng.uniform(0.82, 0.93)
    place = np.array([x * width, rng.uniform(0.05, 0.14) * height])
    _write(picture, "R" if on_right else "L", place, rng.uniform(0.5, 0.9) * unit, boxed=rng.uniform() < 0.4)
    if rng.uniform() < 0.3:
        text = str(rng.choice(["PA ERECT", "CHEST PA", "STANDING", "AP MOBILE"]))
        _write(picture, text, np.array([0.05 * width, 0.93 * height]), 0.35 * unit, boxed=rng.uniform() < 0.5)
    if rng.uniform() < 0.15:
        for _ in range(rng.integers(1, 4)):
            _lead(picture, rng, unit)
    if rng.uniform() < 0.25:
        shade = 0.0 if rng.uniform() < 0.7 else 0.97
        left, top, right, bottom = (rng.uniform(-0.03, 0.03, 4) * (width, height, width, height)).clip(0).astype(int)
        picture[:top], picture[height - bottom :] = shade, shade
        picture[:, :left], picture[:, width - right :] = shade, shade


def _write(picture: Map, text: str, place: NDArray[np.float64], scale: float, boxed: bool) -> None:
    thick = max(1, round(1.6 * scale))
    (wide, tall), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, thick)
    plate = np.zeros((tall + 8, wide + 8), np.uint8)
    cv2.putText(plate, text, (4, tall + 3), cv2.FONT_HERSHEY_SIMPLEX, scale, 255, thick, cv2.LINE_AA)
    x, y = place.astype(int).tolist()
    under = picture[y : y + tall + 8, x : x + wide + 8]
    letters = plate[: under.shape[0], : under.shape[1]].astype(np.float32) / 255
    under[:] = np.maximum(0.0 if boxed else under, 0.98 * letters)


def _lead(picture: Map, rng: np.random.Generator, unit: float) -> None:
    """Draw an ECG lead: a thin wire that ends in an electrode on the chest."""
    height, width = picture.shape
    end = rng.uniform((0.2, 0.2), (0.8, 0.75)) * (width, height)
    start = np.array([rng.uniform(0.2, 0.8) * width, height - 1])
    middle = (start + end) / 2 + rng.normal(0, 0.08, 2) * width
    t = np.linspace(0, 1, 30)[:, None]
    wire = (1 - t) ** 2 * start + 2 * t * (1 - t) * middle + t**2 * end
    layer = np.zeros(picture.shape, np.uint8)
    cv2.polylines(layer, [wire.astype(np.int32)], False, 255, max(1, round(unit)), cv2.LINE_AA)
    cv2.circle(layer, end.astype(int).tolist(), round(5 * unit), 255, max(1, round(2 * unit)), cv2.LINE_AA)
    picture += layer.astype(np.float32) * np.float32(0.13 / 255)
    np.clip(picture, 0, 1, out=picture)
