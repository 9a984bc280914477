"""Is the film normal? Figures of the image-level score: ROC, average precision, sensitivity, specificity, PPV, NPV.

A film's score is ``FilmResult.abnormal``, or with a label its ``finding_scores`` of that finding; it is positive where
a reader marked anything, or that finding. Scored at the threshold or higher it is called positive, below it cleared.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr.measure.intervals import Estimate, Values, estimates, last_of_ties
from cxr.measure.results import FilmResult

PREVALENCES = (0.01, 0.1, 0.3)
"""Share of abnormal films at which NPV is given: a healthy public, an outpatient clinic, a ward."""


@dataclass(frozen=True, eq=False)
class RocCurve:
    """From nothing called positive (threshold infinite) to everything, a point for each score that occurs.

    Args:
        thresholds: [T] falling.
        sensitivity: [T] NaN without a positive film.
        specificity: [T] NaN without a negative one.
    """

    thresholds: Values
    sensitivity: Values
    specificity: Values


def image_scores(results: Sequence[FilmResult], label: int | None = None) -> tuple[Values, NDArray[np.bool_]]:
    """Return score [films] and whether a reader marked anything, or the finding of ``label``, [films].

    Raises:
        ValueError: a score is not a number; names the study.
    """
    if label is None:
        scores, positive = [r.abnormal for r in results], [not r.normal for r in results]
    else:
        scores = [float(r.finding_scores[label - 1]) for r in results]
        positive = [bool((r.truth_labels == label).any()) for r in results]
    for result, score in zip(results, scores, strict=True):
        if not np.isfinite(score):
            raise ValueError(f"{result.study}: the film's score is {score}, expected a number in 0..1")
    return np.array(scores, np.float64), np.array(positive, bool)


def roc_curve(results: Sequence[FilmResult], label: int | None = None) -> RocCurve:
    """Return the curve."""
    scores, positive = image_scores(results, label)
    ranks = _Ranks(scores, positive)
    true, false = ranks.counts(np.ones(len(scores)))
    return RocCurve(
        np.append(np.inf, ranks.thresholds),
        share(np.append(0, true), true[-1] if len(true) else 0),
        1 - share(np.append(0, false), false[-1] if len(false) else 0),
    )


class RocAuc:
    """Area under the ROC curve: how often a positive film scores above a negative one, a tie for half (Hanley 1982)."""

    def __init__(self, results: Sequence[FilmResult], label: int | None = None) -> None:
        self._ranks = _Ranks(*image_scores(results, label))

    def __call__(self, times: Values) -> Values:
        """Return the area [1]; NaN without positive or without negative films."""
        true, false = (np.append(0, count) for count in self._ranks.counts(times))
        area = (np.diff(false) * (true[1:] + true[:-1])).sum() / 2
        return np.array([area / (true[-1] * false[-1]) if true[-1] * false[-1] > 0 else np.nan])


class ImageAveragePrecision:
    """Mean precision over the positive films, each at its own score as the threshold (not interpolated)."""

    def __init__(self, results: Sequence[FilmResult], label: int | None = None) -> None:
        self._ranks = _Ranks(*image_scores(results, label))

    def __call__(self, times: Values) -> Values:
        """Return the mean [1]; NaN without positive films."""
        true, false = self._ranks.counts(times)
        if len(true) == 0 or true[-1] == 0:
            return np.array([np.nan])
        precision = np.divide(true, true + false, out=np.zeros(len(true)), where=true > 0)
        return np.array([(np.diff(true, prepend=0) * precision).sum() / true[-1]])


class Rates:
    """Sensitivity, specificity, share of all films cleared, then PPV and NPV at each prevalence, of one threshold."""

    def __init__(
        self,
        results: Sequence[FilmResult],
        threshold: float,
        prevalences: Sequence[float] = PREVALENCES,
        label: int | None = None,
    ) -> None:
        if wrong := [p for p in prevalences if not 0 < p < 1]:
            raise ValueError(f"prevalence is {wrong[0]}, expected a share between 0 and 1")
        scores, self._positive = image_scores(results, label)
        self._called = scores >= threshold
        self._prevalences = np.asarray(prevalences, np.float64)
        predicted = (f"{value}@{p:g}" for value in ("ppv", "npv") for p in prevalences)
        self.names = ("sensitivity", "specificity", "cleared", *predicted)

    def __call__(self, times: Values) -> Values:
        """Return the rates in the order of ``names``; NaN where nothing is there to be divided by."""
        positive, called = self._positive, self._called
        sensitivity = share(times[positive & called].sum(), times[positive].sum())
        specificity = share(times[~positive & ~called].sum(), times[~positive].sum())
        cleared = share(times[~called].sum(), times.sum())
        ppv, npv = predictive_values(float(sensitivity), float(specificity), self._prevalences)
        return np.concatenate([[sensitivity, specificity, cleared], ppv, npv])


def predictive_values(sensitivity: float, specificity: float, prevalence: Values) -> tuple[Values, Values]:
    """Return PPV and NPV at prevalences, by Bayes' rule; NaN where no film is called positive, or none cleared."""
    true_alarm, false_alarm = sensitivity * prevalence, (1 - specificity) * (1 - prevalence)
    cleared, missed = specificity * (1 - prevalence), (1 - sensitivity) * prevalence
    return share(true_alarm, true_alarm + false_alarm), share(cleared, cleared + missed)


