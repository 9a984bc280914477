"""How good a map is: against the reader's marks, against baselines that look at nothing, and over many patients.

Figures of one map (``figures`` of ``cxr.explain.record.Explained``):
    hit: pointing game (Zhang 2016), does the maximum lie in a true box? Without the 15 px tolerance of that paper.
    energy: energy-based pointing game (Score-CAM, Wang 2020), the share of the map's sum inside the true boxes.
    iou: overlap of the map's bright part with the true boxes.
    deletion, insertion: does the detector's score follow the map? See ``cxr.explain.faithful``.
The first three say whether a map points at the finding, the last two whether it points at what the detector used. They
may disagree, and then it is the detector that looks elsewhere.
"""

import csv
import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Column, Table

from cxr.explain.record import Box, Explained, ExplainedFilm
from cxr.files import whole_file

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
    tells no more than the box did.

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
    draws = _Resamples(records, samples, seed)
    columns = dict.fromkeys((m, f) for r in records for b in r.boxes for m, own in b.figures.items() for f in own)
    methods = list(dict.fromkeys(method for method, _ in columns))  # as they come, the baselines last
    ordered = [m for m in methods if m not in BASELINES] + [m for m in BASELINES if m in methods]
    return [
        row
        for method in ordered
        for figure in FIGURES
        if (method, figure) in columns
        for row in draws.rows(method, figure, _reader(method, figure))
    ]


def paired_difference(
    records: Sequence[ExplainedFilm], method: str, baseline: str, figure: str, samples: int = 1000, seed: int = 0
) -> ScoreRow:
    """Return by how much ``method`` exceeds ``baseline`` in ``figure``, the mean over findings, with its interval.

    Taken box by box where both were measured, and bootstrapped as the rows are: the interval is that of the difference,
    so 0 outside of it says more than two intervals that do not touch. NaN where no box has both.
    """
    first, second = _reader(method, figure), _reader(baseline, figure)

    def difference(box: Explained) -> float | None:
        values = first(box), second(box)
        return None if values[0] is None or values[1] is None else values[0] - values[1]

    name = f"{method} - {baseline}"
    rows = _Resamples(records, samples, seed).rows(name, figure, difference)
    return rows[0] if rows else ScoreRow(ALL, name, figure, math.nan, math.nan, math.nan, 0, 0)


