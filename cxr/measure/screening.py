"""Is the film normal? Figures of the image-level score, and the threshold below which a film is put aside as normal.

A film's score is ``FilmResult.abnormal``, or with a label its ``finding_scores`` of that finding; it is positive where
a reader marked anything, or that finding. Scored at the threshold or higher it is called positive, below it cleared.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from dataclasses import fields as dataclass_fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr.measure.intervals import Estimate as Estimate  # handed on
from cxr.measure.intervals import Values, clopper_pearson, estimates, last_of_ties
from cxr.measure.results import FilmResult

PREVALENCES = (0.01, 0.1, 0.3)
"""Share of abnormal films at which NPV is told: a healthy public, an outpatient clinic, a ward."""


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
        _share(np.append(0, true), true[-1] if len(true) else 0),
        1 - _share(np.append(0, false), false[-1] if len(false) else 0),
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
        sensitivity = _share(times[positive & called].sum(), times[positive].sum())
        specificity = _share(times[~positive & ~called].sum(), times[~positive].sum())
        cleared = _share(times[~called].sum(), times.sum())
        ppv, npv = predictive_values(float(sensitivity), float(specificity), self._prevalences)
        return np.concatenate([[sensitivity, specificity, cleared], ppv, npv])


def predictive_values(sensitivity: float, specificity: float, prevalence: Values) -> tuple[Values, Values]:
    """Return PPV and NPV at prevalences, by Bayes' rule; NaN where no film is called positive, or none cleared."""
    true_alarm, false_alarm = sensitivity * prevalence, (1 - specificity) * (1 - prevalence)
    cleared, missed = specificity * (1 - prevalence), (1 - sensitivity) * prevalence
    return _share(true_alarm, true_alarm + false_alarm), _share(cleared, cleared + missed)


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
    counts = [int(own.sum()) for own in films] + [len(results)] * (2 * len(prevalences))
    trials = [_patients(results, own) for own in films] + [0] * (2 * len(prevalences))
    found = dict(zip(figure.names, estimates(figure, results, counts, samples, seed, trials), strict=True))
    return {
        name: replace(estimate, reason=_undefined(name)) if np.isnan(estimate.value) else _bounded(name, found)
        for name, estimate in found.items()
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


@dataclass(frozen=True)
class ReliabilityBin:
    """Films of like score: their mean score, the share that is positive with its interval, and how many they are."""

    score: float
    positive: Estimate
    films: int


@dataclass(frozen=True)
class Reliability:
    """Does a score of 0.8 mean that 80 % are positive? ECE is the mean of |share - score| over films (Naeini 2015)."""

    bins: tuple[ReliabilityBin, ...]
    ece: Estimate


class _Bins:
    """Share of positives in each bin of equally many films, those of one score in one bin, and the ECE last."""

    def __init__(self, scores: Values, positive: NDArray[np.bool_], bins: int) -> None:
        self._scores, self._positive = scores, positive
        lower = np.searchsorted(np.sort(scores), scores, side="left")  # films scored lower than each
        _, self.bin = np.unique(lower * bins // max(len(scores), 1), return_inverse=True)
        self.count = int(self.bin.max(initial=-1)) + 1

    def __call__(self, times: Values) -> Values:
        films, scores, positive = (
            np.bincount(self.bin, weights=times * values, minlength=self.count)
            for values in (1.0, self._scores, self._positive)
        )
        return np.append(_share(positive, films), _share(np.abs(positive - scores).sum(), films.sum()))


def reliability(
    results: Sequence[FilmResult], label: int | None = None, bins: int = 10, samples: int = 1000, seed: int = 0
) -> Reliability:
    """Return the reliability curve over at most ``bins`` bins of equally many films, and the ECE.

    Films of one score share a bin (all without a box score 0), so bins may be fewer and unequal. The ECE is never
    quite 0, and the more bins, the higher by chance: of few films it says little.
    """
    scores, positive = image_scores(results, label)
    figure = _Bins(scores, positive, bins)
    members = [figure.bin == i for i in range(figure.count)]
    films = [int(own.sum()) for own in members]
    trials = [*(_patients(results, own) for own in members), 0]
    *shares, ece = estimates(figure, results, [*films, len(results)], samples, seed, trials, undefined="no film")
    means = (float(scores[own].mean()) for own in members)
    return Reliability(tuple(map(ReliabilityBin, means, shares, films)), ece)


@dataclass(frozen=True)
class OperatingPoint:
    """The score below which a film is put aside as normal, and what it was chosen on.

    Args:
        threshold: of ``FilmResult.abnormal``; films scored lower are cleared.
        wanted_sensitivity: that the low end of the interval should reach.
        sensitivity_on_validation: on the films it was chosen on; its ``n`` is the abnormal patients, see
            ``choose_operating_point``.
        cleared_share: of the normal films among them, those that are put aside.
        films: that it was chosen on.
        abnormal: of these.
        patients: of these.
        split: name of these films.
        limited: too few abnormal patients for the wanted sensitivity to be sure.
    """

    threshold: float
    wanted_sensitivity: float
    sensitivity_on_validation: Estimate
    cleared_share: Estimate
    films: int
    abnormal: int
    patients: int
    split: str
    limited: bool

    def as_dict(self) -> dict[str, Any]:
        """Return plain containers, for checkpoints."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "OperatingPoint":
        """Return the point that ``as_dict`` gave. Raises ``ValueError`` for missing, unknown or damaged fields."""
        known = {field.name: field.type for field in dataclass_fields(cls)}
        if set(fields) != set(known):
            raise ValueError(f"it has the fields {', '.join(map(str, fields))[:300]}, expected {', '.join(known)}")
        for name, value in fields.items():
            if problem := _damaged(value, known[name]):
                raise ValueError(f"{name} is {str(value)[:100]}, expected {problem}")
        estimates = {name: Estimate(**fields[name]) for name, kind in known.items() if kind is Estimate}
        return cls(**{**fields, **estimates})


def _damaged(value: Any, kind: Any) -> str:
    """Return what a field of an operating point should be, "" where it is so. All its floats are shares."""
    if kind is float:
        return "" if isinstance(value, float | int) and not isinstance(value, bool) and 0 <= value <= 1 else "0 to 1"
    if kind is int:
        return "" if type(value) is int and 0 <= value < 2**63 else "a number of films"
    if kind is Estimate:
        return "" if isinstance(value, dict) and _is_estimate(value) else "value, low, high, n and reason of a share"
    return "" if type(value) is kind else f"{kind.__name__}"


def _is_estimate(fields: Mapping[str, Any]) -> bool:
    """Whether these are an estimate of a share, whose numbers are NaN where it could not be measured."""
    known = {field.name: field.type for field in dataclass_fields(Estimate)}
    return set(fields) == set(known) and all(
        not _damaged(value, known[name]) or (known[name] is float and isinstance(value, float) and np.isnan(value))
        for name, value in fields.items()
    )


def choose_operating_point(
    results: Sequence[FilmResult], sensitivity: float = 0.99, split: str = "val", samples: int = 1000, seed: int = 0
) -> OperatingPoint:
    """Return the highest threshold of which we are sure that it misses no more than wanted.

    Sure: the low end of the exact 95 % interval (Clopper and Pearson 1934) is at least ``sensitivity``. Exact, as near
    1 Wilson's end is too high. That the threshold is chosen on the same films costs nothing: the bound of the share
    above an order statistic is the same one (Wilks 1941). The interval counts patients, as films of one are not
    independent: its low end takes one as missed where any of their abnormal films is, its high end where all are.

    A low end of 0.99 needs 368 abnormal patients and no miss. With fewer the point is ``limited``: the highest
    threshold that misses none. Without abnormal films nothing is cleared (threshold 0).

    Raises:
        ValueError: ``sensitivity`` is not between 0 and 1.
    """
    if not 0 < sensitivity < 1:
        raise ValueError(f"wanted sensitivity is {sensitivity}, expected a share between 0 and 1")
    scores, positive = image_scores(results)
    lowest, highest = _extremes(scores[positive], [r.patient for r in results if not r.normal])
    lowest = np.sort(lowest)
    missed = 0
    while clopper_pearson(len(lowest) - missed - 1, len(lowest))[0] >= sensitivity:
        missed += 1
    threshold = float(lowest[missed]) if len(lowest) else 0.0
    found = rates(results, threshold, (), samples=samples, seed=seed)
    low = clopper_pearson(int((lowest >= threshold).sum()), len(lowest))[0]
    high = clopper_pearson(int((highest >= threshold).sum()), len(lowest))[1]
    reached = replace(found["sensitivity"], n=len(lowest))
    return OperatingPoint(
        threshold,
        sensitivity,
        replace(reached, low=low, high=high) if len(lowest) else reached,
        found["specificity"],
        len(results),
        int(positive.sum()),
        _patients(results, np.ones(len(results), bool)),
        split,
        limited=low < sensitivity,
    )


@dataclass(frozen=True)
class Screening:
    """An operating point applied: the figures of ``rates``, and the abnormal films it cleared.

    ``figures["specificity"]`` is the share of the normal films that are put aside.
    """

    figures: dict[str, Estimate]
    wrongly_cleared: tuple[str, ...]


def screen(
    results: Sequence[FilmResult],
    point: OperatingPoint,
    prevalences: Sequence[float] = PREVALENCES,
    samples: int = 1000,
    seed: int = 0,
) -> Screening:
    """Apply an operating point to films it was not chosen on; wrongly cleared studies come lowest score first."""
    missed = sorted((r.abnormal, r.study) for r in results if not r.normal and r.abnormal < point.threshold)
    figures = rates(results, point.threshold, prevalences, samples=samples, seed=seed)
    return Screening(figures, tuple(study for _, study in missed))


def _extremes(scores: Values, patients: Sequence[str]) -> tuple[Values, Values]:
    """Return the lowest and the highest score of each patient."""
    names, owner = np.unique(np.asarray(patients, dtype=np.str_), return_inverse=True)
    lowest, highest = np.full(len(names), np.inf), np.full(len(names), -np.inf)
    np.minimum.at(lowest, owner, scores)
    np.maximum.at(highest, owner, scores)
    return lowest, highest


def _patients(results: Sequence[FilmResult], films: NDArray[np.bool_]) -> int:
    return len({result.patient for result, own in zip(results, films, strict=True) if own})


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


def _share(part: Any, whole: Any) -> Values:
    """Return part / whole, NaN where whole is 0."""
    part, whole = np.broadcast_arrays(np.asarray(part, np.float64), np.asarray(whole, np.float64))
    shares: Values = np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)
    return shares