def roc_auc(results: Sequence[FilmResult], label: int | None = None, samples: int = 1000, seed: int = 0) -> Estimate:
    """Return the area under the ROC curve; ``n`` is the films."""
    undefined = "needs films with and films without it"
    return estimates(RocAuc(results, label), results, [len(results)], samples, seed, undefined=undefined)[0]


def image_average_precision(
    results: Sequence[FilmResult], label: int | None = None, samples: int = 1000, seed: int = 0
) -> Estimate:
    """Return the average precision of calling films positive; ``n`` is the films."""
    figure = ImageAveragePrecision(results, label)
    return estimates(figure, results, [len(results)], samples, seed, undefined="no positive film")[0]


def rates(
    results: Sequence[FilmResult],
    threshold: float,
    prevalences: Sequence[float] = PREVALENCES,
    label: int | None = None,
    samples: int = 1000,
    seed: int = 0,
) -> dict[str, Estimate]:
    """Return sensitivity, specificity, cleared (share of all these films), ``ppv@<prevalence>``, ``npv@<prevalence>``.

    PPV and NPV are what sensitivity and specificity give where so many films are positive, not the shares among these
    films, whose prevalence is the data set's.
    """
    figure = Rates(results, threshold, prevalences, label)
    _, positive = image_scores(results, label)
    films = (positive, ~positive, np.ones(len(results), bool))
    counts = [int(chosen.sum()) for chosen in films] + [len(results)] * (2 * len(prevalences))
    trials = [count_patients(results, chosen) for chosen in films] + [0] * (2 * len(prevalences))
    figures = dict(zip(figure.names, estimates(figure, results, counts, samples, seed, trials), strict=True))
    return {
        name: replace(estimate, reason=_undefined(name)) if np.isnan(estimate.value) else _bounded(name, figures)
        for name, estimate in figures.items()
    }


def _undefined(name: str) -> str:
    reasons = {"sensitivity": "no positive film", "specificity": "no negative film", "cleared": "no film"}
    return reasons.get(name, "without positive or negative films, or none is called so")


def _bounded(name: str, figures: Mapping[str, Estimate]) -> Estimate:
    """Give a predictive value without an interval, as no film was missed, that of sensitivity's and specificity's ends.

    The widest of the four: an NPV of 1 would else pass for certain after ten films.
    """
    estimate = figures[name]
    value, _, prevalence = name.partition("@")
    if not prevalence or not np.isnan(estimate.low):
        return estimate
    sensitivity, specificity = figures["sensitivity"], figures["specificity"]
    ends = [
        float(predictive_values(a, b, np.array([float(prevalence)]))[value == "npv"][0])
        for a in (sensitivity.low, sensitivity.high)
        for b in (specificity.low, specificity.high)
    ]
    return replace(estimate, low=float(np.nanmin(ends)), high=float(np.nanmax(ends)), reason="")


def count_patients(results: Sequence[FilmResult], chosen: NDArray[np.bool_]) -> int:
    """Return how many patients the chosen films are of."""
    return len({result.patient for result, taken in zip(results, chosen, strict=True) if taken})


class _Ranks:
    """Films in the order of their scores, those of one score together."""

    def __init__(self, scores: Values, positive: NDArray[np.bool_]) -> None:
        self._order = np.argsort(-scores, kind="stable")
        falling = scores[self._order]
        self._last = last_of_ties(falling)
        self._positive = positive[self._order]
        self.thresholds = falling[self._last]

    def counts(self, times: Values) -> tuple[Values, Values]:
        """Return how many positive and how many negative films score at each threshold or higher, each [T]."""
        times = times[self._order]
        true, every = np.cumsum(times * self._positive)[self._last], np.cumsum(times)[self._last]
        return true, every - true


def share(part: Any, whole: Any) -> Values:
    """Return part / whole, NaN where whole is 0."""
    part, whole = np.broadcast_arrays(np.asarray(part, np.float64), np.asarray(whole, np.float64))
    shares: Values = np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)
    return shares
