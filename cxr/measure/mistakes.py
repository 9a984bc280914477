"""Where a detector goes wrong, box by box: findings it takes for others, sizes it overlooks, its worst films."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxr.measure.froc import Rule, match
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
    """True boxes of a size: how many there are, and how many of them a detection from a threshold up finds."""

    low: float
    high: float
    boxes: int
    found: int


def overlaps(result: FilmResult, rule: Rule) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return [M, N] for detections and true boxes of any finding: their IoU, and whether ``rule`` calls one found."""
    boxes, truth = result.boxes[:, None, :].astype(np.float64), result.truth_boxes[None, :, :].astype(np.float64)
    sides = np.minimum(boxes[..., 2:], truth[..., 2:]) - np.maximum(boxes[..., :2], truth[..., :2])
    common = np.clip(sides, 0, None).prod(-1)
    union = (boxes[..., 2:] - boxes[..., :2]).prod(-1) + (truth[..., 2:] - truth[..., :2]).prod(-1) - common
    overlap = np.divide(common, union, out=np.zeros_like(common), where=union > 0)
    if rule == "centre":
        centre = (boxes[..., :2] + boxes[..., 2:]) / 2
        return overlap, np.all((truth[..., :2] <= centre) & (centre <= truth[..., 2:]), axis=-1)
    least = 0.5 if rule == "iou50" else 0.4
    return overlap, overlap >= least


def pairs(result: FilmResult, rule: Rule, threshold: float = 0.0, across: bool = False) -> list[tuple[int, int]]:
    """Return who finds whom on a film: (detection, true box), each at most once.

    Detections scored ``threshold`` or higher take a free true box of their own finding, as ``cxr.measure.froc.match``
    has it. With ``across``, those left over then take what is left of other findings: on a chest several findings share
    a place, so a detection is called a mix-up only where its own finding is not there.
    """
    overlap, close = overlaps(result, rule)
    same = result.labels[:, None] == result.truth_labels[None, :]
    shown = (result.scores >= threshold)[:, None]
    found: dict[int, int] = {}  # detection → true box
    for allowed in (close & same & shown, close & ~same & shown) if across else (close & same & shown,):
        candidates = np.argwhere(allowed).tolist()
        for m, n in sorted(candidates, key=lambda mn: (-result.scores[mn[0]], -overlap[mn[0], mn[1]], mn)):
            if m not in found and n not in found.values():
                found[m] = n
    return list(found.items())


def confusion(results: Sequence[FilmResult], labels: Sequence[int], rule: Rule, threshold: float) -> NDArray[np.int64]:
    """Return counts [K + 1, K + 1] over the findings ``labels``: rows what a reader marked, columns what was detected.

    The last row holds detections where nothing is marked, the last column true boxes that nothing finds; their corner
    is 0. Counted are detections scored ``threshold`` or higher.
    """
    place = {label: i for i, label in enumerate(labels)}
    nothing = len(labels)
    counts = np.zeros((nothing + 1, nothing + 1), np.int64)
    for result in results:
        found = pairs(result, rule, threshold, across=True)
        for m, n in found:
            counts[place[int(result.truth_labels[n])], place[int(result.labels[m])]] += 1
        for n in set(range(len(result.truth_labels))) - {n for _, n in found}:
            counts[place[int(result.truth_labels[n])], nothing] += 1
        for m in set(np.flatnonzero(result.scores >= threshold).tolist()) - {m for m, _ in found}:
            counts[nothing, place[int(result.labels[m])]] += 1
    return counts


def by_size(results: Sequence[FilmResult], rule: Rule, threshold: float) -> list[Stratum]:
    """Return, for each of ``SIZES``, the share of its true boxes that detections from ``threshold`` up find."""
    hit = match(results, None, rule).found >= threshold
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
    found = iter(match(results, None, rule).found.tolist())
    misses = [
        Miss(film, n, max(next(found), 0.0)) for film, r in enumerate(results) for n in range(len(r.truth_labels))
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
