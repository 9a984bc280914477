"""How sure a figure is: 95 % intervals, by drawing the patients again.

A figure is written once, as a function of how often each film counts: all of them once gives its value, and as often as
their patients were drawn gives a resample. What a film contributes (matches, ranks) is worked out before and not again.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv  # type: ignore[import-untyped]

from cxr.measure.results import FilmResult

Values = NDArray[np.float64]
Figure = Callable[[Values], Values]
"""Takes float64 [films], how often each film counts, and gives float64 [F], the figures; NaN where undefined."""

LEVEL = 0.95
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Estimate:
    """A figure and its 95 % interval.

    Args:
        value: NaN where it is undefined.
        low, high: NaN where there is no interval.
        n: films (or boxes, or patients, as the figure says) that it was measured on.
        reason: why value, low or high is NaN; else empty.
    """

    value: float
    low: float
    high: float
    n: int
    reason: str = ""


def bootstrap(figure: Figure, patients: Sequence[str], samples: int = 1000, seed: int = 0) -> Values:
    """Return the figures [samples, F] of resamples of the patients, drawn with replacement (Efron 1979).

    Patients and not films: films of one patient resemble each other. The draws depend on ``patients``, ``samples`` and
    ``seed`` only, so two detectors on the same films are measured on the same resamples.

    Args:
        figure: of the films.
        patients: pseudonym of each film's patient.
        samples: resamples.
        seed: of the draws.
    """
    names, owner = np.unique(np.asarray(patients, dtype=np.str_), return_inverse=True)
    draws = np.random.default_rng(seed)
    chances = np.full(len(names), 1 / max(len(names), 1))
    return np.stack([figure(draws.multinomial(len(names), chances)[owner].astype(np.float64)) for _ in range(samples)])


def estimates(
    figure: Figure,
    results: Sequence[FilmResult],
    counts: Sequence[int],
    samples: int = 1000,
    seed: int = 0,
    trials: Sequence[int] | None = None,
    undefined: str = "undefined on these films",
) -> list[Estimate]:
    """Return each value of a figure with the 2.5 and 97.5 % quantiles of its resamples.

    A resample in which the figure is undefined is left out. Where all resamples give the same, as for 3 found of 3,
    their quantiles would say "certain" of what is only few: the interval is then the exact one for a share measured on
    so many patients, and there is none for other figures. Close to 0 and 1 (one missed of a hundred) the quantiles are
    still on the narrow side: a bound to rely on is ``clopper_pearson``'s.

    Args:
        figure: of ``results``.
        results: give the patients.
        counts: ``n`` of each value.
        samples: resamples.
        seed: of the draws.
        trials: patients that each value was measured on, if the values are shares.
        undefined: reason for a value that is NaN.
    """
    values = figure(np.ones(len(results)))
    patients = [result.patient for result in results]
    drawn = bootstrap(figure, patients, samples, seed) if patients else values[None]
    shares = trials or [0] * len(values)
    return [
        _estimate(float(value), drawn[:, i], n, share, undefined)
        for i, (value, n, share) in enumerate(zip(values, counts, shares, strict=True))
    ]


def _estimate(value: float, resampled: Values, n: int, trials: int, undefined: str) -> Estimate:
    known = resampled[~np.isnan(resampled)]
    if math.isnan(value):
        return Estimate(math.nan, math.nan, math.nan, n, undefined)
    if len(known) and np.ptp(known) > _ROUNDING:
        return Estimate(value, *percentiles(known), n)
    if trials and value in (0, 1):
        return Estimate(value, *clopper_pearson(round(value * trials), trials), n)
    return Estimate(value, math.nan, math.nan, n, "all resamples of the patients give the same")


def estimate_of(value: float, resampled: Values, n: int) -> Estimate:
    """Return a value with the interval of its resamples, in which NaN are left out; see ``estimates``."""
    return _estimate(value, resampled, n, 0, "undefined on these films")


def percentiles(resampled: Values, level: float = LEVEL) -> tuple[float, float]:
    """Return the ends of the middle of the resampled values that ``level`` is the share of; NaN are left out."""
    low, high = np.nanpercentile(resampled, (50 * (1 - level), 50 * (1 + level)))
    return float(low), float(high)


def clopper_pearson(successes: int, trials: int) -> tuple[float, float]:
    """Return the exact 95 % interval of a proportion (Clopper and Pearson 1934); (0, 1) without trials."""
    tail = (1 - LEVEL) / 2
    low = betaincinv(successes, trials - successes + 1, tail) if successes > 0 else 0.0
    high = betaincinv(successes + 1, trials - successes, 1 - tail) if successes < trials else 1.0
    return float(low), float(high)


def paired_bootstrap(
    a: Sequence[FilmResult],
    b: Sequence[FilmResult],
    figure: Callable[[Sequence[FilmResult]], Figure],
    samples: int = 1000,
    seed: int = 0,
) -> list[Estimate]:
    """Return by how much ``b`` exceeds ``a`` in each value of a figure, the same patients drawn for both.

    Where the interval excludes 0 the difference is real at the 5 % level.

    Args:
        a: one detector's results.
        b: another's on the same films, in the same order.
        figure: prepares a figure for one of them, such as ``RocAuc`` or ``partial(SensitivityAt, rates=(1,))``.
        samples: resamples.
        seed: of the draws.

    Raises:
        ValueError: the films differ.
    """
    if [(r.study, r.patient) for r in a] != [(r.study, r.patient) for r in b]:
        raise ValueError(f"a pair needs the same films in the same order: {len(a)} and {len(b)} films that differ")
    first, second = figure(a), figure(b)
    figures = len(first(np.ones(len(a))))
    return estimates(lambda times: second(times) - first(times), b, [len(b)] * figures, samples, seed)


def last_of_ties(sorted_scores: Values) -> NDArray[np.int64]:
    """Return the index of the last of each run of equal scores."""
    ends = np.append(sorted_scores[1:] != sorted_scores[:-1], np.ones(min(len(sorted_scores), 1), bool))
    return np.flatnonzero(ends)
