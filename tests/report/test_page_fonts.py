"""Chinese words are read on a machine without a Chinese font: every page carries the glyphs of those it shows."""

import base64
import logging
import re
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
import torch
from fontTools.ttLib import TTFont
from PIL import Image

from cxr.explain.scores import ScoreRow
from cxr.findings import Finding, FindingVocabulary
from cxr.fonts.page import font_face
from cxr.measure.evaluation import Evaluation
from cxr.report.evaluate_page import LeftOut, evaluate_page
from cxr.report.explain_page import NotShown, explain_page
from cxr.report.html import FilmCard, test_page
from cxr.report.sweep_jobs import Job, compare
from cxr.report.sweep_page import sweep_page
from cxr.volume import explain

test_page.__test__ = False  # type: ignore[attr-defined]  # a page of test films, not a test

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


@pytest.fixture
def vocabulary() -> FindingVocabulary:
    return FindingVocabulary([Finding("cardiac_hypertrophy", WORD)])


@pytest.fixture
def pages(
    tmp_path: Path,
    vocabulary: FindingVocabulary,
    evaluation: Evaluation,
    explained_run: Path,
    findings: FindingVocabulary,
    score_rows: list[ScoreRow],
) -> dict[str, Callable[[], str]]:
    """Each kind of page the program writes."""

    def films() -> str:
        card = FilmCard("p0", Image.new("RGB", (8, 8)), ["cardiac_hypertrophy"], [])
        page = tmp_path / "films.html"
        test_page(page, vocabulary, {"cardiac_hypertrophy": 1}, {}, b"png", [card], (1, 0), 0.3, "tiny")
        return page.read_text(encoding="utf-8")

    def evaluated() -> str:
        film = (torch.full((1, 100, 100), 0.5), {"scale": torch.tensor([0.5, 0.5])})
        page = evaluate_page(tmp_path, {"A": evaluation}, {}, [film] * 4, {}, [], LeftOut([], []))  # type: ignore[arg-type]
        return page.read_text(encoding="utf-8")

    def explained(language: str) -> str:
        return explain_page(explained_run, findings, score_rows, {"Films": WORD}, NotShown(), {}, language).read_text(
            "utf-8"
        )

    def swept() -> str:
        jobs = [Job(Path(f"lr={lr}"), (f"findings={WORD}", f"lr={lr}"), "completed", 0.5) for lr in (1, 2)]
        sweep_page(tmp_path / "sweep.html", compare("s", jobs), f"cxr train findings={WORD}")
        return (tmp_path / "sweep.html").read_text(encoding="utf-8")

    def studies() -> str:
        Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
        one = explain.ExplainedFinding("cardiac_hypertrophy", 0.5, True, "a.png", (1, 1, 1))
        study = explain.ExplainedStudy("p0", "q0", ("cardiac_hypertrophy",), {"cardiac_hypertrophy": 0.5}, (one,))
        return explain._page([(tmp_path, study)], vocabulary, "zh")

    return {
        "films": films,
        "evaluated": evaluated,
        "explained": lambda: explained("en"),
        "explained in Chinese": lambda: explained("zh"),
        "swept": swept,
        "studies": studies,
    }


@pytest.mark.parametrize("kind", ["films", "evaluated", "explained", "explained in Chinese", "swept", "studies"])
def test_a_page_carries_every_chinese_glyph_it_shows(kind: str, pages: dict[str, Callable[[], str]]) -> None:
    page = pages[kind]()
    shown = chinese(page)
    assert shown
    assert shown == glyphs(page)  # all of them, and no other: the whole font would add 160 KB to a page
    assert re.search(r"body \{ font: 15px/1\.5 cxr, system-ui, ", page)


def test_the_font_is_cut_without_a_word_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert font_face(WORD)
    assert not caplog.records


def test_a_page_without_a_chinese_word_carries_no_font() -> None:
    assert font_face("<p>normal – 3 films × 2</p>") == ""


def test_a_character_that_the_bundled_font_lacks_is_left_to_the_readers_machine() -> None:
    assert glyphs(font_face(f"{WORD} 龘")) == set(WORD)
