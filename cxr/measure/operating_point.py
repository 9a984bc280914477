"""The score below which a film is put aside as normal: how it is chosen, kept and applied."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from dataclasses import fields as dataclass_fields
from typing import Any

import numpy as np

from cxr.measure.intervals import Estimate, Values, clopper_pearson
from cxr.measure.results import FilmResult
from cxr.measure.screening import PREVALENCES, count_patients, image_scores, rates


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
    lowest = np.sort(_extremes(scores[positive], [r.patient for r in results if not r.normal])[0])
    missed = 0
    while clopper_pearson(len(lowest) - missed - 1, len(lowest))[0] >= sensitivity:
        missed += 1
    threshold = float(lowest[missed]) if len(lowest) else 0.0
    return point_at(results, threshold, sensitivity, split, samples, seed)


def point_at(
    results: Sequence[FilmResult], threshold: float, sensitivity: float, split: str, samples: int = 1000, seed: int = 0
) -> OperatingPoint:
    """Return the point at a threshold that was chosen on these films, with the figures it reaches on them."""
    scores, positive = image_scores(results)
    lowest, highest = _extremes(scores[positive], [r.patient for r in results if not r.normal])
    reached = rates(results, threshold, (), samples=samples, seed=seed)
    low = clopper_pearson(int((lowest >= threshold).sum()), len(lowest))[0]
    high = clopper_pearson(int((highest >= threshold).sum()), len(lowest))[1]
    sure = replace(reached["sensitivity"], n=len(lowest))
    return OperatingPoint(
        threshold,
        sensitivity,
        replace(sure, low=low, high=high) if len(lowest) else sure,
        reached["specificity"],
        len(results),
        int(positive.sum()),
        count_patients(results, np.ones(len(results), bool)),
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