def write_scores(path: Path, rows: Sequence[ScoreRow]) -> None:
    """Write the rows as csv, a column each field; what could not be measured is empty. Whole or not at all."""
    with whole_file(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(field.name for field in fields(ScoreRow))
        for row in rows:
            writer.writerow(_cell(value) for value in astuple(row))


def print_scores(rows: Sequence[ScoreRow], console: Console) -> None:
    """Print two tables: the mean over findings of every figure with its interval, and the hit rate of each finding."""
    if not rows:
        console.print("No map could be scored.")
        return
    console.print(_means_table(rows))
    if any(row.figure == "hit" for row in rows):
        _print_hits(rows, console)


def print_differences(rows: Sequence[ScoreRow], console: Console) -> None:
    """Print by how much each method exceeds each baseline: rows of ``paired_difference``."""
    measured = [row for row in rows if row.boxes]
    if not measured:
        return
    columns = list(dict.fromkeys((row.method.split(" - ")[1], row.figure) for row in measured))
    cells = {(*row.method.split(" - "), row.figure): row for row in measured}
    headings = [Column(f"{figure}\nover {baseline}", justify="right") for baseline, figure in columns]
    table = Table("method", *headings, title="Paired differences, mean over findings")
    for method in dict.fromkeys(method for method, *_ in cells):
        table.add_row(method, *(_signed(cells.get((method, *column))) for column in columns))
    console.print(table)


class _Resamples:
    """The patients of some records, drawn again and again with replacement."""

    def __init__(self, records: Sequence[ExplainedFilm], samples: int, seed: int) -> None:
        self.records = records
        self.index = {name: i for i, name in enumerate(sorted({record.patient for record in records}))}
        patients = max(len(self.index), 1)
        # [samples, patients]: how often each patient was drawn
        self.times = np.random.default_rng(seed).multinomial(patients, np.full(patients, 1 / patients), samples)

    def rows(self, method: str, figure: str, value: Callable[[Explained], float | None]) -> list[ScoreRow]:
        """Return the row of all findings and those of each, none where ``value`` is None for every box."""
        measured: dict[str, list[tuple[int, float]]] = {}
        for record in self.records:
            for box in record.boxes:
                if (number := value(box)) is not None:
                    measured.setdefault(box.finding, []).append((self.index[record.patient], number))
        if not measured:
            return []
        findings = sorted(measured)
        values = [float(np.mean([number for _, number in measured[name]])) for name in findings]
        resampled = np.stack([self._means(measured[name]) for name in findings])  # [findings, samples]
        present = ~np.isnan(resampled)
        over_findings = _mean(np.where(present, resampled, 0).sum(0), present.sum(0))
        every = [pair for pairs in measured.values() for pair in pairs]
        return [
            _row(ALL, method, figure, float(np.mean(values)), over_findings, every),
            *(
                _row(name, method, figure, own, means, measured[name])
                for name, own, means in zip(findings, values, resampled, strict=True)
            ),
        ]

    def _means(self, measured: Sequence[tuple[int, float]]) -> NDArray[np.float64]:
        """Return the mean over boxes in each resample, NaN where none of them was drawn."""
        patients, numbers = (np.asarray(column) for column in zip(*measured, strict=True))
        count = np.bincount(patients, minlength=len(self.index))
        total = np.bincount(patients, weights=numbers, minlength=len(self.index))
        return _mean(self.times @ total, self.times @ count)


def _reader(method: str, figure: str) -> Callable[[Explained], float | None]:
    nothing: Mapping[str, float] = {}
    return lambda box: box.figures.get(method, nothing).get(figure)


def _row(
    finding: str,
    method: str,
    figure: str,
    value: float,
    resampled: NDArray[np.float64],
    measured: Sequence[tuple[int, float]],
) -> ScoreRow:
    patients = len({patient for patient, _ in measured})
    known = resampled[~np.isnan(resampled)]
    low, high = np.percentile(known, (2.5, 97.5)) if patients > 1 and len(known) else (math.nan, math.nan)
    return ScoreRow(finding, method, figure, value, float(low), float(high), len(measured), patients)


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


def _cell(value: str | float) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.4f}"
    return str(value)


def _means_table(rows: Sequence[ScoreRow]) -> Table:
    means = {(row.method, row.figure): row for row in rows if row.finding == ALL}
    figures = [figure for figure in FIGURES if any(figure == seen for _, seen in means)]
    headings = [_right(f"{figure} {FIGURES[figure]}") for figure in figures]
    table = Table(Column("method", no_wrap=True), *headings, title="Maps: mean over findings, and its 95 % interval")
    for method in dict.fromkeys(method for method, _ in means):
        if method == next((m for m, _ in means if m in BASELINES), None):
            table.add_section()
        table.add_row(method, *(_with_interval(means.get((method, figure))) for figure in figures))
    table.caption = "bootstrap over patients; ↑ high is good, ↓ low is; below the line: baselines"
    return table


def _print_hits(rows: Sequence[ScoreRow], console: Console) -> None:
    """Print a line a method and a numbered column a finding; its name stands below, too long to stand above."""
    hits = {(row.finding, row.method): row for row in rows if row.figure == "hit" and row.finding != ALL}
    findings = sorted({finding for finding, _ in hits})
    table = Table("method", *(_right(str(n)) for n in range(1, len(findings) + 1)), title="Hit rate of each finding")
    for method in dict.fromkeys(method for _, method in hits):
        own = [hits.get((finding, method)) for finding in findings]
        table.add_row(method, *(f"{row.value:.2f}" if row is not None else "–" for row in own))
    console.print(table)
    for n, finding in enumerate(findings, start=1):
        boxes = max(row.boxes for (name, _), row in hits.items() if name == finding)
        console.print(f"  {n}  {finding.replace('_', ' ')}: {boxes} boxes", highlight=False)


def _signed(row: ScoreRow | None) -> str:
    return "–" if row is None else f"{row.value:+.2f}  {row.low:+.2f} {row.high:+.2f}"


def _with_interval(row: ScoreRow | None) -> str:
    if row is None:
        return "–"
    return f"{row.value:.2f}" if math.isnan(row.low) else f"{row.value:.2f}  {row.low:.2f}–{row.high:.2f}"


def _right(heading: str) -> Column:
    return Column(heading, justify="right", overflow="fold")  # nothing is cut off on a narrow terminal
