"""Which detection finds which true box.

A detection finds a true box of its own finding on its own film, where the two lie close enough by a rule. Each true box
is found by one detection and each detection finds one box: the detections choose in the order of their scores, each
takes the free box that it overlaps most (as COCO does). A detection that finds nothing is a false positive.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cxr.measure.intervals import Values
from cxr.measure.results import FilmResult

Rule = Literal["iou50", "iou40", "centre"]
RULES: Mapping[Rule, str] = {
    "iou50": "it overlaps the marked box with IoU 0.5 or more",
    "iou40": "it overlaps the marked box with IoU 0.4 or more (VinBigData)",
    "centre": "its centre lies inside the marked box",  # or on its border
}
"""When a detection is right, by the rule's name."""

_LEAST_IOU = {"iou50": 0.5, "iou40": 0.4}
_Indices = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Matches:
    """What became of every true box and of every detection.

    Args:
        truth_scores: [N] score of the detection that finds each true box, -inf where none does; film by film.
        truth_film: [N] index of its film.
        alarms: [A] scores of the false positives, falling.
        alarm_film: [A] index of their film.
        normal: [films] bool.
    """

    truth_scores: Values
    truth_film: _Indices
    alarms: Values
    alarm_film: _Indices
    normal: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class _Boxes:
    """Boxes of many films, end to end: film (an index) and labels [B], boxes [B, 4] xyxy."""

    film: _Indices
    labels: _Indices
    boxes: Values


def match(results: Sequence[FilmResult], label: int | None = None, rule: Rule | float = "iou50") -> Matches:
    """Match the detections of one finding, or of all findings (None), to the true boxes. A number is a least IoU.

    Raises:
        ValueError: the rule is not known, or a score is not a number.
    """
    for result in results:
        if not np.isfinite(result.scores).all():
            raise ValueError(f"{result.study}: a detection's score is not a number, expected 0..1")
    detected, chosen = _flat([(r.labels, r.boxes) for r in results], label)
    scores = np.concatenate([np.zeros(0), *(r.scores for r in results)])[chosen]
    true, _ = _flat([(r.truth_labels, r.truth_boxes) for r in results], label)
    detection, truth = _candidates(detected, true)
    overlap, close = overlaps(detected.boxes[detection], true.boxes[truth], rule)
    detection, truth, overlap = detection[close], truth[close], overlap[close]
    truth_scores, free = np.full(len(true.film), -np.inf), np.ones(len(scores), bool)
    for d, t in _one_to_one(detection, truth, scores[detection], overlap):
        truth_scores[t], free[d] = scores[d], False
    order = np.argsort(-scores[free], kind="stable")
    normal = np.array([r.normal for r in results], bool)
    return Matches(truth_scores, true.film, scores[free][order], detected.film[free][order], normal)


def pairs(result: FilmResult, rule: Rule, threshold: float = 0.0, across: bool = False) -> list[tuple[int, int]]:
    """Return who finds whom on one film: (detection, true box), among the detections scored ``threshold`` or higher.

    With ``across``, the detections and true boxes that are left over are then matched whatever their findings. On a
    chest several findings share a place, so a detection is called a mix-up only where its own finding is not there.
    """
    overlap, close = overlaps(result.boxes[:, None], result.truth_boxes[None], rule)
    same = result.labels[:, None] == result.truth_labels[None]
    close &= (result.scores >= threshold)[:, None]
    matched: list[tuple[int, int]] = []
    for allowed in (same, ~same) if across else (same,):
        detection, truth = np.nonzero(close & allowed)
        new = _one_to_one(detection, truth, result.scores[detection], overlap[detection, truth])
        for d, t in new:
            close[d] = close[:, t] = False
        matched += new
    return matched


def overlaps(
    boxes: NDArray[np.floating], truth: NDArray[np.floating], rule: Rule | float
) -> tuple[Values, NDArray[np.bool_]]:
    """Return the IoU of boxes [..., 4] with true boxes [..., 4], and whether the rule calls the true box found.

    Raises:
        ValueError: the rule is not known.
    """
    boxes, truth = boxes.astype(np.float64), truth.astype(np.float64)
    sides = np.minimum(boxes[..., 2:], truth[..., 2:]) - np.maximum(boxes[..., :2], truth[..., :2])
    common = np.clip(sides, 0, None).prod(-1)
    areas = (boxes[..., 2:] - boxes[..., :2]).prod(-1) + (truth[..., 2:] - truth[..., :2]).prod(-1)
    overlap = common / (areas - common)
    if rule == "centre":
        centre = (boxes[..., :2] + boxes[..., 2:]) / 2
        return overlap, np.all((truth[..., :2] <= centre) & (centre <= truth[..., 2:]), axis=-1)
    least = _LEAST_IOU.get(rule) if isinstance(rule, str) else rule
    if least is None:
        raise ValueError(f"rule is {rule!r}, expected {', '.join(RULES)} or a least IoU in 0..1")
    return overlap, overlap >= least


def _one_to_one(
    detection: _Indices, truth: _Indices, scores: NDArray[np.floating], overlap: Values
) -> list[tuple[int, int]]:
    """Return those of the candidate pairs (detection, true box) that stay: the highest score chooses first."""
    taken: list[tuple[int, int]] = []
    detections, boxes = set(), set()
    order = np.lexsort((truth, detection, -overlap, -scores))
    for d, t in zip(detection[order].tolist(), truth[order].tolist(), strict=True):
        if d not in detections and t not in boxes:
            detections.add(d)
            boxes.add(t)
            taken.append((d, t))
    return taken


def _flat(
    films: Sequence[tuple[NDArray[np.int64], NDArray[np.float32]]], label: int | None
) -> tuple[_Boxes, NDArray[np.bool_]]:
    """Return the boxes of all films, of one finding if a label is given, and which of all boxes these are."""
    film = np.repeat(np.arange(len(films)), [len(labels) for labels, _ in films])
    labels = np.concatenate([np.zeros(0, np.int64), *(labels for labels, _ in films)])
    boxes = np.concatenate([np.zeros((0, 4)), *(boxes for _, boxes in films)])
    chosen = np.ones(len(labels), bool) if label is None else labels == label
    return _Boxes(film[chosen], labels[chosen], boxes[chosen]), chosen


def _candidates(detected: _Boxes, true: _Boxes) -> tuple[_Indices, _Indices]:
    """Return the indices of every detection and every true box of the same finding on the same film."""
    classes = 1 + max(detected.labels.max(initial=0), true.labels.max(initial=0))
    key, true_key = detected.film * classes + detected.labels, true.film * classes + true.labels
    order = np.argsort(true_key, kind="stable")
    first = np.searchsorted(true_key[order], key, side="left")
    count = np.searchsorted(true_key[order], key, side="right") - first
    detection = np.repeat(np.arange(len(key)), count)
    nth = np.arange(len(detection)) - np.repeat(np.cumsum(count) - count, count)
    return detection, order[first[detection] + nth]
