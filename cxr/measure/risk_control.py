"""A threshold with a promise: conformal risk control (Angelopoulos, Bates, Fisch, Lei and Schuster 2022, theorem 1).

A loss says what a threshold costs one patient: the share of their boxes that is missed, for example. Of the thresholds
the boldest one is taken at which the mean loss, with one more patient of the greatest loss, is no more than a level.
The mean loss of a new patient is then no more than the level either. It holds for any detector and any number of
patients, if the new patient could have been drawn in place of each of the others (they are exchangeable).
"""

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cxr.measure.intervals import Estimate, Values, clopper_pearson, percentiles
from cxr.measure.matching import Rule, match
from cxr.measure.results import FilmResult

MOST_FALSE = 10.0
"""False boxes of a film that are counted at most: without a greatest loss there is no promise."""

_DIGITS = 6  # of the scores that predictions hold (``cxr.detect.prediction``): a promise is of these
_STEP = 10.0**-_DIGITS
_ROUNDING = 1e-12


class Loss(Protocol):
    """What a threshold costs each patient.

    Args:
        patients: how many.
        most: a patient may lose.
        thresholds: [T] that may be chosen, the most careful one first. No patient loses more by a more careful one.
    """

    patients: int
    most: float
    thresholds: Values

    def __call__(self, threshold: float) -> Values:
        """Return the loss of each patient [patients], 0 to ``most``."""
        ...


class MissedBoxes:
    """Of each patient with a finding, the share of its boxes that no shown detection finds.

    A box is found from one score up, that of the detection that takes it (``match``): detections with lower scores take
    nothing away. So a lower threshold never misses more.
    """

    most = 1.0

    def __init__(self, results: Sequence[FilmResult], label: int, rule: Rule = "iou50") -> None:
        matches = match(results, label, rule)
        self.patients, self._owner = _numbered([results[film].patient for film in matches.truth_film])
        self._boxes = np.bincount(self._owner, minlength=self.patients)
        self._scores = np.round(matches.truth_scores, _DIGITS)
        self.thresholds = np.unique(np.append(0.0, self._scores[np.isfinite(self._scores)]))

    def __call__(self, threshold: float) -> Values:
        """Return the share [patients]."""
        missed = np.bincount(self._owner[self._scores < threshold], minlength=self.patients)
        return np.asarray(missed / self._boxes, np.float64)


class FalseBoxes:
    """Of each patient, the false boxes a film, of all findings together. Of a film ``MOST_FALSE`` count at most.

    Films whose readers did not look for every finding have no part: nobody knows which of their boxes are false.
    """

    most = MOST_FALSE

    def __init__(self, results: Sequence[FilmResult], rule: Rule = "iou50") -> None:
        results = [result for result in results if result.labelled is None or result.labelled[:-1].all()]
        matches = match(results, None, rule)
        self.patients, self._owner = _numbered([result.patient for result in results])
        self._films = np.bincount(self._owner, minlength=self.patients)
        self._alarms, self._alarm_film = np.round(matches.alarms, _DIGITS), matches.alarm_film
        above = np.round(self._alarms + _STEP, _DIGITS)
        self.thresholds = np.unique(np.append(0.0, above[above <= 1]))[::-1]

    def __call__(self, threshold: float) -> Values:
        """Return the mean over the films of each patient [patients]."""
        shown = np.bincount(self._alarm_film[self._alarms >= threshold], minlength=len(self._owner))
        counted = np.bincount(self._owner, np.minimum(shown, self.most), minlength=self.patients)
        return np.asarray(counted / self._films, np.float64)


class PutAside:
    """Of each patient with an abnormal film, 1 where any such film is put aside as normal, else 0.

    ``results`` are films that are known to be normal or abnormal (``with_known_truth``).
    """

    most = 1.0

    def __init__(self, results: Sequence[FilmResult]) -> None:
        abnormal = [result for result in results if not result.normal]
        self.patients, owner = _numbered([result.patient for result in abnormal])
        self._lowest = np.full(self.patients, np.inf)
        np.minimum.at(self._lowest, owner, [result.abnormal for result in abnormal])
        self.thresholds = np.unique(np.append(0.0, self._lowest))

    def __call__(self, threshold: float) -> Values:
        """Return 0 or 1 [patients]."""
        return (self._lowest < threshold).astype(np.float64)


@dataclass(frozen=True)
class Promise:
    """The boldest threshold that keeps the mean loss of new patients at or below a level; or that there is none.

    Args:
        level: that the mean loss is kept at or below.
        threshold: None where there is no promise.
        patients: that it was chosen on.
        risk: their own mean loss at the threshold; at the most careful one where there is no promise. NaN without
            patients.
        needed: where there is no promise, how many patients it takes, if more of them are like these; None where there
            is one, and where no number is enough, as the detector loses too much at any threshold.
    """

    level: float
    threshold: float | None
    patients: int
    risk: float
    needed: int | None = None


def promise(loss: Loss, level: float) -> Promise:
    """Return the promise of a level. Raises ``ValueError`` for one that is no loss between nothing and the greatest."""
    if not 0 < level < loss.most:
        raise ValueError(f"level is {level}, expected a loss between 0 and {loss.most:g}")

    def broken(threshold: float) -> bool:
        return bool((loss(threshold).sum() + loss.most) / (loss.patients + 1) > level + _ROUNDING)

    bold = bisect_left(loss.thresholds, True, key=broken)  # the first that breaks it: all behind it do, too
    if bold == 0:
        risk = _mean(loss(loss.thresholds[0]))
        return Promise(level, None, loss.patients, risk, _needed(loss.patients, risk, level, loss.most))
    threshold = float(loss.thresholds[bold - 1])
    return Promise(level, threshold, loss.patients, _mean(loss(threshold)))


def reached(loss: Loss, threshold: float, samples: int = 1000, seed: int = 0) -> Estimate:
    """Return the mean loss of patients at a threshold, with its interval by bootstrap over them; ``n`` counts them."""
    losses = loss(threshold)
    value, count = _mean(losses), len(losses)
    if not count:
        return Estimate(math.nan, math.nan, math.nan, 0, "no such patient")
    if np.ptp(losses) > _ROUNDING:
        drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=samples)
        return Estimate(value, *percentiles(drawn @ losses / count), count)
    if loss.most == 1 and value in (0, 1):  # a share: the exact interval
        return Estimate(value, *clopper_pearson(round(value) * count, count), count)
    return Estimate(value, math.nan, math.nan, count, "all patients lose the same")


def _needed(patients: int, risk: float, level: float, most: float) -> int | None:
    """Return how many patients with this risk a level takes; with too few for any promise, those without a loss."""
    least = _least(0.0, level, most)
    if math.isnan(risk) or (risk >= level and patients < least):
        return least
    return None if risk >= level else _least(risk, level, most)


def _least(risk: float, level: float, most: float) -> int:
    """Return the least n with (n · risk + most) / (n + 1) ≤ level."""
    return math.ceil((most - level) / (level - risk) - 1e-9)


def _mean(losses: Values) -> float:
    return float(losses.mean()) if len(losses) else math.nan


def _numbered(patients: Sequence[str]) -> tuple[int, NDArray[np.int64]]:
    """Return how many patients there are, and for each place the number of the one that stands there."""
    names, owner = np.unique(np.asarray(patients, dtype=np.str_), return_inverse=True)
    return len(names), owner.astype(np.int64)
