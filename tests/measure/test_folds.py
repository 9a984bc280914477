"""Figures of folds and their means."""

import math
from collections.abc import Callable

import pytest

from cxr.measure.folds import FoldFigures, figures_of_folds, mean_and_deviation
from cxr.measure.results import FilmResult

HERE, THERE = (0, 0, 100, 100), (500, 500, 700, 700)


def test_each_fold_is_measured_by_itself(result: Callable[..., FilmResult]) -> None:
    good = [result([(HERE, 1)], [(HERE, 1, 0.9)]), result()]
    bad = [result([(HERE, 1)], [(THERE, 1, 0.9)]), result([], [(THERE, 1, 0.95)])]
    first, second = figures_of_folds([good, bad], [1])
    assert (first.films, first.figures["ap50"], first.figures["roc_auc"]) == (2, 1, 1)
    assert (second.figures["ap50"], second.figures["roc_auc"]) == (0, 0)


def test_the_mean_leaves_out_a_fold_without_the_figure() -> None:
    folds = [FoldFigures(5, {"ap": value}) for value in (0.4, 0.6, math.nan)]
    assert mean_and_deviation(folds, "ap") == (pytest.approx(0.5), pytest.approx(math.sqrt(0.02)))
    assert math.isnan(mean_and_deviation(folds[2:], "ap")[0])
