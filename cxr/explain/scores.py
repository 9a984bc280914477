"""How good a map is: against the reader's marks, against baselines that look at nothing, and over many patients.

Figures of one map (``figures`` of ``cxr.explain.record.Explained``):
    hit: pointing game (Zhang 2016), does the maximum lie in a true box? Without the 15 px tolerance of that paper.
    energy: energy-based pointing game (Score-CAM, Wang 2020), the share of the map's sum inside the true boxes.
    iou: overlap of the map's bright part with the true boxes.
    deletion, insertion: does the detector's score follow the map? See ``cxr.explain.faithful``.
The first three say whether a map points at the finding, the last two whether it points at what the detector used. They
may disagree, and then it is the detector that looks elsewhere.
"""

import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cxr.explain.record import Box, Explained, ExplainedFilm
from cxr.measure.intervals import Values, bootstrap

FIGURES = {"hit": "↑", "energy": "↑", "iou": "↑", "deletion": "↓", "insertion": "↑"}
"""Every figure, and whether high (↑) or low (↓) is good."""
BASELINES = ("random", "centre", "own_box")
ALL = "all"
"""The ``finding`` of a row that holds the mean over findings."""

# Half of the maximum is the width a peak is measured at everywhere (FWHM), and what the eye takes for "lit". One level
# for all methods, not tuned on the true boxes: the best level differs from method to method (Choe 2020).
_BRIGHT = 0.5
_NOISE_CELLS = 64
_NOISE_GRAIN = 1 / 16  # standard deviation of the smoothing, as a part of a side: about a cell of a stride-16 map


@dataclass(frozen=True)
class ScoreRow:
    """A figure of a method on a finding: its mean and the 95 % interval of a bootstrap over patients.

    Args:
        finding: canonical name; ``"all"`` is the mean over findings of their means, so that a frequent finding does
            not outweigh the rare ones.
        method: of a map, or a baseline.
        figure: a key of ``FIGURES``.
        value, low, high: NaN where it cannot be measured.
        boxes, patients: that the figure was measured on.
    """

    finding: str
    method: str
    figure: str
    value: float
    low: float
    high: float
    boxes: int
    patients: int


def inside(shape: tuple[int, int], boxes: Sequence[Box]) -> NDArray[np.bool_]:
    """Return bool [H, W]: the union of boxes (xyxy in pixels). A pixel is inside where its centre (j + 0.5) is."""
    region = np.zeros(shape, bool)
    for box in boxes:
        x0, y0, x1, y1 = (max(math.ceil(edge - 0.5), 0) for edge in box)
        region[y0:y1, x0:x1] = True
    return region


def localisation(heatmap: NDArray[np.float32], boxes: Sequence[Box]) -> dict[str, float]:
    """Return hit, energy and iou, each 0..1, of a map against the true boxes of its finding.

    A maximum that several pixels share hits with the share of them inside: a constant or all-zero map scores what
    chance would. Energy and iou of an all-zero map are 0. The bright part of a map is at least half its maximum.

    Args:
        heatmap: [H, W], no negative values.
        boxes: all true boxes of the finding on this film, xyxy in the map's pixels. Without any, or where they hold no
            pixel, nothing can be measured and nothing is returned.

    Raises:
        ValueError: not a map.
    """
    if heatmap.ndim != 2 or not np.isfinite(heatmap).all() or heatmap.min() < 0:
        raise ValueError(f"a map of shape {heatmap.shape} has to be [H, W], finite and not negative")
    truth = inside((heatmap.shape[0], heatmap.shape[1]), boxes)
    if not truth.any():
        return {}
    peak = heatmap.max()
    total = heatmap.sum(dtype=np.float64)
    bright = (heatmap >= _BRIGHT * peak) & (heatmap > 0)
    return {
        "hit": float(truth[heatmap == peak].mean()),
        "energy": float(heatmap[truth].sum(dtype=np.float64) / total) if total > 0 else 0.0,
        "iou": float((bright & truth).sum() / (bright | truth).sum()),
    }


