"""Figures of an evaluation: what they hold, read back from matplotlib, for one checkpoint and for two."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageColor

from cxr.measure.evaluation import POOLED, Evaluation
from cxr.palette import GROUND
from cxr.report import evaluate_figures as figures


def test_every_figure_is_written_in_its_size_on_the_dark_ground(evaluation: Evaluation, tmp_path: Path) -> None:
    paths = figures.evaluation_figures(tmp_path / "figures", {"A": evaluation})
    sizes = {}
    for name, path in paths.items():
        with Image.open(path) as picture:
            sizes[name] = picture.size
            assert picture.convert("RGB").getpixel((0, 0)) == ImageColor.getrgb(GROUND)
    one, two = (594, 506), (1188, 506)  # panels of 5.4 × 4.6 inches, 110 pixels an inch
    assert sizes == {
        "froc": two, "precision_recall": two, "roc": one, "reliability": one,
        "confusion": (917, 763), "sizes": one,
    }  # fmt: skip


def test_precision_falls_with_the_false_alarm_between_two_hits(evaluation: Evaluation) -> None:
    """By falling score: a hit, a false alarm, a hit; three boxes are marked."""
    pooled, _ = figures.precision_recall_figure({"A": evaluation}).axes
    np.testing.assert_allclose(pooled.lines[0].get_xydata(), [[1 / 3, 1], [1 / 3, 1 / 2], [2 / 3, 2 / 3]])


def test_a_bar_is_the_share_of_the_boxes_of_its_size_that_are_found(evaluation: Evaluation) -> None:
    """The boxes cover 6 % and 18 % of their films, so they are of one size; one of the three is not found."""
    (axes,) = figures.sizes_figure({"A": evaluation}).axes
    bars = [(round(bar.get_x() + bar.get_width() / 2), bar.get_height()) for bar in axes.patches]
    assert bars == [(2, pytest.approx(2 / 3))]
    assert [text.get_text() for text in axes.get_xticklabels()][2] == "5–20 %\n3 boxes"


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
