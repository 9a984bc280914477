"""Is one detector better than another, or as good, or can it not be told? And how many patients would tell it?

A detector may be an *arm*: several runs of one recipe, which differ in seed or fold. The figure of an arm is the mean
over its runs, each on all films. What another training would give then belongs to the question, so the runs are drawn
again like the patients.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import ndtri  # type: ignore[import-untyped]

from cxr.measure.intervals import LEVEL, Estimate, Figure, Values, bootstrap, estimate_of, percentiles
from cxr.measure.results import FilmResult

MARGIN = 0.02
"""Figures that are no further apart than this count as equal, where nothing else is typed."""
POWER = 0.8
EQUIVALENCE_LEVEL = 0.9
"""Of the interval that must lie within the margin: two one-sided tests at 5 % each (Schuirmann 1987)."""

Verdict = Literal["better", "worse", "better_within", "worse_within", "equivalent", "cannot_be_told", "none_seen"]
Arm = Sequence[Sequence[FilmResult]]
"""The results of each run, on the same films in the same order."""


@dataclass(frozen=True)
class Comparison:
    """By how much the second detector or arm exceeds the first in one figure.

    Args:
        difference: with its 95 % interval, over patients and, in arms, over runs.
        equivalence: the 90 % interval that is held against the margin; NaN where there is none.
        margin: within which two figures count as equal.
        verdict: what may be said.
        patients: how many patients there are.
        patients_needed: how many like these would tell a difference of the margin with 80 %; None where the runs alone
            differ too much for any number, or nothing varies.
        runs: of the first and of the second arm: the figure of each run on all films.
    """

    difference: Estimate
    equivalence: tuple[float, float]
    margin: float
    verdict: Verdict
    patients: int
    patients_needed: int | None
    runs: tuple[tuple[float, ...], tuple[float, ...]]


def compare_arms(
    first: Arm,
    second: Arm,
    figure: Callable[[Sequence[FilmResult]], Figure],
    margin: float = MARGIN,
    samples: int = 1000,
    seed: int = 0,
) -> Comparison:
    """Return by how much the second arm exceeds the first in the first value of a figure.

    The same patients are drawn for all runs. Of the R runs of an arm R − 1 are drawn, because R would make the variance
    too small, by (R − 1) / R (Rao and Wu 1988). Of one run nothing is known about others: the interval is then over
    patients alone, the same as ``paired_bootstrap``'s.

    Raises ``ValueError``: the runs are not of the same films, or the margin is not above 0.
    """
    if not margin > 0 or not math.isfinite(margin):
        raise ValueError(f"margin is {margin}, expected a difference above 0")
    _refuse_other_films([*first, *second])
    figures = [figure(run) for run in (*first, *second)]
    films, split = first[0], len(first)
    values = np.array([of_run(np.ones(len(films)))[0] for of_run in figures])
    owners = [film.patient for film in films]
    drawn = bootstrap(lambda times: np.array([of_run(times)[0] for of_run in figures]), owners, samples, seed)
    a, b = drawn[:, :split], drawn[:, split:]
    both = _drawn_runs(b, seed, 2) - _drawn_runs(a, seed, 1)
    difference = estimate_of(float(values[split:].mean() - values[:split].mean()), both, len(films))
    narrow = percentiles(both, EQUIVALENCE_LEVEL) if not math.isnan(difference.low) else (math.nan, math.nan)
    count = len(set(owners))
    needed = _patients_needed(_variance(b.mean(1) - a.mean(1)), _runs_variance(values, split), count, margin)
    runs = tuple(values[:split].tolist()), tuple(values[split:].tolist())
    return Comparison(difference, narrow, margin, verdict(difference, narrow, margin), count, needed, runs)


def verdict(difference: Estimate, equivalence: tuple[float, float], margin: float) -> Verdict:
    """Return what a difference says.

    The second is better or worse where the 95 % interval leaves out 0, and the two are equivalent where the 90 %
    interval lies within the margin (TOST). Both may be so: then it is better, and by less than the margin. Where no
    resample shows a difference there is none to be seen, which is no proof of equivalence.
    """
    within = -margin < equivalence[0] and equivalence[1] < margin  # NaN: no
    if math.isnan(difference.low):
        return "none_seen" if difference.value == 0 else "cannot_be_told"
    if difference.low > 0:
        return "better_within" if within else "better"
    if difference.high < 0:
        return "worse_within" if within else "worse"
    return "equivalent" if within else "cannot_be_told"


def _patients_needed(of_patients: float, of_runs: float, patients: int, margin: float) -> int | None:
    """Return how many patients tell a difference of the margin, at 5 % and with a power of 80 %.

    The variance over patients falls as 1 / n, that over runs does not.
    """
    allowed = (margin / float(ndtri((1 + LEVEL) / 2) + ndtri(POWER))) ** 2
    if not of_patients > 0 or of_runs >= allowed:
        return None
    return math.ceil(patients * of_patients / (allowed - of_runs))


def _drawn_runs(figures: Values, seed: int, arm: int) -> Values:
    """Return the mean figure [samples] of runs drawn anew in each resample, of figures [samples, runs]."""
    samples, runs = figures.shape
    if runs == 1:
        return figures[:, 0]
    chosen = np.random.default_rng((seed, arm)).integers(0, runs, (samples, runs - 1))
    return np.asarray(np.take_along_axis(figures, chosen, 1).mean(1), np.float64)


def _runs_variance(values: Values, split: int) -> float:
    """Return the variance of the difference of two means of runs; nothing is known of an arm with one run."""
    arms = (values[:split], values[split:])
    return float(sum(arm.var(ddof=1) / len(arm) for arm in arms if len(arm) > 1))


def _variance(resampled: Values) -> float:
    known = resampled[~np.isnan(resampled)]
    return float(known.var(ddof=1)) if len(known) > 1 else 0.0


def _refuse_other_films(runs: Arm) -> None:
    films = [[(film.study, film.patient) for film in run] for run in runs]
    if any(one != films[0] for one in films):
        counts = ", ".join(str(len(one)) for one in films)
        raise ValueError(f"runs are compared on the same films in the same order, these have {counts} that differ")
