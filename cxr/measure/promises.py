"""All that a detector promises: of the boxes of each finding, of screening, and of false boxes; chosen once and kept.

``cxr.measure.risk_control`` says how a threshold keeps its promise, docs/promises.md what it means.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from dataclasses import fields as dataclass_fields
from typing import Any

from cxr.measure.intervals import Estimate
from cxr.measure.operating_point import OperatingPoint, point_at
from cxr.measure.results import FilmResult, with_known_truth
from cxr.measure.risk_control import FalseBoxes, Loss, MissedBoxes, Promise, PutAside, promise, reached

LEVELS = (0.01, 0.02, 0.05, 0.1, 0.2)
"""Shares of missed boxes, and of abnormal patients put aside, that a promise is made of.

They are fixed before any film is seen: a level that is chosen by what it gives on the films breaks its promise.
"""
RATES = (0.25, 0.5, 1.0, 2.0)
"""False boxes a film that a promise is made of."""


@dataclass(frozen=True)
class Promises:
    """The promises of one detector.

    Args:
        split: name of the films that they were chosen on.
        films: how many.
        findings: name of each finding → its promises, one for each of ``LEVELS``.
        screening: promises of the abnormal patients put aside as normal, one for each of ``LEVELS``.
        points: the operating point of each of these; None where there is no promise.
        false_boxes: promises of the false boxes a film, one for each of ``RATES``.
    """

    split: str
    films: int
    findings: Mapping[str, tuple[Promise, ...]]
    screening: tuple[Promise, ...]
    points: tuple[OperatingPoint | None, ...]
    false_boxes: tuple[Promise, ...]

    def of_findings(self, level: float) -> dict[str, Promise]:
        """Return the promise of each finding at one of ``LEVELS``."""
        return {name: kept[LEVELS.index(level)] for name, kept in self.findings.items()}

    def of_screening(self, level: float) -> tuple[Promise, OperatingPoint | None]:
        """Return the promise of screening at one of ``LEVELS``, and its operating point."""
        place = LEVELS.index(level)
        return self.screening[place], self.points[place]

    def of_false_boxes(self, rate: float) -> Promise:
        """Return the promise of one of ``RATES``."""
        return self.false_boxes[RATES.index(rate)]

    def as_dict(self) -> dict[str, Any]:
        """Return plain containers, for checkpoints."""
        return {
            "split": self.split,
            "films": self.films,
            "findings": {name: [asdict(one) for one in kept] for name, kept in self.findings.items()},
            "screening": [asdict(one) for one in self.screening],
            "points": [point and point.as_dict() for point in self.points],
            "false_boxes": [asdict(one) for one in self.false_boxes],
        }

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any], findings: Sequence[str]) -> "Promises":
        """Return what ``as_dict`` gave, of a detector that knows ``findings``. Raises ``ValueError`` for all else."""
        _refuse_unlike(fields, [field.name for field in dataclass_fields(cls)], "it")
        if not isinstance(fields["split"], str) or not _is_count(fields["films"]):
            raise ValueError("split and films are no name and no number of films")
        of_findings = fields["findings"]
        if not isinstance(of_findings, Mapping) or set(of_findings) != set(findings):
            raise ValueError(f"findings names others than {', '.join(findings)}")
        screening = _read_promises(fields["screening"], LEVELS, "screening")
        return cls(
            fields["split"],
            fields["films"],
            {name: _read_promises(of_findings[name], LEVELS, f"findings.{name}") for name in findings},
            screening,
            _read_points(fields["points"], screening),
            _read_promises(fields["false_boxes"], RATES, "false_boxes"),
        )


@dataclass(frozen=True)
class KeptPromises:
    """What a run promises, by the levels that were typed.

    Args:
        split: name of the films that the promises were chosen on.
        boxes: finding → the promise of its missed boxes, also where it has no threshold.
        false_boxes: the promise of the false boxes a film; None where it was not typed.
        screening: the promise of the abnormal patients put aside; None where none was typed.
    """

    split: str
    boxes: Mapping[str, Promise]
    false_boxes: Promise | None = None
    screening: Promise | None = None


@dataclass(frozen=True)
class Reached:
    """A promise, and what became of it on other films.

    Args:
        of: the finding's name, "screening" or "false_boxes".
        promise: what was promised.
        risk: the mean loss of the patients of these films at its threshold; NaN where there is no promise, or no
            patient.
    """

    of: str
    promise: Promise
    risk: Estimate


SCREENING, FALSE_BOXES = "screening", "false_boxes"


def choose_promises(
    results: Sequence[FilmResult], findings: Sequence[str], split: str = "val", samples: int = 1000
) -> Promises:
    """Return the promises that films choose; ``findings`` are the detector's, in the order of their classes.

    ``samples`` are the resamples behind the intervals of the operating points.
    """
    known = with_known_truth(results)
    aside = [promise(PutAside(known), level) for level in LEVELS]
    boxes = {name: MissedBoxes(results, label) for label, name in enumerate(findings, start=1)}
    false = FalseBoxes(results)
    return Promises(
        split,
        len(results),
        {name: tuple(promise(loss, level) for level in LEVELS) for name, loss in boxes.items()},
        tuple(aside),
        tuple(_point(known, one, split, samples) for one in aside),
        tuple(promise(false, rate) for rate in RATES),
    )


def reached_promises(
    promises: Promises, results: Sequence[FilmResult], samples: int = 1000, seed: int = 0
) -> list[Reached]:
    """Return what became of all promises on films; ``results`` have all true boxes and detections."""
    names = list(promises.findings)
    losses: dict[str, Loss] = {name: MissedBoxes(results, label) for label, name in enumerate(names, start=1)}
    losses |= {SCREENING: PutAside(with_known_truth(results)), FALSE_BOXES: FalseBoxes(results)}
    made = {**promises.findings, SCREENING: promises.screening, FALSE_BOXES: promises.false_boxes}
    return [
        Reached(name, one, _reached(losses[name], one, samples, seed)) for name, kept in made.items() for one in kept
    ]


def _reached(loss: Loss, one: Promise, samples: int, seed: int) -> Estimate:
    if one.threshold is None:
        return Estimate(math.nan, math.nan, math.nan, loss.patients, "no promise")
    return reached(loss, one.threshold, samples, seed)


def _point(known: Sequence[FilmResult], one: Promise, split: str, samples: int) -> OperatingPoint | None:
    """Return the operating point of a promise. It is not ``limited``: what is sure of it, the promise says."""
    if one.threshold is None:
        return None
    return replace(point_at(known, one.threshold, 1 - one.level, split, samples), limited=False)


def _read_promises(kept: Any, levels: Sequence[float], name: str) -> tuple[Promise, ...]:
    if not isinstance(kept, list | tuple) or len(kept) != len(levels):
        raise ValueError(f"{name} is no list of {len(levels)} promises")
    return tuple(_read_promise(one, level, name) for one, level in zip(kept, levels, strict=True))


def _read_promise(fields: Any, level: float, name: str) -> Promise:
    _refuse_unlike(fields, [field.name for field in dataclass_fields(Promise)], name)
    one = Promise(**fields)
    score, risk = one.threshold, one.risk
    right = {
        "level": one.level == level,
        "threshold": score is None or (_is_number(score) and 0 <= score <= 1),
        "patients": _is_count(one.patients),
        "risk": _is_number(risk) and (risk != risk or 0 <= risk < 2**63),  # NaN without patients
        "needed": one.needed is None or (score is None and _is_count(one.needed)),
    }
    if wrong := [key for key, fits in right.items() if not fits]:
        raise ValueError(f"{name} has the {wrong[0]} {str(fields[wrong[0]])[:100]}, which no promise of {level:g} has")
    return one


def _read_points(points: Any, screening: Sequence[Promise]) -> tuple[OperatingPoint | None, ...]:
    if not isinstance(points, list | tuple) or len(points) != len(screening):
        raise ValueError(f"points is no list of {len(screening)} operating points")
    read = [None if point is None else OperatingPoint.from_dict(_mapping(point)) for point in points]
    for point, one in zip(read, screening, strict=True):
        if (None if point is None else point.threshold) != one.threshold:
            raise ValueError(f"points does not have the threshold that screening promises for {one.level:g}")
    return tuple(read)


def _mapping(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{str(value)[:100]} is no mapping")
    return value


def _refuse_unlike(fields: Any, known: Sequence[str], name: str) -> None:
    given = _mapping(fields)
    if set(given) != set(known):
        raise ValueError(f"{name} has the fields {', '.join(map(str, given))[:200]}, expected {', '.join(known)}")


def _is_number(value: Any) -> bool:
    return isinstance(value, float | int) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63
