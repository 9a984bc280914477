"""What is found at how many false alarms: free-response ROC, average precision, recall, by finding and by size.

A detection is matched to a true box of its own finding on its film, each true box once, the detections in the order of
their scores, each to the free box it overlaps most (as COCO does). What is left over is a false positive. Detections of
one score enter together, so that no figure depends on the order they come in. All detections count, also beyond 100.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from cxr.detect.intervals import Estimate, Values, estimates

if TYPE_CHECKING:  # it reads the task, which reads the figures of each epoch, which are these
    from cxr.detect.results import FilmResult

FP_RATES = (1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8)
"""False positives a film at which sensitivity is told (LUNA16)."""
COCO_IOUS = tuple(np.linspace(0.5, 0.95, 10).tolist())

Rule = Literal["iou50", "iou40", "centre"]
RULES: tuple[Rule, ...] = ("iou50", "iou40", "centre")
"""IoU ≥ 0.5; IoU ≥ 0.4 (VinBigData); the centre of the detection inside the true box, its border included."""

_RECALLS = np.linspace(0, 1, 101)


@dataclass(frozen=True)
class FrocPoint:
    """Sensitivity at a bearable number of false alarms, and the threshold that gives it.

    Args:
        false_positives: a film, as many as the threshold really gives: at most what was asked for.
        sensitivity: share of the true boxes found; NaN without any.
        threshold: detections scored so or higher are shown; infinite where even the highest gives too many.
        low, high: 95 % interval of the sensitivity at what was asked for; NaN where there is none.
    """

    false_positives: float
    sensitivity: float
    threshold: float
    low: float = math.nan
    high: float = math.nan


@dataclass(frozen=True, eq=False)
class Froc:
    """The curve, a point for each score that occurs, from nothing shown (threshold infinite) to everything.

    Args:
        thresholds: [T] falling.
        false_positives: [T] a film; all films are in the denominator.
        sensitivity: [T] share of the true boxes found; NaN without any.
        normal_false_positives: [T] a normal film; NaN without any.
    """

    thresholds: Values
    false_positives: Values
    sensitivity: Values
    normal_false_positives: Values

    def at(self, fp_per_film: float) -> FrocPoint:
        """Return the lowest threshold with at most so many false positives a film. Nothing is interpolated."""
        i = int(np.searchsorted(self.false_positives, fp_per_film, side="right")) - 1
        return FrocPoint(float(self.false_positives[i]), float(self.sensitivity[i]), float(self.thresholds[i]))


@dataclass(frozen=True, eq=False)
class Matches:
    """What became of every true box and every detection.

    Args:
        found: [N] score of the detection that found each true box, -inf where none did; film by film.
        found_film: [N] index of its film.
        alarms: [A] scores of the false positives, falling.
        alarm_film: [A] index of their film.
        normal: [films] bool.
    """

    found: Values
    found_film: NDArray[np.int64]
    alarms: Values
    alarm_film: NDArray[np.int64]
    normal: NDArray[np.bool_]


def match(results: Sequence["FilmResult"], label: int | None = None, rule: Rule | float = "iou50") -> Matches:
    """Match the detections of one finding, or of all (None), to the true boxes. A number is a least IoU.

    Raises:
        ValueError: the rule is not known.
    """
    film, labels, boxes, scores = _flat([(r.labels, r.boxes, r.scores) for r in results], label)
    true_film, true_labels, true_boxes, found = _flat(
        [(r.truth_labels, r.truth_boxes, np.full(len(r.truth_labels), -np.inf)) for r in results], label
    )
    detection, truth = _pairs(film, labels, true_film, true_labels)
    overlap, near = _overlap(boxes[detection], true_boxes[truth], rule)
    detection, truth, overlap = detection[near], truth[near], overlap[near]
    free = np.ones(len(scores), bool)
    taken = np.zeros(len(found), bool)
    for i in np.lexsort((detection, -overlap, -scores[detection])):
        d, t = detection[i], truth[i]
        if free[d] and not taken[t]:
            free[d], taken[t], found[t] = False, True, scores[d]
    order = np.argsort(-scores[free], kind="stable")
    normal = np.array([r.normal for r in results], bool)
    return Matches(found, true_film, scores[free][order], film[free][order], normal)


def froc(results: Sequence["FilmResult"], label: int | None = None, rule: Rule | float = "iou50") -> Froc:
    """Return the curve of one finding, or of all pooled (None): true boxes of all findings, false positives of all."""
    matches = match(results, label, rule)
    found = -np.sort(-matches.found)
    thresholds = np.unique(np.concatenate([found[np.isfinite(found)], matches.alarms, [np.inf]]))[::-1]

    def share(scores: Values, whole: int) -> Values:
        above = np.searchsorted(-scores, -thresholds, side="right")
        return above / whole if whole else np.full(len(thresholds), np.nan)

    normal_alarms = matches.alarms[matches.normal[matches.alarm_film]]
    return Froc(
        thresholds,
        share(matches.alarms, len(results)),
        share(found, len(found)),
        share(normal_alarms, int(matches.normal.sum())),
    )


class SensitivityAt:
    """Sensitivity at numbers of false positives a film, as a function of how often each film counts."""

    def __init__(
        self,
        results: Sequence["FilmResult"],
        label: int | None = None,
        rule: Rule | float = "iou50",
        rates: Sequence[float] = FP_RATES,
    ) -> None:
        matches = match(results, label, rule)
        self.rates = np.asarray(rates, np.float64)
        self.boxes = len(matches.found)
        order = np.argsort(-matches.found, kind="stable")
        self._found_film = matches.found_film[order]
        self._alarm_film = matches.alarm_film
        alarms = matches.alarms
        self._last = np.flatnonzero(np.append(alarms[1:] != alarms[:-1], [True] * (len(alarms) > 0)))  # of each score
        found = matches.found[order]
        # What may be found before the alarms of each score come, and when all have come
        before = np.searchsorted(-found, -alarms[self._last], side="left")
        self._before = np.append(before, np.isfinite(found).sum())

    def __call__(self, times: Values) -> Values:
        """Return sensitivity at each rate; NaN without true boxes."""
        films = times.sum()
        found = np.append(0, np.cumsum(times[self._found_film]))
        if films == 0 or found[-1] == 0:
            return np.full(len(self.rates), np.nan)
        alarms = np.cumsum(times[self._alarm_film])[self._last] / films
        allowed = np.searchsorted(alarms, self.rates, side="right")
        result: Values = found[self._before[allowed]] / found[-1]
        return result


def froc_with_intervals(
    results: Sequence["FilmResult"],
    label: int | None = None,
    rule: Rule | float = "iou50",
    rates: Sequence[float] = FP_RATES,
    samples: int = 1000,
    seed: int = 0,
) -> list[FrocPoint]:
    """Return the point of each rate with the interval of its sensitivity, by bootstrap over patients."""
    figure = SensitivityAt(results, label, rule, rates)
    curve = froc(results, label, rule)
    intervals = estimates(figure, results, [figure.boxes] * len(rates), samples, seed)
    return [replace(curve.at(rate), low=e.low, high=e.high) for rate, e in zip(rates, intervals, strict=True)]


def recall(
    results: Sequence["FilmResult"],
    label: int | None = None,
    rule: Rule | float = "iou50",
    samples: int = 1000,
    seed: int = 0,
) -> Estimate:
    """Return the share of the true boxes that any detection found, however low its score; ``n`` is the boxes."""
    figure = SensitivityAt(results, label, rule, rates=(math.inf,))
    return estimates(figure, results, [figure.boxes], samples, seed)[0]


class AveragePrecision:
    """COCO's average precision of one finding (101 recalls), a value for each IoU, as a function of the films' counts.

    0 for a finding that was detected and has no true box; NaN for one that has neither.
    """

    def __init__(self, results: Sequence["FilmResult"], label: int, ious: Sequence[Rule | float] = (0.5,)) -> None:
        self.matches = [match(results, label, iou) for iou in ious]
        self.boxes = len(self.matches[0].found)
        self.detections = sum(int((r.labels == label).sum()) for r in results)

    def __call__(self, times: Values) -> Values:
        """Return average precision at each IoU."""
        if self.boxes == 0:
            return np.full(len(self.matches), 0.0 if self.detections else np.nan)
        return np.array([_average_precision(m, times) for m in self.matches])


class MeanAveragePrecision:
    """The mean over findings of their average precision, itself the mean over the IoUs."""

    def __init__(
        self, results: Sequence["FilmResult"], labels: Sequence[int], ious: Sequence[Rule | float] = (0.5,)
    ) -> None:
        self.findings = [AveragePrecision(results, label, ious) for label in labels]

    def __call__(self, times: Values) -> Values:
        """Return the mean [1]; a finding that has no true box among these films but some among all is left out."""
        values = np.array([finding(times).mean() for finding in self.findings])
        known = values[~np.isnan(values)]
        return np.array([known.mean() if len(known) else np.nan])


def average_precision(
    results: Sequence["FilmResult"],
    label: int | None,
    ious: Sequence[Rule | float] = (0.5,),
    samples: int = 1000,
    seed: int = 0,
) -> Estimate:
    """Return the mean over ``ious`` of one finding's average precision, or its mean over all findings (None).

    ``ious`` is (0.4,), (0.5,) or ``COCO_IOUS``. A finding that was detected and has no true box counts as 0; COCO would
    leave it out. ``n`` is the true boxes.
    """
    labels = [label] if label is not None else range(1, 1 + len(results[0].finding_scores))
    figure = MeanAveragePrecision(results, list(labels), ious)
    return estimates(figure, results, [sum(f.boxes for f in figure.findings)], samples, seed)[0]


def _average_precision(matches: Matches, times: Values) -> float:
    order = np.argsort(-matches.found, kind="stable")
    found, films = matches.found[order], matches.found_film[order]
    boxes = times[films].sum()
    if boxes == 0:
        return math.nan
    hits = np.isfinite(found)
    true = np.append(0, np.cumsum(times[films[hits]]))
    false = np.append(0, np.cumsum(times[matches.alarm_film]))
    true = true[np.searchsorted(-found[hits], -found[hits], side="right")]
    false = false[np.searchsorted(-matches.alarms, -found[hits], side="right")]
    shown = true + false
    precision = np.divide(true, shown, out=np.zeros(len(true)), where=shown > 0)
    envelope = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
    return float(envelope[np.searchsorted(true / boxes, _RECALLS, side="left")].mean())


def _flat(
    films: Sequence[tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.floating]]], label: int | None
) -> tuple[NDArray[np.int64], NDArray[np.int64], Values, Values]:
    """Return film, label, box [.., 4] and score of every box of the films, of one finding if a label is given."""
    film = np.repeat(np.arange(len(films)), [len(labels) for labels, _, _ in films])
    labels = np.concatenate([np.zeros(0, np.int64), *(labels for labels, _, _ in films)])
    boxes = np.concatenate([np.zeros((0, 4)), *(boxes for _, boxes, _ in films)])
    scores = np.concatenate([np.zeros(0), *(scores for _, _, scores in films)])
    own = slice(None) if label is None else labels == label
    return film[own], labels[own], boxes[own].astype(np.float64), scores[own].astype(np.float64)


def _pairs(
    film: NDArray[np.int64], labels: NDArray[np.int64], true_film: NDArray[np.int64], true_labels: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the indices of every detection and true box of the same finding on the same film."""
    classes = 1 + max(labels.max(initial=0), true_labels.max(initial=0))
    key, true_key = film * classes + labels, true_film * classes + true_labels
    order = np.argsort(true_key, kind="stable")
    first = np.searchsorted(true_key[order], key, side="left")
    count = np.searchsorted(true_key[order], key, side="right") - first
    detection = np.repeat(np.arange(len(key)), count)
    nth = np.arange(len(detection)) - np.repeat(np.cumsum(count) - count, count)
    return detection, order[first[detection] + nth]


def _overlap(boxes: Values, true: Values, rule: Rule | float) -> tuple[Values, NDArray[np.bool_]]:
    """Return the IoU [pairs] of boxes [pairs, 4] with true boxes [pairs, 4], and whether the rule calls it found."""
    sides = np.minimum(boxes[:, 2:], true[:, 2:]) - np.maximum(boxes[:, :2], true[:, :2])
    common = np.clip(sides, 0, None).prod(1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1) + (true[:, 2:] - true[:, :2]).prod(1)
    overlap = common / (areas - common)
    if rule == "centre":
        centre = (boxes[:, :2] + boxes[:, 2:]) / 2
        inside: NDArray[np.bool_] = ((true[:, :2] <= centre) & (centre <= true[:, 2:])).all(1)
        return overlap, inside
    least = {"iou50": 0.5, "iou40": 0.4}.get(rule) if isinstance(rule, str) else rule
    if least is None:
        raise ValueError(f"rule is {rule!r}, expected {', '.join(RULES)} or a least IoU in 0..1")
    return overlap, overlap >= least
