"""The page of test films is one file, says figures by name, and shows pseudonyms only."""

from pathlib import Path

from PIL import Image

from cxr.findings import Finding, FindingVocabulary
from cxr.report.html import FilmCard, test_page

test_page.__test__ = False  # type: ignore[attr-defined]  # a page of test films, not a test


def test_the_page_holds_everything(tmp_path: Path) -> None:
    findings = FindingVocabulary([Finding("nodule", "結節"), Finding("effusion", "積液")])
    cards = [
        FilmCard("p0123456789", Image.new("RGB", (8, 8)), ["nodule"], ["nodule", "effusion"]),
        FilmCard("p<script>", Image.new("RGB", (8, 8)), [], []),
    ]
    test_page(
        tmp_path / "index.html", findings, {"nodule": 1}, {"test/ap50/nodule": 0.5, "test/map_50": 0.5},
        b"png", cards, films=(3, 1), threshold=0.3, run="tiny · SGD",
    )  # fmt: skip
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "3 films" in page
    assert "結節" in page
    assert "<td>0.500</td><td>–</td>" in page
    assert "p0123456789 · marked: nodule" in page
    assert "marked: normal" in page
    assert "The first 2 are shown" in page
    assert "<script>" not in page
    assert page.count("data:image/jpeg;base64,") == 2
    assert "http" not in page  # nothing is fetched
