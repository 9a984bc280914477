"""Every name of every vocabulary, and every fixed Chinese word, has its glyphs in the font that ships."""

from pathlib import Path

import pytest
from fontTools.ttLib import TTFont
from omegaconf import OmegaConf

from cxr.findings import FindingVocabulary
from cxr.fonts import FONT, figure_font, picture_font
from cxr.report import words

WORDS = sorted(Path(words.__file__).parent.glob("*.yaml"))
VOCABULARIES = sorted((Path(__file__).parents[1] / "conf" / "findings").glob("*.yaml"))


@pytest.mark.parametrize("path", VOCABULARIES, ids=lambda p: p.stem)
def test_no_name_is_drawn_as_an_empty_box(path: Path) -> None:
    glyphs = TTFont(FONT).getBestCmap()
    node = OmegaConf.to_container(OmegaConf.load(path))
    assert isinstance(node, dict)
    vocabulary = FindingVocabulary(node["findings"])
    for finding in (vocabulary.normal, *vocabulary.findings):
        for text in (finding.name, finding.chinese, *finding.aliases):
            assert not [c for c in text if ord(c) not in glyphs], text


@pytest.mark.parametrize("path", WORDS, ids=lambda p: p.stem)
def test_no_fixed_word_is_drawn_as_an_empty_box(path: Path) -> None:
    glyphs = TTFont(FONT).getBestCmap()
    assert not {c for c in path.read_text(encoding="utf-8") if ord(c) not in glyphs} - {"\n"}


def test_both_libraries_load_it() -> None:
    assert picture_font(12).getlength("心臟肥大") == pytest.approx(48, abs=1)  # four square glyphs
    assert figure_font().get_name() == picture_font(12).getname()[0]
