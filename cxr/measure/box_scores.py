"""What the score of a box means: its curve to a probability, how far it is from one, and the score to show boxes from.

A score is calibrated when of many boxes with the score 0.8 eight in ten are right: each overlaps a marked box of its
finding with IoU 0.5 or more, which no box with a higher score has taken. It says nothing of boxes that are missing.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize  # type: ignore[import-untyped]
from scipy.special import expit, logit  # type: ignore[import-untyped]

from cxr.measure.matching import match, pairs
from cxr.measure.reliability import calibration_error
from cxr.measure.results import FilmResult

Scores = NDArray[np.float32]

_LEAST_SLOPE = 1e-2  # a curve rises, so that boxes of one finding keep their order
_ENOUGH = 10  # right boxes of a finding, and wrong ones, for a curve of its own
_FARTHEST = 1e-6  # from 0 and 1: the log-odds of a score are finite


@dataclass(frozen=True)
class ScoreCurve:
    """A score as a probability: sigmoid(slope · log-odds of the score + offset), which rises with the score.

    Platt's scaling (1999) of the log-odds. Boxes of one finding keep their order, so its average precision stays.
    """

    slope: float
    offset: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.slope) and math.isfinite(self.offset) and self.slope > 0):
            raise ValueError(f"slope {self.slope} and offset {self.offset}: expected finite numbers, the slope above 0")

    def __call__(self, scores: Scores) -> Scores:
        """Return the probabilities [N] of scores [N], both 0..1."""
        return np.asarray(expit(self.slope * _log_odds(scores) + self.offset), np.float32)


def score_curves(results: Sequence[FilmResult], labels: Sequence[int]) -> dict[int, ScoreCurve]:
    """Return the curve of each class; none where no box of all is right, or none is wrong: nothing to learn from.

    A finding with fewer than ten right or ten wrong boxes has the curve of all findings together: its own would follow
    from chance.
    """
    scores, right = scored_boxes(results)
    if right.all() or not right.any():
        return {}
    together, curves = _fitted(scores, right), {}
    for label in labels:
        scores, right = scored_boxes(results, label)
        enough = min(right.sum(), (~right).sum()) >= _ENOUGH
        curves[label] = _fitted(scores, right) if enough else together
    return curves


def least_shown(results: Sequence[FilmResult], label: int) -> float | None:
    """Return the score from which up a finding's boxes are best shown: the highest F1; None where nobody marked it.

    F1 weighs a false alarm as much as a missed box. Of equal ones the highest score.
    """
    matches = match(results, label)
    boxes = len(matches.truth_scores)
    right = np.sort(matches.truth_scores[np.isfinite(matches.truth_scores)])
    if not boxes or not len(right):
        return None
    alarms = np.sort(matches.alarms)
    shown_right = len(right) - np.arange(len(right))  # at the score of each right box: it and those above
    shown_wrong = len(alarms) - np.searchsorted(alarms, right, side="left")
    f1 = 2 * shown_right / (shown_right + shown_wrong + boxes)
    best = len(f1) - 1 - int(f1[::-1].argmax())
    return float(right[best])


def box_calibration_error(results: Sequence[FilmResult], label: int | None = None) -> float:
    """Return the calibration error (ECE) of the boxes of a finding, or of all: NaN where there is none."""
    scores, right = scored_boxes(results, label)
    return calibration_error(scores, right) if len(scores) else math.nan


def scored_boxes(results: Sequence[FilmResult], label: int | None = None) -> tuple[Scores, NDArray[np.bool_]]:
    """Return the scores [N] of all boxes of a finding, or of all findings, and whether each is right."""
    scores, right = [np.zeros(0, np.float32)], [np.zeros(0, bool)]
    for result in results:
        hits = np.zeros(len(result.scores), bool)
        hits[[detection for detection, _ in pairs(result, "iou50")]] = True
        chosen = np.ones(len(hits), bool) if label is None else result.labels == label
        scores.append(result.scores[chosen])
        right.append(hits[chosen])
    return np.concatenate(scores), np.concatenate(right)


def _fitted(scores: Scores, right: NDArray[np.bool_]) -> ScoreCurve:
    """Return the likeliest curve of boxes. Of n right ones each counts as (n + 1) / (n + 2) right, as Platt has it."""
    counts = int(right.sum()), int((~right).sum())
    wanted = np.where(right, (counts[0] + 1) / (counts[0] + 2), 1 / (counts[1] + 2))
    odds = _log_odds(scores)

    def loss(parameters: NDArray[np.float64]) -> float:
        line = parameters[0] * odds + parameters[1]
        return float(np.mean(np.logaddexp(0, line) - wanted * line))

    fitted = minimize(loss, (1.0, 0.0), bounds=((_LEAST_SLOPE, None), (None, None)), method="L-BFGS-B")
    return ScoreCurve(float(fitted.x[0]), float(fitted.x[1]))


def _log_odds(scores: Scores) -> NDArray[np.float64]:
    odds: NDArray[np.float64] = logit(np.clip(scores.astype(np.float64), _FARTHEST, 1 - _FARTHEST))
    return odds
