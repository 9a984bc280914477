"""Every figure of one detector on one set of films, computed once for tables, figures and pages."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cxr.findings import FindingVocabulary
from cxr.measure.average_precision import COCO_IOUS, average_precision, only_detected
from cxr.measure.comparison import MARGIN, Arm, Comparison, compare_arms
from cxr.measure.folds import FoldFigures, figures_of_folds, leading_figures
from cxr.measure.froc import FP_RATES, Froc, FrocPoint, froc, froc_with_intervals, recall
from cxr.measure.intervals import Estimate, Values
from cxr.measure.matching import Rule
from cxr.measure.mistakes import Alarm, Miss, Stratum, by_size, confusion, worst_alarms, worst_misses
from cxr.measure.operating_point import OperatingPoint, Screening, screen
from cxr.measure.reliability import Reliability, reliability
from cxr.measure.results import FilmResult, with_known_truth
from cxr.measure.screening import RocCurve, image_average_precision, roc_auc, roc_curve

POOLED = "all"
"""Stands for all findings together where a finding is named."""
WORKING_RATE = 1 / 4
"""False positives a film of the threshold at which mistakes are counted and shown: one on every fourth film."""
PRECISIONS: Mapping[str, Sequence[float]] = {"ap40": (0.4,), "ap50": (0.5,), "ap": COCO_IOUS}
"""Average precision by name, and the IoUs it is the mean over."""


@dataclass(frozen=True)
class Settings:
    """How figures are measured: the rule of localisation, stated prevalences, mistakes kept of each kind, bootstrap.

    Two figures that are no further apart than ``margin`` count as equal.
    """

    rule: Rule
    prevalences: tuple[float, ...]
    worst: int
    samples: int
    seed: int
    margin: float = MARGIN


@dataclass(frozen=True, eq=False)
class FindingFigures:
    """Figures of one finding, or of all pooled.

    Args:
        boxes, films, patients: those with the finding.
        all_films: that were looked at.
        curve: the whole FROC.
        points: of it, one for each of ``FP_RATES``.
        precision: average precision by name, see ``PRECISIONS``. Pooled: the mean over the findings that somebody
            marked on these films.
        recall: share of the true boxes that any detection finds, however low its score.
        auc: of the films' own score of this finding, pooled of "abnormal".
    """

    boxes: int
    films: int
    patients: int
    all_films: int
    curve: Froc
    points: list[FrocPoint]
    precision: dict[str, Estimate]
    recall: Estimate
    auc: Estimate

    @property
    def precision_recall(self) -> tuple[Values, Values]:
        """Recall and precision [T] at each threshold of the curve but the one that shows nothing."""
        right = self.curve.sensitivity[1:] * self.boxes
        return self.curve.sensitivity[1:], right / (right + self.curve.false_positives[1:] * self.all_films)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What is known of a detector on some films.

    Args:
        findings: vocabulary of the detector.
        names: of the findings evaluated, in class order.
        results: films in order; true boxes and detections of ``names`` only. A film that has other findings alone
            has no true boxes here.
        films, normal, patients: counts of what was looked at; normal are films on which nothing at all is marked.
        threshold: of the pooled FROC at ``WORKING_RATE``; ``confusion`` and ``sizes`` use it.
        per_finding: by name, ``POOLED`` first.
        only_detected: the findings that were detected and that nobody marked on these films, and how many boxes of
            each: they stand in no average precision.
        roc, image_precision, calibration: of the films' "abnormal" score, against whether anything at all is marked.
        confusion: see ``cxr.measure.mistakes.confusion``, over ``names``.
        point, screening: None where there is no operating point.
        cleared: of the abnormal films that screening puts aside the least suspected, by index.
    """

    findings: FindingVocabulary
    names: tuple[str, ...]
    results: Sequence[FilmResult]
    films: int
    normal: int
    patients: int
    threshold: float
    per_finding: dict[str, FindingFigures]
    only_detected: dict[str, int]
    roc: RocCurve
    image_precision: Estimate
    calibration: Reliability
    confusion: NDArray[np.int64]
    sizes: list[Stratum]
    misses: list[Miss]
    alarms: list[Alarm]
    point: OperatingPoint | None
    screening: Screening | None
    cleared: list[int]


