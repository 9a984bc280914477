"""The leading figures of each fold of a data set by itself, beside those of all films together."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from cxr.measure.average_precision import COCO_IOUS, MeanAveragePrecision
from cxr.measure.froc import SensitivityAt
from cxr.measure.intervals import Figure
from cxr.measure.matching import Rule
from cxr.measure.results import FilmResult, with_known_truth
from cxr.measure.screening import RocAuc


@dataclass(frozen=True)
class FoldFigures:
    """A fold: how many films it has, and its figures by the names of ``leading_figures``; NaN where undefined."""

    films: int
    figures: Mapping[str, float]


def leading_figures(labels: Sequence[int], rule: Rule) -> dict[str, Callable[[Sequence[FilmResult]], Figure]]:
    """Return the figures that detectors are compared by: each is made of results, see ``cxr.measure.intervals``.

    ``roc_auc`` wants films that are known to be normal or abnormal (``with_known_truth``).
    """
    return {
        "sensitivity@1fp": partial(SensitivityAt, rule=rule, rates=(1,)),
        "ap50": partial(MeanAveragePrecision, labels=labels, ious=(0.5,)),
        "ap": partial(MeanAveragePrecision, labels=labels, ious=COCO_IOUS),
        "roc_auc": RocAuc,
    }


def figures_of_folds(
    folds: Sequence[Sequence[FilmResult]], labels: Sequence[int], rule: Rule = "iou50"
) -> list[FoldFigures]:
    """Return the leading figures of each fold. ``folds`` have true boxes and detections of ``labels`` alone."""
    made = leading_figures(labels, rule).items()
    return [FoldFigures(len(films), {name: _value(name, make, films) for name, make in made}) for films in folds]


def mean_and_deviation(folds: Sequence[FoldFigures], name: str) -> tuple[float, float]:
    """Return the mean of a figure over the folds that have it, and its standard deviation (n - 1); NaN where none."""
    known = [fold.figures[name] for fold in folds if not math.isnan(fold.figures[name])]
    if len(known) < 2:
        return (known[0] if known else math.nan), math.nan
    return statistics.fmean(known), statistics.stdev(known)


def _value(name: str, make: Callable[[Sequence[FilmResult]], Figure], films: Sequence[FilmResult]) -> float:
    counted = with_known_truth(films) if name == "roc_auc" else films
    return float(make(counted)(np.ones(len(counted)))[0])
