"""What is found at how many false alarms: free-response ROC, average precision, recall, by finding and by size.

A detection is matched to a true box of its own finding on its film, each true box once, the detections in the order of
their scores, each to the free box it overlaps most (as COCO does). What is left over is a false positive. Detections of
one score enter together, so that no figure depends on the order they come in. All detections count, also beyond 100.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cxr.measure.intervals import Estimate, Values, estimates, last_of_ties
from cxr.measure.results import FilmResult

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


@dataclass(frozen=True, eq=False)
class Boxes:
    """Boxes of many films: film (an index) and labels int64 [B], boxes float64 [B, 4] xyxy, scores float64 [B]."""

    film: NDArray[np.int64]
    labels: NDArray[np.int64]
    boxes: Values
    scores: Values


def match(results: Sequence[FilmResult], label: int | None = None, rule: Rule | float = "iou50") -> Matches:
    """Match the detections of one finding, or of all (None), to the true boxes. A number is a least IoU.

    Raises:
        ValueError: the rule is not known, or a score is not a number.
    """
    for result in results:
        if not np.isfinite(result.scores).all():
            raise ValueError(f"{result.study}: a detection's score is not a number, expected 0..1")
    detected = _boxes([(r.labels, r.boxes, r.scores) for r in results], label)
    unfound = [np.full(len(r.truth_labels), -np.inf) for r in results]
    true = _boxes([(r.truth_labels, r.truth_boxes, u) for r, u in zip(results, unfound, strict=True)], label)
    return match_boxes(detected, true, np.array([r.normal for r in results], bool), rule)


def match_boxes(detected: Boxes, true: Boxes, normal: NDArray[np.bool_], rule: Rule | float = "iou50") -> Matches:
    """Match as ``match`` does. The scores of ``true`` are not read; ``normal`` is bool [films]."""
    detection, truth = _pairs(detected, true)
    overlap, near = _overlap(detected.boxes[detection], true.boxes[truth], rule)
    detection, truth, overlap = detection[near], truth[near], overlap[near]
    scores = detected.scores
    free = np.ones(len(scores), bool)
    found = np.full(len(true.film), -np.inf)
    for i in np.lexsort((detection, -overlap, -scores[detection])):
        d, t = detection[i], truth[i]
        if free[d] and found[t] == -np.inf:
            free[d], found[t] = False, scores[d]
    order = np.argsort(-scores[free], kind="stable")
    return Matches(found, true.film, scores[free][order], detected.film[free][order], normal)


def froc(results: Sequence[FilmResult], label: int | None = None, rule: Rule | float = "iou50") -> Froc:
    """Return the curve of one finding, or of all pooled (None): true boxes of all findings, false positives of all."""
    return curve(match(results, label, rule))


def curve(matches: Matches) -> Froc:
    """Return the curve of what was matched."""
    found = -np.sort(-matches.found)
    thresholds = np.unique(np.concatenate([found[np.isfinite(found)], matches.alarms, [np.inf]]))[::-1]

    def share(scores: Values, whole: int) -> Values:
        above = np.searchsorted(-scores, -thresholds, side="right")
        return above / whole if whole else np.full(len(thresholds), np.nan)

    return Froc(
        thresholds,
        share(matches.alarms, len(matches.normal)),
        share(found, len(found)),
        share(matches.alarms[matches.normal[matches.alarm_film]], int(matches.normal.sum())),
    )


class SensitivityAt:
    """Sensitivity at numbers of false positives a film, as a function of how often each film counts."""

    def __init__(
        self,
        results: Sequence[FilmResult],
        label: int | None = None,
        rule: Rule | float = "iou50",
        rates: Sequence[float] = FP_RATES,
    ) -> None:
        matches = match(results, label, rule)
        self.rates = np.asarray(rates, np.float64)
        self.boxes = len(matches.found)
        self.patients = len({results[film].patient for film in matches.found_film})
        order = np.argsort(-matches.found, kind="stable")
        found, alarms = matches.found[order], matches.alarms
        self._found_film, self._alarm_film = matches.found_film[order], matches.alarm_film
        self._last = last_of_ties(alarms)
        # How many may be found before the alarms of each score come, and when all have come
        before = np.searchsorted(-found, -alarms[self._last], side="left")
        self._before = np.append(before, np.isfinite(found).sum())
        # Few alarms are within the highest rate, so the cumulative sum of a resample seldom has to go on to the last
        self._likely = int(min(1.3 * self.rates.max() * max(len(results), 1) + 100, len(alarms)))

    def __call__(self, times: Values) -> Values:
        """Return sensitivity at each rate; NaN without true boxes."""
        films = times.sum()
        found = np.append(0, np.cumsum(times[self._found_film]))
        if found[-1] == 0:
            return np.full(len(self.rates), np.nan)
        alarms = np.cumsum(times[self._alarm_film[: self._likely]]) / films
        if self._likely < len(self._alarm_film) and alarms[-1] <= self.rates.max():
            alarms = np.cumsum(times[self._alarm_film]) / films
        within = self._last[: np.searchsorted(self._last, len(alarms))]
        allowed = np.searchsorted(alarms[within], self.rates, side="right")
        sensitivity: Values = found[self._before[allowed]] / found[-1]
        return sensitivity


def froc_with_intervals(
    results: Sequence[FilmResult],
    label: int | None = None,
    rule: Rule | float = "iou50",
    rates: Sequence[float] = FP_RATES,
    samples: int = 1000,
    seed: int = 0,
) -> list[FrocPoint]:
    """Return the point of each rate with the interval of its sensitivity, by bootstrap over patients."""
    whole = froc(results, label, rule)
    found = _sensitivities(results, label, rule, rates, samples, seed)
    return [replace(whole.at(rate), low=e.low, high=e.high) for rate, e in zip(rates, found, strict=True)]


def recall(
    results: Sequence[FilmResult],
    label: int | None = None,
    rule: Rule | float = "iou50",
    samples: int = 1000,
    seed: int = 0,
) -> Estimate:
    """Return the share of the true boxes that any detection found, however low its score; ``n`` is the boxes."""
    return _sensitivities(results, label, rule, (math.inf,), samples, seed)[0]


class FalsePositives:
    """False positives scored ``threshold`` or higher a normal film, as a function of how often each film counts."""

    def __init__(self, results: Sequence[FilmResult], threshold: float, label: int | None = None) -> None:
        self._normal = np.array([r.normal for r in results], bool)
        self._alarms = np.array(
            [((r.scores >= threshold) & ((label is None) | (r.labels == label))).sum() for r in results], np.float64
        )
        self.films = int(self._normal.sum())

    def __call__(self, times: Values) -> Values:
        """Return the mean [1]; NaN without a normal film."""
        films = times[self._normal].sum()
        return np.array([(times * self._alarms)[self._normal].sum() / films if films else np.nan])


def false_positives_per_normal_film(
    results: Sequence[FilmResult], threshold: float, label: int | None = None, samples: int = 1000, seed: int = 0
) -> Estimate:
    """Return how many detections scored ``threshold`` or higher a normal film has; ``n`` is the normal films."""
    figure = FalsePositives(results, threshold, label)
    return estimates(figure, results, [figure.films], samples, seed, undefined="no normal film")[0]


class AveragePrecision:
    """COCO's average precision of one finding (101 recalls), a value for each IoU, as a function of the films' counts.

    0 for a finding that was detected and has no true box; NaN for one that has neither, and for a resample without
    true boxes.
    """

    def __init__(self, results: Sequence[FilmResult], label: int, ious: Sequence[Rule | float] = (0.5,)) -> None:
        scores = np.concatenate([np.zeros(0, np.float32), *(r.scores[r.labels == label] for r in results)])
        film = np.repeat(np.arange(len(results)), [int((r.labels == label).sum()) for r in results])
        order = np.argsort(-scores, kind="stable")
        scores, self._film = scores[order].astype(np.float64), film[order]
        self._ranked = []
        for iou in ious:
            matches = match(results, label, iou)
            hits = np.argsort(-matches.found, kind="stable")[: int(np.isfinite(matches.found).sum())]
            found = matches.found[hits]
            together = np.searchsorted(-found, -found, side="right")  # true ones among those scored as high, [found]
            shown = np.searchsorted(-scores, -found, side="right")  # and all of them
            self._ranked.append((matches.found_film[hits], together, shown))
        self._true_film = matches.found_film
        self.boxes = len(self._true_film)

    def __call__(self, times: Values) -> Values:
        """Return average precision at each IoU."""
        if self.boxes == 0:
            return np.full(len(self._ranked), 0.0 if len(self._film) else np.nan)
        boxes = times[self._true_film].sum()
        if boxes == 0:
            return np.full(len(self._ranked), np.nan)
        detections = np.append(0, np.cumsum(times[self._film]))
        return np.array([self._at(times, detections, boxes, *ranked) for ranked in self._ranked])

    @staticmethod
    def _at(
        times: Values,
        detections: Values,
        boxes: float,
        film: NDArray[np.int64],
        together: NDArray[np.int64],
        shown: NDArray[np.int64],
    ) -> float:
        true, every = np.append(0, np.cumsum(times[film]))[together], detections[shown]
        precision = np.divide(true, every, out=np.zeros(len(true)), where=every > 0)
        envelope = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
        return float(envelope[np.searchsorted(true / boxes, _RECALLS, side="left")].mean())


class MeanAveragePrecision:
    """The mean over findings of their average precision, itself the mean over the IoUs."""

    def __init__(
        self, results: Sequence[FilmResult], labels: Sequence[int], ious: Sequence[Rule | float] = (0.5,)
    ) -> None:
        self.findings = [AveragePrecision(results, label, ious) for label in labels]

    def __call__(self, times: Values) -> Values:
        """Return the mean [1]; a finding that has no true box among these films but some among all is left out."""
        values = np.array([finding(times).mean() for finding in self.findings])
        known = values[~np.isnan(values)]
        return np.array([known.mean() if len(known) else np.nan])


def average_precision(
    results: Sequence[FilmResult],
    label: int | None,
    ious: Sequence[Rule | float] = (0.5,),
    samples: int = 1000,
    seed: int = 0,
) -> Estimate:
    """Return the mean over ``ious`` of one finding's average precision, or its mean over all findings (None).

    ``ious`` is (0.4,), (0.5,) or ``COCO_IOUS``. A finding that was detected and has no true box counts as 0; COCO would
    leave it out. ``n`` is the true boxes.
    """
    findings = len(results[0].finding_scores) if results else 0
    labels = range(1, 1 + findings) if label is None else (label,)
    figure = MeanAveragePrecision(results, labels, ious)
    boxes = sum(finding.boxes for finding in figure.findings)
    return estimates(figure, results, [boxes], samples, seed, undefined="neither true boxes nor detections")[0]


def _sensitivities(
    results: Sequence[FilmResult],
    label: int | None,
    rule: Rule | float,
    rates: Sequence[float],
    samples: int,
    seed: int,
) -> list[Estimate]:
    figure = SensitivityAt(results, label, rule, rates)
    counts, trials = [figure.boxes] * len(rates), [figure.patients] * len(rates)
    return estimates(figure, results, counts, samples, seed, trials, undefined="no true box")


def _boxes(
    films: Sequence[tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.floating]]], label: int | None
) -> Boxes:
    """Return every box of the films, of one finding if a label is given."""
    film = np.repeat(np.arange(len(films)), [len(labels) for labels, _, _ in films])
    labels = np.concatenate([np.zeros(0, np.int64), *(labels for labels, _, _ in films)])
    boxes = np.concatenate([np.zeros((0, 4)), *(boxes for _, boxes, _ in films)])
    scores = np.concatenate([np.zeros(0), *(scores for _, _, scores in films)])
    own = slice(None) if label is None else labels == label
    return Boxes(film[own], labels[own], boxes[own], scores[own])


def _pairs(detected: Boxes, true: Boxes) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the indices of every detection and true box of the same finding on the same film."""
    classes = 1 + max(detected.labels.max(initial=0), true.labels.max(initial=0))
    key, true_key = detected.film * classes + detected.labels, true.film * classes + true.labels
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
        return overlap, np.all((true[:, :2] <= centre) & (centre <= true[:, 2:]), axis=1)
    least = {"iou50": 0.5, "iou40": 0.4}.get(rule) if isinstance(rule, str) else rule
    if least is None:
        raise ValueError(f"rule is {rule!r}, expected {', '.join(RULES)} or a least IoU in 0..1")
    return overlap, overlap >= least