def evaluate(
    results: Sequence[FilmResult],
    findings: FindingVocabulary,
    names: Sequence[str],
    point: OperatingPoint | None,
    settings: Settings,
) -> Evaluation:
    """Return every figure of ``results`` for the findings ``names``.

    Boxes are judged for these findings alone. Whether a film is normal is asked of all that its readers marked, also of
    findings that the detector does not know (labels beyond its own): screening that puts a sick film aside is wrong,
    whatever it is sick with. Films whose readers did not look for a finding have no part in its figures, and those that
    are not known to be normal or abnormal none in screening's.
    """
    labels = [findings.index(name) for name in names]
    chosen, known = [_restricted(result, labels) for result in results], with_known_truth(results)
    per_finding = {POOLED: _figures(chosen, results, None, labels, settings)}
    for name, label in zip(names, labels, strict=True):
        per_finding[name] = _figures(chosen, results, label, [label], settings)
    threshold = per_finding[POOLED].points[FP_RATES.index(WORKING_RATE)].threshold
    samples, seed = settings.samples, settings.seed
    return Evaluation(
        findings,
        tuple(names),
        chosen,
        len(results),
        sum(result.normal for result in results),
        len({result.patient for result in results}),
        threshold,
        per_finding,
        {findings.name(label): boxes for label, boxes in only_detected(chosen, labels).items() if boxes},
        roc_curve(known),
        image_average_precision(known, samples=samples, seed=seed),
        reliability(known, samples=samples, seed=seed),
        confusion(chosen, labels, settings.rule, threshold),
        by_size(chosen, settings.rule, threshold),
        worst_misses(chosen, settings.rule, settings.worst),
        worst_alarms(chosen, settings.rule, settings.worst),
        point,
        None if point is None else screen(known, point, settings.prevalences, samples=samples, seed=seed),
        _cleared(results, point)[: settings.worst],
    )


def compare(first: Arm, second: Arm, labels: Sequence[int], settings: Settings) -> dict[str, Comparison]:
    """Return by how much the second detector exceeds the first in the leading figures, and what that says.

    Each is one run or, as an arm, several (``cxr.measure.comparison``).
    """
    arms = [[[_restricted(result, labels) for result in run] for run in arm] for arm in (first, second)]
    known = [[with_known_truth(run) for run in arm] for arm in (first, second)]
    comparison = {}
    for name, figure in leading_figures(labels, settings.rule).items():
        a, b = known if name == "roc_auc" else arms
        comparison[name] = compare_arms(a, b, figure, settings.margin, settings.samples, settings.seed)
    return comparison


def by_fold(evaluation: Evaluation, folds: Sequence[Sequence[int]], rule: Rule) -> list[FoldFigures]:
    """Return the leading figures of each fold; ``folds`` has the places of its films among those of the evaluation."""
    labels = [evaluation.findings.index(name) for name in evaluation.names]
    return figures_of_folds([[evaluation.results[place] for place in fold] for fold in folds], labels, rule)


def _figures(
    chosen: Sequence[FilmResult],
    whole: Sequence[FilmResult],
    label: int | None,
    labels: Sequence[int],
    settings: Settings,
) -> FindingFigures:
    chosen = chosen if label is None else with_known_truth(chosen, label)
    bearing = [r for r in chosen if (len(r.truth_labels) if label is None else (r.truth_labels == label).any())]
    boxes = sum(int(np.isin(r.truth_labels, labels).sum()) for r in chosen)
    samples, seed = settings.samples, settings.seed
    return FindingFigures(
        boxes,
        len(bearing),
        len({r.patient for r in bearing}),
        len(chosen),
        froc(chosen, label, settings.rule),
        froc_with_intervals(chosen, label, settings.rule, samples=samples, seed=seed),
        {name: average_precision(chosen, labels, ious, samples, seed) for name, ious in PRECISIONS.items()},
        recall(chosen, label, settings.rule, samples=samples, seed=seed),
        roc_auc(with_known_truth(whole, label), label, samples=samples, seed=seed),
    )


def _restricted(result: FilmResult, labels: Sequence[int]) -> FilmResult:
    """Return the film with the true boxes and detections of some findings alone."""
    marked, detected = np.isin(result.truth_labels, labels), np.isin(result.labels, labels)
    return replace(
        result,
        truth_boxes=result.truth_boxes[marked],
        truth_labels=result.truth_labels[marked],
        boxes=result.boxes[detected],
        labels=result.labels[detected],
        scores=result.scores[detected],
        disagreement=None if result.disagreement is None else result.disagreement[detected],
    )


def _cleared(results: Sequence[FilmResult], point: OperatingPoint | None) -> list[int]:
    if point is None:
        return []
    wrong = [i for i, r in enumerate(results) if len(r.truth_labels) and r.abnormal < point.threshold]
    return sorted(wrong, key=lambda i: results[i].abnormal)
