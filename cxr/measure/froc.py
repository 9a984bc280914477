"""What is found at how many false alarms: free-response ROC (FROC), recall, false positives on normal films.

Detections of one score enter together, so that no figure depends on the order they come in. All detections count.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from cxr.measure.intervals import Estimate, Values, estimates, last_of_ties
from cxr.measure.matching import Rule, match
from cxr.measure.results import FilmResult

FP_RATES = (1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8)
"""False positives a film at which sensitivity is given (LUNA16)."""


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


def froc(results: Sequence[FilmResult], label: int | None = None, rule: Rule = "iou50") -> Froc:
    """Return the curve of one finding, or of all pooled (None): true boxes of all findings, false positives of all."""
    matches = match(results, label, rule)
    hits = -np.sort(-matches.truth_scores)
    thresholds = np.unique(np.concatenate([hits[np.isfinite(hits)], matches.alarms, [np.inf]]))[::-1]

    def share(scores: Values, whole: int) -> Values:
        above = np.searchsorted(-scores, -thresholds, side="right")
        return above / whole if whole else np.full(len(thresholds), np.nan)

    return Froc(
        thresholds,
        share(matches.alarms, len(matches.normal)),
        share(hits, len(hits)),
        share(matches.alarms[matches.normal[matches.alarm_film]], int(matches.normal.sum())),
    )


class SensitivityAt:
    """Sensitivity at numbers of false positives a film, as a function of how often each film counts."""

    def __init__(
        self,
        results: Sequence[FilmResult],
        label: int | None = None,
        rule: Rule = "iou50",
        rates: Sequence[float] = FP_RATES,
    ) -> None:
        matches = match(results, label, rule)
        self.rates = np.asarray(rates, np.float64)
        self.boxes = len(matches.truth_scores)
        self.patients = len({results[film].patient for film in matches.truth_film})
        order = np.argsort(-matches.truth_scores, kind="stable")
        scores, alarms = matches.truth_scores[order], matches.alarms
        self._truth_film, self._alarm_film = matches.truth_film[order], matches.alarm_film
        self._last = last_of_ties(alarms)
        # How many boxes may be found before the alarms of each score come, and when all have come
        before = np.searchsorted(-scores, -alarms[self._last], side="left")
        self._before = np.append(before, np.isfinite(scores).sum())
        # Few alarms are within the highest rate, so the cumulative sum of a resample seldom has to go on to the last
        self._likely = int(min(1.3 * self.rates.max() * max(len(results), 1) + 100, len(alarms)))

    def __call__(self, times: Values) -> Values:
        """Return sensitivity at each rate; NaN without true boxes."""
        films = times.sum()
        boxes = np.append(0, np.cumsum(times[self._truth_film]))
        if boxes[-1] == 0:
            return np.full(len(self.rates), np.nan)
        alarms = np.cumsum(times[self._alarm_film[: self._likely]]) / films
        if self._likely < len(self._alarm_film) and alarms[-1] <= self.rates.max():
            alarms = np.cumsum(times[self._alarm_film]) / films
        within = self._last[: np.searchsorted(self._last, len(alarms))]
        allowed = np.searchsorted(alarms[within], self.rates, side="right")
        sensitivity: Values = boxes[self._before[allowed]] / boxes[-1]
        return sensitivity


def froc_with_intervals(
    results: Sequence[FilmResult],
    label: int | None = None,
    rule: Rule = "iou50",
    rates: Sequence[float] = FP_RATES,
    samples: int = 1000,
    seed: int = 0,
) -> list[FrocPoint]:
    """Return the point of each rate with the interval of its sensitivity, by bootstrap over patients."""
    whole = froc(results, label, rule)
    sensitivities = _sensitivities(results, label, rule, rates, samples, seed)
    return [replace(whole.at(rate), low=e.low, high=e.high) for rate, e in zip(rates, sensitivities, strict=True)]


def recall(
    results: Sequence[FilmResult],
    label: int | None = None,
    rule: Rule = "iou50",
    samples: int = 1000,
    seed: int = 0,
) -> Estimate:
    """Return the share of the true boxes that any detection found, however low its score; ``n`` is the boxes."""
    return _sensitivities(results, label, rule, (math.inf,), samples, seed)[0]


class FalsePositives:
    """Detections scored ``threshold`` or higher a normal film, as a function of how often each film counts."""

    def __init__(self, results: Sequence[FilmResult], threshold: float) -> None:
        self._normal = np.array([r.normal for r in results], bool)
        self._alarms = np.array([(r.scores >= threshold).sum() for r in results], np.float64)

    def __call__(self, times: Values) -> Values:
        """Return the mean [1]; NaN without a normal film."""
        films = times[self._normal].sum()
        return np.array([(times * self._alarms)[self._normal].sum() / films if films else np.nan])


def _sensitivities(
    results: Sequence[FilmResult],
    label: int | None,
    rule: Rule,
    rates: Sequence[float],
    samples: int,
    seed: int,
) -> list[Estimate]:
    figure = SensitivityAt(results, label, rule, rates)
    counts, trials = [figure.boxes] * len(rates), [figure.patients] * len(rates)
    return estimates(figure, results, counts, samples, seed, trials, undefined="no true box")
