"""Every page the program writes, in every language: it is one file, carries its own glyphs and fits the window.

Machines that read a page often have no Chinese font.
"""

import base64
import logging
import re
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from fontTools.ttLib import TTFont
from PIL import Image
from selenium import webdriver

from cxr.explain.scores import ScoreRow
from cxr.findings import Finding, FindingVocabulary
from cxr.fonts.page import font_face
from cxr.measure.comparison import Comparison
from cxr.measure.evaluation import Evaluation
from cxr.measure.intervals import Estimate
from cxr.report.evaluate_page import evaluate_page
from cxr.report.explain_page import explain_page
from cxr.report.figures import epoch_curves
from cxr.report.model_card_page import model_card_page
from cxr.report.page import NotShown
from cxr.report.run_page import FilmCard, run_page
from cxr.report.studies_page import StudyFigure, studies_page
from cxr.report.sweep_jobs import Job, compare
from cxr.report.sweep_page import sweep_page
from cxr.report.words import LANGUAGES
from full_card import full_card

WORD = "心臟肥大"


def glyphs(page: str) -> set[str]:
    """The characters of which a page's own font has a glyph with an outline."""
    (content,) = re.findall(r"@font-face \{ font-family: cxr; src: url\(data:font/woff;base64,([^)]+)\)", page)
    with TTFont(BytesIO(base64.b64decode(content))) as font:
        outlines, characters = font.getGlyphSet(), font.getBestCmap()
        drawn = {code for code, name in characters.items() if outlines[name].width and name != ".notdef"}
    return {chr(code) for code in drawn}


def chinese(text: str) -> set[str]:
    return set(re.findall("[\u2e80-\uffff]", text))


Write = Callable[[str], Path]
NAME = "<i>" + "long" * 30  # whoever wrote the words, and however long they are


class DrawnFilms(list[Any]):
    """Four grey films whose files are gone."""

    films = [SimpleNamespace(path=Path("gone.dcm"))] * 4


BETTER = Comparison(Estimate(0.1, 0.05, 0.15, 4), (0.06, 0.14), 0.02, "better", 4, 12, ((0.5,), (0.6,)))


@pytest.fixture
def pages(
    tmp_path: Path,
    evaluation: Evaluation,
    explained_run: Path,
    findings: FindingVocabulary,
    score_rows: list[ScoreRow],
) -> dict[str, Write]:
    """Write each kind of page in a language, with names from outside that hold markup."""
    vocabulary = FindingVocabulary([Finding("cardiac_hypertrophy", WORD)])

    def run(language: str) -> Path:
        path, curves = tmp_path / "run.html", epoch_curves([], "val/map_50")
        card = FilmCard(NAME, Image.new("RGB", (8, 8)), ["cardiac_hypertrophy"], [])
        run_page(path, vocabulary, {"cardiac_hypertrophy": 1}, {}, curves, [card], (1, 0), 0.3, NAME, language)
        return path

    def evaluate(language: str) -> Path:
        films = DrawnFilms([(torch.full((1, 100, 100), 0.5), {"scale": torch.tensor([0.5, 0.5])})] * 4)
        both, better = {"A": evaluation, "B": evaluation}, {"ap50": BETTER}
        left_out = NotShown([NAME], [NAME])
        return evaluate_page(tmp_path, both, better, films, {NAME: NAME}, [NAME], left_out, language)  # type: ignore[arg-type]

    def explain(language: str) -> Path:
        not_shown, sanity = NotShown([NAME], [NAME], [NAME]), {"box": {NAME: 0.5}}
        return explain_page(explained_run, findings, score_rows, {NAME: WORD}, not_shown, sanity, language)

    def sweep(language: str) -> Path:
        jobs = [Job(Path(f"lr={lr}"), (f"findings={WORD}", f"lr={lr}"), "completed", 0.5) for lr in (1, 2)]
        jobs.append(Job(Path(NAME), (f"lr={NAME}",), "failed", reason=NAME))
        path = tmp_path / "sweep.html"
        sweep_page(path, compare(NAME, jobs), f"cxr train findings={WORD}", language)
        return path

    def studies(language: str) -> Path:
        Image.new("RGB", (780, 280)).save(tmp_path / "a.png")
        name, path = "cardiac_hypertrophy", tmp_path / "studies.html"
        studies_page(path, [StudyFigure(NAME, name, 0.5, [name], True, tmp_path / "a.png")], vocabulary, language)
        return path

    def card(language: str) -> Path:
        return model_card_page(tmp_path / "card.html", full_card(NAME, "cardiac_hypertrophy", WORD), language)

    written = {"run": run, "evaluate": evaluate, "explain": explain, "sweep": sweep, "studies": studies}
    return {**written, "card": card}


KINDS = pytest.mark.parametrize("kind", ["run", "evaluate", "explain", "sweep", "studies", "card"])
IN_EACH_LANGUAGE = pytest.mark.parametrize("language", LANGUAGES)


@KINDS
@IN_EACH_LANGUAGE
def test_a_page_is_one_file_and_shows_names_from_outside_as_text(
    kind: str, language: str, pages: dict[str, Write]
) -> None:
    page = pages[kind](language).read_text(encoding="utf-8")
    assert f'<html lang="{ {"en": "en", "zh": "zh-Hant"}[language] }">' in page
    assert "http" not in page
    assert all(source.startswith(("data:", "#")) for source in re.findall(r"(?:src|href)=[\"']?([^\"'> ]+)", page))
    assert "<i>long" not in page
    assert "&lt;i&gt;long" in page


@KINDS
@IN_EACH_LANGUAGE
def test_a_page_carries_every_chinese_glyph_it_shows(kind: str, language: str, pages: dict[str, Write]) -> None:
    page = pages[kind](language).read_text(encoding="utf-8")
    shown = chinese(page)
    if language == "en" and not shown:
        assert "@font-face" not in page
        return
    assert shown == glyphs(page)  # all of them, and no other: the whole font would add 190 KB to a page
    assert re.search(r"body \{ font: 15px/1\.5 cxr, system-ui, ", page)


@KINDS
@IN_EACH_LANGUAGE
@pytest.mark.parametrize("width", [1280, 400])
def test_a_page_fits_the_window(
    kind: str,
    language: str,
    width: int,
    pages: dict[str, Write],
    chromium: webdriver.Chrome,
    resize: Callable[[int], None],
) -> None:
    resize(width)
    chromium.get(pages[kind](language).as_uri())
    sizes = "const page = document.documentElement; return [window.innerWidth, page.scrollWidth - page.clientWidth]"
    assert chromium.execute_script(sizes) == [width, 0]
    broken = "return [...document.images].filter(image => !image.naturalWidth).length"
    assert chromium.execute_script(broken) == 0
    assert [entry["message"] for entry in chromium.get_log("browser")] == []


def test_the_font_is_cut_without_a_word_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert font_face(WORD)
    assert not caplog.records


def test_a_page_without_a_chinese_word_carries_no_font() -> None:
    assert font_face("<p>normal – 3 films × 2</p>") == ""


def test_a_character_that_the_bundled_font_lacks_is_left_to_the_readers_machine() -> None:
    assert glyphs(font_face(f"{WORD} 龘")) == set(WORD)


def test_a_card_says_which_state_of_the_program_made_each_figure(tmp_path: Path) -> None:
    """The commit in a clone, else the version of the wheel."""
    page = model_card_page(tmp_path / "card.html", full_card("a network", "heart", "心"), "en")
    text = page.read_text(encoding="utf-8")
    assert text.count("<td>cxr 0.9.8</td>") == 3
    assert text.count("commit 0123456789ab") == 1
