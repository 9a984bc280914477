"""For whom does a detector fail? Its figures on groups of films, each beside all other films.

A figure is one of ``FIGURES``. A group is measured where it has enough patients. Its interval is a bootstrap over
patients; whether it differs from the other films is asked with permutations of patients, and Holm's correction covers
all tests that are made. A difference is no cause: a machine on the ward sees other patients than one at the clinic.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cxr.data.groups import KINDS, NOT_STATED, TOO_FEW, Groups, pooled
from cxr.measure.average_precision import AveragePrecision
from cxr.measure.froc import froc
from cxr.measure.group_tests import MOST, Members, Permutations, holm
from cxr.measure.intervals import Estimate, Figure, Values, estimates
from cxr.measure.matching import Rule, match
from cxr.measure.operating_point import OperatingPoint
from cxr.measure.results import FilmResult
from cxr.measure.screening import Rates, RocAuc, share
from cxr.read.film_groups import AGES

FIGURES = ("sensitivity@1fp", "ap50", "roc_auc", "screening")
"""Sensitivity at the threshold of 1 false positive a film on all films together; AP50 over the findings that are
marked both in the group and elsewhere; area under the ROC curve, normal or abnormal; sensitivity of screening at the
operating point."""
LEVEL = 0.05
"""Corrected p-value below which a difference is told as a finding."""


@dataclass(frozen=True)
class Beside:
    """A figure of a group, and of all other films.

    Args:
        value: of the group, with its interval over patients.
        rest: of the other films.
        difference: the group's less the rest's, with its interval.
        p: of the difference, NaN where there is none.
        p_holm: the same, corrected for all tests that were made.
    """

    value: Estimate
    rest: float
    difference: Estimate
    p: float
    p_holm: float = math.nan

    @property
    def differs(self) -> bool:
        """Whether the difference is a finding."""
        return self.p_holm < LEVEL


@dataclass(frozen=True)
class Group:
    """A group of films.

    Args:
        kind, name: "sex" and "F".
        films, patients: how large it is.
        figures: by name.
        division: number of the division of the films into the group and the rest. Women and men, or a maker and its
            only machine, are one.
    """

    kind: str
    name: str
    films: int
    patients: int
    figures: Mapping[str, Beside]
    division: int


@dataclass(frozen=True)
class Subgroups:
    """The groups of the films of an evaluation.

    Args:
        least: patients that a group needs to be measured and named; all other films need as many.
        groups: those that are measured, in the order of ``KINDS``.
        whole: each figure of all films.
        tests: how many tests were made; Holm's correction is over them.
        too_few: films and patients of each kind in groups that are too small.
        alone: kinds of which all films are in one group, and which group that is.
    """

    least: int
    groups: tuple[Group, ...]
    whole: Mapping[str, float]
    tests: int
    too_few: Mapping[str, tuple[int, int]]
    alone: Mapping[str, str]

    def differing(self) -> Iterator[tuple[Group, str, Beside]]:
        """Yield the findings: group, name of the figure, and the figure.

        Of groups that are one division the first is told on which the detector is worse.
        """
        told: dict[tuple[int, str], tuple[Group, str, Beside]] = {}
        for worse in (True, False):
            for group in self.groups:
                for name, beside in group.figures.items():
                    if beside.differs and (beside.difference.value < 0) is worse:
                        told.setdefault((group.division, name), (group, name, beside))
        yield from told.values()

    @property
    def smallest_p(self) -> float:
        """The smallest corrected p-value; NaN where no test was made."""
        known = [b.p_holm for group in self.groups for b in group.figures.values() if not math.isnan(b.p_holm)]
        return min(known, default=math.nan)


@dataclass(frozen=True)
class Settings:
    """How groups are measured: least patients, rule of localisation, resamples, permutations at most, seed."""

    least: int
    rule: Rule = "iou50"
    samples: int = 1000
    permutations: int = MOST
    seed: int = 0


def measure_groups(
    results: Sequence[FilmResult],
    judged: Sequence[FilmResult],
    groups: Sequence[Groups],
    labels: Sequence[int],
    point: OperatingPoint | None,
    settings: Settings,
) -> Subgroups:
    """Return the figures of each group of the films.

    Args:
        results: of the films, with everything that is marked on them.
        judged: the same films with the true boxes and detections of ``labels`` alone.
        groups: of each film (``cxr.data.groups.groups_of``).
        labels: classes of the findings that are evaluated.
        point: of screening; None leaves its sensitivity out.
        settings: how they are measured.
    """
    patients = [result.patient for result in results]
    named = pooled(groups, patients, settings.least)
    figures = _figures(results, judged, labels, point, settings.rule)
    abnormal = np.array([len(result.truth_labels) > 0 for result in results], bool)
    members = dict(_members(named))
    sizes = {key: (int(member.sum()), _patients(patients, member)) for key, member in members.items()}
    kept = {
        (kind, name): member
        for (kind, name), member in members.items()
        if name != TOO_FEW and min(_patients(patients, side) for side in (member, ~member)) >= settings.least
    }
    p_values = _tested(figures, Permutations(patients, abnormal), kept, settings)
    corrected = dict(zip(p_values, holm(list(p_values.values())), strict=True))
    divisions = list(dict.fromkeys(_side(member) for member in kept.values()))
    measured = []
    for (kind, name), member in kept.items():
        besides = _beside(figures, results, patients, member, settings)
        for figure, beside in besides.items():
            key = (figure, _side(member))
            besides[figure] = replace(beside, p=p_values.get(key, math.nan), p_holm=corrected.get(key, math.nan))
        measured.append(Group(kind, name, *sizes[kind, name], besides, divisions.index(_side(member))))
    ones = np.ones(len(results))
    return Subgroups(
        settings.least,
        tuple(measured),
        {name: _mean(figure(ones)) for name, figure in figures.items()},
        len(p_values),
        {kind: size for (kind, name), size in sizes.items() if name == TOO_FEW},
        {kind: name for (kind, name), member in members.items() if member.all()},
    )


def _members(named: Sequence[Groups]) -> Iterator[tuple[tuple[str, str], Members]]:
    """Yield kind and name of each group with its films; those without a statement and the small ones last."""
    for kind in KINDS:
        of_films = np.array([one[kind] for one in named], np.str_)
        for name in sorted(set(of_films.tolist()), key=_order):
            yield (kind, name), of_films == name


def _order(name: str) -> tuple[bool, int, str]:
    return name in (NOT_STATED, TOO_FEW), AGES.index(name) if name in AGES else 0, name


def _figures(
    results: Sequence[FilmResult],
    judged: Sequence[FilmResult],
    labels: Sequence[int],
    point: OperatingPoint | None,
    rule: Rule,
) -> dict[str, Figure]:
    """Return each figure as a function of how often each film counts. That of AP50 has a value for each finding."""
    each = [AveragePrecision(judged, label) for label in labels]
    known = np.array([i for i, result in enumerate(results) if result.truth_known(None)], np.int64)
    of_known = [results[i] for i in known]
    area = RocAuc(of_known)
    figures: dict[str, Figure] = {
        "sensitivity@1fp": _at_common_threshold(judged, rule),
        "ap50": lambda times: np.concatenate([np.zeros(0), *(finding(times) for finding in each)]),
        "roc_auc": lambda times: area(times[known]),
    }
    if point is not None:
        rates = Rates(of_known, point.threshold, ())
        figures["screening"] = lambda times: rates(times[known])[:1]
    return figures


def _at_common_threshold(judged: Sequence[FilmResult], rule: Rule) -> Figure:
    """Return the share of the boxes found that score as high as all films with 1 false positive each allow.

    A detector has one threshold, whatever the machine.
    """
    matches = match(judged, None, rule)
    threshold = froc(judged, None, rule).at(1).threshold
    hits = (matches.truth_scores >= threshold).astype(np.float64)

    def found(times: Values) -> Values:
        weights = times[matches.truth_film]
        return share((weights * hits).sum(), weights.sum())[None]

    return found


def _sides(figure: Figure, times: Values, member: Members) -> tuple[float, float]:
    """Return a figure of the group and of the rest: the mean over the values that both have."""
    group, rest = figure(times * member), figure(times * ~member)
    both = ~(np.isnan(group) | np.isnan(rest))
    return (float(group[both].mean()), float(rest[both].mean())) if both.any() else (math.nan, math.nan)


def _mean(values: Values) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else math.nan


def _tested(
    figures: Mapping[str, Figure],
    permutations: Permutations,
    members: Mapping[tuple[str, str], Members],
    settings: Settings,
) -> dict[tuple[str, bytes], float]:
    """Return the p-value of each figure for each division of the films into a group and the rest.

    Two groups that are each other's rest, as women and men may be, are one division and one test.
    """
    sides = {_side(member): member for member in members.values()}
    p_values = {}
    for name, figure in figures.items():
        for number, (side, member) in enumerate(sides.items()):
            difference = _difference(figure, len(member))
            p = permutations.p_value(difference, member, settings.seed + number, settings.permutations)
            if not math.isnan(p):
                p_values[name, side] = p
    return p_values


def _difference(figure: Figure, films: int) -> Callable[[Members], float]:
    ones = np.ones(films)

    def difference(member: Members) -> float:
        group, rest = _sides(figure, ones, member)
        return group - rest

    return difference


def _side(member: Members) -> bytes:
    """Return what a group and its rest have in common: the side that the first film is not on."""
    side: NDArray[np.bool_] = ~member if member[0] else member
    return side.tobytes()


def _beside(
    figures: Mapping[str, Figure],
    results: Sequence[FilmResult],
    patients: Sequence[str],
    member: Members,
    settings: Settings,
) -> dict[str, Beside]:
    """Return each figure of a group beside the rest, with intervals; without p-values."""

    def both(times: Values) -> Values:
        sides = [_sides(figure, times, member) for figure in figures.values()]
        return np.array([value for group, rest in sides for value in (group, group - rest)])

    count = _patients(patients, member)
    shares = [trials for name in figures for trials in (count if name in ("sensitivity@1fp", "screening") else 0, 0)]
    measured = estimates(
        both, results, [count] * len(shares), settings.samples, settings.seed, shares, "too little is marked here"
    )
    ones = np.ones(len(member))
    return {
        name: Beside(value, _sides(figure, ones, member)[1], difference, math.nan)
        for (name, figure), value, difference in zip(figures.items(), measured[::2], measured[1::2], strict=True)
    }


def _patients(patients: Sequence[str], member: Members) -> int:
    return len({patient for patient, inside in zip(patients, member, strict=True) if inside})
