"""Pictures of explained films: the right box under the right words, zero maps not stretched, Chinese not missing."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from cxr.explain.record import Explained, ExplainedFilm, read_film_record, read_records, write_map
from cxr.explain.scores import ScoreRow
from cxr.findings import FindingVocabulary
from cxr.palette import QUIET, laid_over
from cxr.report.explain_figures import DASHES, category_page, film_figure
from cxr.report.explain_plots import score_plot
from cxr.report.methods import in_order, method_text
from cxr.report.overlays import HEAT, LEVELS, overlay


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that were saved, to be asked what they hold."""
    figures: list[Figure] = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda figure, *a, **k: figures.append(figure) or save(figure, *a, **k))
    return figures


def titles(figure: Figure) -> list[str]:
    return [axes.get_title() for axes in figure.axes if axes.get_title()]


def titled(figure: Figure, start: str) -> Axes:
    return next(axes for axes in figure.axes if axes.get_title().startswith(start))


def words_on(axes: Axes) -> str:
    return " ".join(text.get_text() for text in axes.texts)


def test_a_film_is_shown_plain_with_marks_and_under_each_box(
    explained_run: Path, findings: FindingVocabulary, drawn: list[Figure]
) -> None:
    folder = explained_run / "films" / "p0two"
    path = film_figure(folder, read_film_record(folder), "gradcam", findings)
    assert path == folder / "figure-gradcam.png"
    with Image.open(path) as picture:
        assert picture.width > 1000
    assert titles(drawn[0]) == [
        "film p0two", "marked by a reader · detected", "nodule 0.87\nhit", "effusion 0.62\nhit",
    ]  # fmt: skip
    assert len(drawn[0].axes) == 5  # four films and one colour bar


def test_true_and_predicted_boxes_differ_by_line_and_stand_in_original_pixels(
    explained_run: Path, findings: FindingVocabulary, drawn: list[Figure]
) -> None:
    folder = explained_run / "films" / "p0two"
    film_figure(folder, read_film_record(folder), "gradcam", findings)
    axes = titled(drawn[0], "nodule")
    solid, dashed = axes.patches
    assert (solid.get_xy(), dashed.get_xy()) == ((44, 54), (40, 50))  # the effusion's boxes are not here
    assert solid.get_linestyle() == "solid"
    assert dashed._unscaled_dash_pattern == DASHES["hit"]  # type: ignore[attr-defined]
    assert axes.get_xlim() == (0, 320)
    assert axes.get_ylim() == (400, 0)
    (film,) = axes.images
    assert film.get_extent() == [0, 320, 400, 0]


def test_a_zero_map_is_an_empty_overlay_and_says_so(
    explained_run: Path, findings: FindingVocabulary, drawn: list[Figure]
) -> None:
    folder = explained_run / "films" / "p2normal"
    film_figure(folder, read_film_record(folder), "gradcam", findings)
    assert titles(drawn[0])[1] == "normal"  # and not "detected"
    axes = titled(drawn[0], "nodule 0.03")
    assert axes.get_title() == "nodule 0.03\nno detection; strongest suppressed candidate"
    assert np.ndim(axes.images[0].get_array()) == 2  # the film in grey
    assert words_on(axes) == "no evidence: the map is zero"
    assert axes.patches[0]._unscaled_dash_pattern == DASHES["suppressed"]  # type: ignore[attr-defined]


def test_the_note_of_a_method_is_on_the_picture(
    explained_run: Path, findings: FindingVocabulary, drawn: list[Figure]
) -> None:
    folder = explained_run / "films" / "p0two"
    film_figure(folder, read_film_record(folder), "eigencam", findings)
    assert words_on(titled(drawn[0], "nodule")) == "EigenCAM cannot tell findings <apart>"


def test_long_notes_stay_on_their_film(explained_run: Path, findings: FindingVocabulary, drawn: list[Figure]) -> None:
    folder = explained_run / "films" / "p1alarm"
    record = read_film_record(folder)
    for note, most in (("all zero because " * 8, 50), ("此圖全為零，" * 8, 26)):
        box = Explained(**{**vars(record.boxes[0]), "notes": {"box": note}})
        film_figure(folder, ExplainedFilm(**{**vars(record), "boxes": (box,)}), "box", findings)
        lines = words_on(titled(drawn[-1], "effusion")).split("\n")
        assert len(lines) > 1
        assert max(map(len, lines)) <= most


def test_a_film_without_boxes_or_marks_is_drawn(
    explained_run: Path, findings: FindingVocabulary, drawn: list[Figure]
) -> None:
    folder = explained_run / "films" / "p2normal"
    record = read_film_record(folder)
    empty = ExplainedFilm(**{**vars(record), "boxes": (), "truth_known": False})
    film_figure(folder, empty, "gradcam", findings)
    assert titles(drawn[0]) == ["film p2normal", "film without marks", "Grad-CAM"]
    assert "nothing to explain" in words_on(titled(drawn[0], "Grad-CAM"))


def test_a_page_of_categories_takes_the_best_example_of_each(
    explained_run: Path, findings: FindingVocabulary, drawn: list[Figure]
) -> None:
    assert category_page(explained_run, "box", findings) == explained_run / "box.png"
    assert titles(drawn[0]) == [
        "normal\nnodule 0.03\nno detection; strongest suppressed candidate",
        "nodule\n0.87 · hit",
        "effusion\n0.62 · hit",  # not the false alarm on the other film
        *(f"finding {i}" for i in range(3, 8)),
    ]
    assert "no film with this finding" in words_on(titled(drawn[0], "finding 3")).replace("\n", " ")


