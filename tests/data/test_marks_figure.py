"""A figure of films with their marks, a row for each category that is there."""

import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from matplotlib.patches import Rectangle
from PIL import ImageColor

from cxr.data import figures
from cxr.data.figures import marks_figure
from cxr.data.sources.course import read_course
from cxr.data.sources.layouts import vocabulary_of
from cxr.findings import FindingVocabulary
from cxr.palette import colour
from cxr.read.cache import FilmCache
from cxr.read.intensity import FullRange, Intensity


@pytest.fixture
def root(course: Any) -> Path:
    course.row("N", "normal")
    course.row("B", "cardiac_hypertrophy", [(20, 50, 80, 90)], seed=2)
    course.row("B", "scoliosis", [(50, 0, 70, 100)], seed=2)
    broken = course.row("X", "scoliosis", [(50, 0, 70, 100)])
    broken.write_bytes(b"<html>")
    return Path(course.save())


@pytest.mark.parametrize(
    ("language", "names"),
    [
        ("en", ["normal · 1", "cardiac hypertrophy · 1", "scoliosis · 2"]),
        ("zh", ["正常 · 1", "心臟肥大 · 1", "脊椎側彎 · 2"]),
    ],
)
def test_rows_show_films_with_all_their_boxes_in_original_pixels(
    root: Path, findings: FindingVocabulary, tmp_path: Path, language: str, names: list[str]
) -> None:
    cache = FilmCache(tmp_path / "cache", Intensity([FullRange()]), 50)
    figure = marks_figure(read_course(root, findings), findings, cache, columns=2, language=language)
    first = figure.axes[::2]
    assert [axes.get_title(loc="left") for axes in first] == names
    boxes = [[p.get_bbox().extents for p in axes.patches if isinstance(p, Rectangle)] for axes in first]
    assert [len(some) for some in boxes] == [0, 2, 2]
    np.testing.assert_allclose(boxes[1], [[20, 50, 80, 90], [50, 0, 70, 100]], atol=1)
    assert first[1].get_xlim() == (0, 120)
    widths = [[p.get_linewidth() for p in axes.patches] for axes in first[1:]]
    assert widths == [[2, 1], [1, 2]]  # the row's own finding is bold
    assert not figure.axes[5].images  # the unreadable film is passed over


def test_the_command_line_draws_a_picture(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # anywhere: the vocabulary is found beside the package
    words = [root, tmp_path / "figure.png", "--language", "zh", "--columns", 2, "--cache", tmp_path / "cache"]
    monkeypatch.setattr(sys, "argv", ["figures", *map(str, words)])
    figures.main()
    picture = cv2.imread(str(tmp_path / "figure.png"))[..., ::-1]
    assert picture.shape == (990, 576, 3)  # 2 films of 2.4 inches, 3 rows of 2.55 and 0.6, 120 pixels an inch
    findings = vocabulary_of(root)
    for row, name in enumerate(("cardiac_hypertrophy", "scoliosis"), start=1):
        ink = ImageColor.getrgb(colour(findings, name))
        assert (picture[330 * row : 330 * row + 300] == ink).all(2).any(), name
        assert not (picture[:300] == ink).all(2).any()  # the row of normal films
