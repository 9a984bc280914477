"""Figures of an evaluation: what they hold, read back from matplotlib, for one checkpoint and for two."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cxr.measure.evaluation import POOLED, Evaluation
from cxr.report import evaluate_figures as figures


def test_every_figure_is_drawn(evaluation: Evaluation, tmp_path: Path) -> None:
    paths = figures.evaluation_figures(tmp_path / "figures", {"A": evaluation})
    assert list(paths) == ["froc", "precision_recall", "roc", "reliability", "confusion", "sizes"]
    for path in paths.values():
        with Image.open(path) as picture:
            assert np.asarray(picture.convert("L")).std() > 3, path


def test_the_froc_marks_the_rates_and_shows_the_findings_that_occur(evaluation: Evaluation) -> None:
    pooled, single = figures.froc_figure({"A": evaluation}).axes
    dots = [line.get_xydata()[0] for line in pooled.lines if line.get_marker() == "o"]
    points = evaluation.per_finding[POOLED].points
    assert [tuple(dot) for dot in dots] == [
        (rate, point.sensitivity) for rate, point in zip((1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8), points, strict=True)
    ]
    assert [text.get_text() for text in single.get_legend().get_texts()] == ["nodule (2)", "effusion (1)"]


def test_the_operating_point_lies_on_the_roc_curve(evaluation: Evaluation) -> None:
    (axes,) = figures.roc_figure({"A": evaluation}).axes
    diamond = next(line for line in axes.lines if line.get_marker() == "D").get_xydata()[0]
    curve = next(line for line in axes.lines if len(line.get_xydata()) > 2).get_xydata()
    assert np.isclose(curve, diamond).all(1).any()


def test_confusion_shows_counts_where_they_belong(evaluation: Evaluation) -> None:
    (axes,) = figures.confusion_figure({"A": evaluation}).axes
    shown = {(round(t.get_position()[1]), round(t.get_position()[0])): int(t.get_text()) for t in axes.texts}
    assert shown == {tuple(at): n for at, n in np.ndenumerate(evaluation.confusion) if n}


@pytest.mark.parametrize("name", ["froc", "precision_recall", "roc", "reliability"])
def test_two_checkpoints_share_axes_and_are_named(evaluation: Evaluation, name: str) -> None:
    figure = getattr(figures, f"{name}_figure")({"A": evaluation, "B": evaluation})
    texts = [text.get_text().split(":")[0] for text in figure.axes[0].get_legend().get_texts()]
    assert texts == ["checkpoint A", "checkpoint B"]


def test_two_checkpoints_have_a_matrix_each(evaluation: Evaluation) -> None:
    figure = figures.confusion_figure({"A": evaluation, "B": evaluation})
    assert [axes.get_title() for axes in figure.axes] == ["checkpoint A", "checkpoint B"]