def test_a_hit_is_a_better_example_than_a_surer_false_alarm(
    explained_run: Path, findings: FindingVocabulary, drawn: list[Figure]
) -> None:
    folder = explained_run / "films" / "p1alarm"
    record = read_film_record(folder)
    sure = Explained(**{**vars(record.boxes[0]), "score": 0.99})
    ExplainedFilm(**{**vars(record), "boxes": (sure,)}).write(folder)
    category_page(explained_run, "box", findings)
    assert titled(drawn[0], "effusion").get_title() == "effusion\n0.62 · hit"
    (explained_run / "films" / "p0two" / "film.json").unlink()
    category_page(explained_run, "box", findings)
    assert titled(drawn[1], "effusion").get_title() == "effusion\n0.99 · false alarm"


def test_a_run_without_films_still_gives_its_page(
    tmp_path: Path, findings: FindingVocabulary, drawn: list[Figure]
) -> None:
    category_page(tmp_path, "box", findings)
    assert "no normal film" in words_on(titled(drawn[0], "normal")).replace("\n", " ")


def test_a_film_is_seen_through_a_map_and_evidence_is_coloured() -> None:
    film = np.full((40, 60), 100, np.uint8)
    film[:, 30:] = 200
    heat = np.zeros((4, 6), np.uint8)
    heat[:2] = 255
    picture = laid_over(film, heat).astype(int)
    assert picture.shape == (40, 60, 3)
    dark, light = picture[35, 5], picture[35, 55]  # no evidence: grey, and as far apart as on the film
    assert max(np.ptp(dark), np.ptp(light)) <= 3  # the lowest colour of inferno is a very dark blue
    assert light[0] == pytest.approx(2 * dark[0], abs=3)
    red, _, blue = picture[2, 5]
    assert red > blue > dark[0]  # inferno ends in a light yellow
    assert picture[2, 55, 0] > red  # the film is seen through the highest evidence


def test_the_overlay_of_the_page_is_as_opaque_as_the_map_is_high() -> None:
    assert [HEAT(value)[3] for value in (0.0, 1.0)] == [0, 1]
    assert HEAT(0.5)[3] == pytest.approx(0.5, abs=1 / LEVELS)


def test_a_peak_of_one_pixel_survives_in_a_smaller_overlay_at_its_place(tmp_path: Path) -> None:
    heat = np.zeros((2003, 1001), np.float32)
    write_map(tmp_path / "zero.png", heat)
    heat[2002, 500] = 1
    write_map(tmp_path / "point.png", heat)
    assert overlay(tmp_path / "zero.png", 100) is None
    small = overlay(tmp_path / "point.png", 100)
    assert small is not None
    assert small.shape == (100, 49)
    assert np.argwhere(small).tolist() == [[99, 24]]
    assert small.max() == 255
    whole = overlay(tmp_path / "point.png", 4000)
    assert whole is not None
    assert whole.shape == heat.shape


def test_a_note_by_key_is_said_in_the_language_of_the_picture(
    explained_run: Path, findings: FindingVocabulary, drawn: list[Figure]
) -> None:
    folder = explained_run / "films" / "p2normal"
    record = read_film_record(folder)
    box = Explained(**{**vars(record.boxes[0]), "notes": {"gradcam": "zero", "eigencam": "blind"}})
    record = ExplainedFilm(**{**vars(record), "boxes": (box,)})
    for method, words in (("gradcam", "沒有證據：此圖全為零"), ("eigencam", "無法分辨病徵類別")):
        film_figure(folder, record, method, findings, "zh")
        assert words_on(titled(drawn[-1], "浸潤")) == words  # a zero map says it once


def test_scores_are_plotted_with_baselines_in_grey(
    tmp_path: Path, score_rows: list[ScoreRow], drawn: list[Figure]
) -> None:
    with Image.open(score_plot(score_rows, tmp_path / "scores.png")) as picture:
        assert picture.size == (1100, 288)  # 10 inches by 1.6 and 0.34 for each of three methods, 110 pixels an inch
    hit, energy = drawn[0].axes
    assert [label.get_text() for label in hit.get_yticklabels()] == ["Box-level map", "EigenCAM", "Random map"]
    dots = [line for line in hit.lines if line.get_marker() == "o"]
    assert [dot.get_xdata()[0] for dot in dots] == [0.75, 0.3, 0.05]
    assert dots[2].get_color() == QUIET != dots[0].get_color()
    assert len(energy.lines) == 4  # EigenCAM's energy could not be measured


@pytest.mark.parametrize("draw", [film_figure, category_page, score_plot])
def test_chinese_has_its_glyphs(
    draw: Callable[..., Path], explained_run: Path, findings: FindingVocabulary, score_rows: list[ScoreRow],
    drawn: list[Figure],
) -> None:  # fmt: skip
    """Matplotlib warns of a missing glyph, and a warning is an error here."""
    if draw is film_figure:
        folder, record = next(read_records(explained_run))
        film_figure(folder, record, "box", findings, "zh")
        assert "浸潤 0.87\n命中" in titles(drawn[0])
        labels = [text.get_text() for text in drawn[0].legends[0].get_texts()]
        assert labels == ["醫師標記", "偵測", "最強的未達門檻候選"]
    elif draw is category_page:
        category_page(explained_run, "gradcam", findings, "zh")
        assert "正常" in titles(drawn[0])[0]
    else:
        score_plot(score_rows, explained_run / "scores.png", "zh")
        assert titles(drawn[0]) == ["命中率", "框內能量"]


def test_an_unknown_language_is_refused() -> None:
    with pytest.raises(ValueError, match="language is 'fr', expected one of en, zh"):
        method_text("box", "fr")


def test_a_method_without_texts_goes_by_its_key_and_stands_before_the_baselines() -> None:
    assert method_text("mine").name == "mine"
    assert in_order({"random", "mine", "gradcam"}) == ["gradcam", "mine", "random"]