def baseline_maps(shape: tuple[int, int], box: Box, study: str, seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """Return what a method has to beat, each [H, W] float32 of 0..1.

    random: smooth noise, one for each study and seed. Its maximum is as likely at one place as at another, so hit and
    energy are on average the share of the film that the true boxes fill. White noise would have these too, but shows
    the whole film with few of its pixels: on drawn films its insertion area was 0.67, as good as the best maps', and
    that of smooth noise 0.44.

    centre: a Gaussian on the film's centre, its standard deviation a quarter of each side. Most findings lie there.

    own_box: the detector's box, filled. Its hit is the share of it inside the true boxes. A map that does not beat it
    shows no more than the box did.

    Args:
        shape: H, W.
        box: the detector's, xyxy in the same pixels.
        study: the film's pseudonym; the noise does not depend on the order of the films.
        seed: of the noise.
    """
    height, width = shape
    rng = np.random.default_rng([seed, zlib.crc32(study.encode())])
    across, down = (np.exp(-8 * ((np.arange(n) + 0.5) / n - 0.5) ** 2) for n in (width, height))
    centre = np.outer(down, across)
    return {
        "random": cv2.resize(_smooth_noise(rng), (width, height), interpolation=cv2.INTER_LINEAR),
        "centre": (centre / centre.max()).astype(np.float32),
        "own_box": inside(shape, [box]).astype(np.float32),
    }


def score_rows(records: Sequence[ExplainedFilm], samples: int = 1000, seed: int = 0) -> list[ScoreRow]:
    """Return a row for each method and baseline × figure × finding ("all" first) that the records hold.

    The interval is the 2.5 and 97.5 % quantile of ``samples`` resamples of the patients with replacement (Efron 1979):
    films of one patient resemble each other, and so do boxes of one film. A finding that a resample lacks is left out
    of that resample's mean. All rows use the same resamples.

    Limits: with one patient there is no interval (NaN). With a handful it is too narrow, and where all values are
    equal (three hits of three) it has no width: read it beside ``patients``.
    """
    figures = [box.figures for record in records for box in record.boxes]
    columns = {(method, key) for of_box in figures for method, values in of_box.items() for key in values}
    methods = dict.fromkeys(method for of_box in figures for method in of_box)
    ordered = [m for m in methods if m not in BASELINES] + [m for m in BASELINES if m in methods]
    pairs = [(method, key) for method in ordered for key in FIGURES if (method, key) in columns]
    return _rows(records, pairs, lambda box, method, key: box.figures.get(method, {}).get(key), samples, seed)


def paired_difference(
    records: Sequence[ExplainedFilm], method: str, baseline: str, figure: str, samples: int = 1000, seed: int = 0
) -> ScoreRow:
    """Return by how much ``method`` exceeds ``baseline`` in ``figure``, the mean over findings, with its interval.

    Taken box by box where both were measured, and bootstrapped as the rows are: the interval is that of the difference,
    so 0 outside of it says more than two intervals that do not touch. NaN where no box has both.
    """

    def difference(box: Explained, *_: str) -> float | None:
        first, second = (box.figures.get(one, {}).get(figure) for one in (method, baseline))
        return None if first is None or second is None else first - second

    name = f"{method} - {baseline}"
    rows = _rows(records, [(name, figure)], difference, samples, seed)
    return rows[0] if rows else ScoreRow(ALL, name, figure, math.nan, math.nan, math.nan, 0, 0)


def _rows(
    records: Sequence[ExplainedFilm],
    columns: Sequence[tuple[str, str]],
    value: Callable[[Explained, str, str], float | None],
    samples: int,
    seed: int,
) -> list[ScoreRow]:
    """Return for each (method, figure) of ``columns`` the row of all findings, and one for each that was measured.

    ``value`` of a box, a method and a figure is None where it was not measured.
    """
    boxes = [box for record in records for box in record.boxes]
    if not columns or not boxes:
        return []
    films = np.array([i for i, record in enumerate(records) for _ in record.boxes])
    values = np.array([[value(box, *column) for column in columns] for box in boxes], float)  # None becomes NaN
    measured, findings = ~np.isnan(values), sorted({box.finding for box in boxes})
    has_finding = np.array([[box.finding == name for box in boxes] for name in findings])

    def means(times: Values) -> Values:
        """The means of each column over findings, then of each finding: [1 + findings, columns]."""
        counted = has_finding * times[films]
        single = _mean(counted @ np.where(measured, values, 0), counted @ measured)
        known = ~np.isnan(single)
        return np.vstack([_mean(np.where(known, single, 0).sum(0), known.sum(0)), single])

    once, patients = means(np.ones(len(records))), np.array([record.patient for record in records])
    drawn = bootstrap(means, patients.tolist(), samples, seed)
    rows = []
    for column, (method, figure) in enumerate(columns):
        for i, (name, of_finding) in enumerate(zip((ALL, *findings), (has_finding.any(0), *has_finding), strict=True)):
            here = np.flatnonzero(of_finding & measured[:, column])
            if here.size:
                count = len(set(patients[films[here]]))
                interval = _interval(drawn[:, i, column], count)
                rows.append(ScoreRow(name, method, figure, float(once[i, column]), *interval, len(here), count))
    return rows


def _interval(drawn: Values, patients: int) -> tuple[float, float]:
    """Return the 2.5 and 97.5 % quantile of resamples; NaN of one patient."""
    known = drawn[~np.isnan(drawn)]
    if patients < 2 or not known.size:
        return math.nan, math.nan
    low, high = np.percentile(known, (2.5, 97.5))
    return float(low), float(high)


def _mean(total: NDArray[Any], count: NDArray[Any]) -> NDArray[np.float64]:
    mean: NDArray[np.float64] = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
    return mean


def _smooth_noise(rng: np.random.Generator) -> NDArray[np.float32]:
    """Return [64, 64] of 0..1 that goes on across its borders: else smoothing would put more maxima there."""
    frequency = np.fft.fftfreq(_NOISE_CELLS)
    along = np.exp(-2 * (np.pi * _NOISE_GRAIN * _NOISE_CELLS * frequency) ** 2)  # transform of the Gaussian
    noise = np.fft.ifft2(np.fft.fft2(rng.random((_NOISE_CELLS, _NOISE_CELLS))) * np.outer(along, along)).real
    scaled: NDArray[np.float64] = (noise - noise.min()) / np.ptp(noise)
    return scaled.astype(np.float32)
