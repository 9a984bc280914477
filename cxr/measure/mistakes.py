"""Where a detector goes wrong, box by box: findings it takes for others, sizes it overlooks, its worst films."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxr.measure.matching import Rule, match, pairs
from cxr.measure.results import FilmResult

SIZES = ((0.0, 0.01), (0.01, 0.05), (0.05, 0.2), (0.2, 1.0))
"""Strata of a box's share of its film's area, [low, high): calcium of the aortic knob is in the first, a heart in the
third, an infiltrate over both lungs in the last."""


@dataclass(frozen=True)
class Miss:
    """A true box: film and box by index, and the highest score of a detection that would have found it, 0 for none."""

    film: int
    truth: int
    score: float


@dataclass(frozen=True)
class Alarm:
    """A detection that finds nothing: film and detection by index, and its score."""

    film: int
    detection: int
    score: float


@dataclass(frozen=True)
class Stratum:
    """True boxes of a size: how many there are, and how many of them are hit by a detection from a threshold up."""

    low: float
    high: float
    boxes: int
    hits: int


def confusion(results: Sequence[FilmResult], labels: Sequence[int], rule: Rule, threshold: float) -> NDArray[np.int64]:
    """Return counts [K + 1, K + 1] over the findings ``labels``: rows what a reader marked, columns what was detected.

    The last row holds detections where nothing is marked, the last column true boxes that nothing finds; their corner
    is 0. Counted are detections scored ``threshold`` or higher.
    """
    place = {label: i for i, label in enumerate(labels)}
    nothing = len(labels)
    counts = np.zeros((nothing + 1, nothing + 1), np.int64)
    for result in results:
        matched = pairs(result, rule, threshold, across=True)
        for m, n in matched:
            counts[place[int(result.truth_labels[n])], place[int(result.labels[m])]] += 1
        for n in set(range(len(result.truth_labels))) - {n for _, n in matched}:
            counts[place[int(result.truth_labels[n])], nothing] += 1
        for m in set(np.flatnonzero(result.scores >= threshold).tolist()) - {m for m, _ in matched}:
            counts[nothing, place[int(result.labels[m])]] += 1
    return counts


def by_size(results: Sequence[FilmResult], rule: Rule, threshold: float) -> list[Stratum]:
    """Return, for each of ``SIZES``, the share of its true boxes that detections from ``threshold`` up find."""
    hit = match(results, None, rule).truth_scores >= threshold
    boxes = np.concatenate([np.zeros((0, 4)), *(r.truth_boxes.astype(np.float64) for r in results)])
    films = np.concatenate([np.zeros(0), *(np.full(len(r.truth_labels), r.size[0] * r.size[1]) for r in results)])
    share = (boxes[:, 2:] - boxes[:, :2]).prod(1) / films
    within = [(share >= low) & ((share < high) | (high == 1.0)) for low, high in SIZES]
    return [
        Stratum(low, high, int(inside.sum()), int(hit[inside].sum()))
        for (low, high), inside in zip(SIZES, within, strict=True)
    ]


def worst_misses(results: Sequence[FilmResult], rule: Rule, count: int) -> list[Miss]:
    """Return the ``count`` true boxes that are found with the lowest scores, those not found at all first."""
    scores = iter(match(results, None, rule).truth_scores.tolist())
    misses = [
        Miss(film, n, max(next(scores), 0.0)) for film, r in enumerate(results) for n in range(len(r.truth_labels))
    ]
    return sorted(misses, key=lambda miss: miss.score)[:count]


def worst_alarms(results: Sequence[FilmResult], rule: Rule, count: int) -> list[Alarm]:
    """Return up to ``count`` detections that find nothing, the surest first, one a film."""
    alarms = []
    for film, result in enumerate(results):
        right = {m for m, _ in pairs(result, rule)}
        wrong = [m for m in range(len(result.scores)) if m not in right]
        if wrong:
            worst = max(wrong, key=lambda m: float(result.scores[m]))
            alarms.append(Alarm(film, worst, float(result.scores[worst])))
    return sorted(alarms, key=lambda alarm: -alarm.score)[:count]
