"""The page of test films is one file, says figures by name, and shows pseudonyms only."""

from pathlib import Path

from PIL import Image

from cxr.findings import Finding, FindingVocabulary
from cxr.report.figures import epoch_curves
from cxr.report.run_page import FilmCard, run_page


def test_the_page_holds_everything(tmp_path: Path) -> None:
    findings = FindingVocabulary([Finding("nodule", "結節"), Finding("effusion", "積液")])
    cards = [
        FilmCard("p0123456789", Image.new("RGB", (8, 8)), ["nodule"], ["nodule", "effusion"]),
        FilmCard("p<script>", Image.new("RGB", (8, 8)), [], []),
    ]
    run_page(
        tmp_path / "index.html", findings, {"nodule": 1}, {"test/ap50/nodule": 0.5, "test/map_50": 0.5},
        epoch_curves([], "val/map_50"), cards, films=(3, 1), threshold=0.3, run="tiny · SGD",
    )  # fmt: skip
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "3 films" in page
    assert "結節" in page
    assert "<td>0.500</td><td>–</td>" in page
    assert "<h3>p0123456789</h3>" in page
    assert page.count("nodule · marked") == page.count("nodule · detected") == page.count("effusion · detected") == 1
    assert "<h3>p&lt;script&gt; · normal</h3>" in page
    assert page.count("nothing detected") == 1
    assert "The first 2 are shown" in page
    assert "<script>" not in page
    assert page.count("data:image/jpeg;base64,") == 2
    assert "http" not in page  # nothing is fetched
