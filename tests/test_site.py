"""The site of docs/: strict, complete, and without a question to the internet."""

import re
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from installed import run
from scripts import ROOT

settings_page = runpy.run_path(str(ROOT / "docs" / "scripts" / "settings_page.py"))["settings_page"]
ASKED = re.compile(r"""<(?:script|img|link|iframe|source)\b[^>]*?(?:src|href)=["']?(https?:|//)[^"'>\s]*""")


def keys(values: dict[str, Any], before: str = "") -> Iterator[str]:
    """Yield the keys of a file of conf/ that can be typed, down to those that hold no others."""
    for key, value in values.items():
        if key in ("_target_", "_partial_", *(() if before else ("defaults", "hydra"))):
            continue
        if isinstance(value, dict) and value:
            yield from keys(value, f"{before}{key}.")
        else:
            yield f"{before}{key}"


@pytest.fixture(scope="module")
def settings() -> dict[str, list[str]]:
    """The rows of the page of every setting: what is typed, and what stands beside it in each file that has it."""
    rows: dict[str, list[str]] = {}
    for typed, rest in re.findall(r"^\| `([^`]+)` \| (.*) \|$", settings_page(ROOT / "conf"), re.MULTILINE):
        rows.setdefault(typed, []).append(rest)
    return rows


def test_every_key_stands_on_the_page_of_every_setting(settings: dict[str, list[str]]) -> None:
    for file in (ROOT / "conf").rglob("*.yaml"):
        for key in keys(yaml.safe_load(file.read_text(encoding="utf-8"))):
            wholes = {key.rsplit(".", cut)[0] for cut in range(key.count(".") + 1)}  # a row may show a whole mapping
            assert any(f".{typed}".endswith(f".{whole}") for typed in settings for whole in wholes), (file, key)


def test_a_comment_stands_beside_its_key_and_above_it_and_goes_on_below(settings: dict[str, list[str]]) -> None:
    assert "`512` | longest side of the network frame, pixels" in settings["data.size"]
    assert any("\\[a.ckpt,b.ckpt\\], is an ensemble ([ensembles](ensembles.md))" in row for row in settings["ckpt"])
    assert "are films of an archive" in settings["dates"][0]
    assert settings["data.read.sources.nih.patients"] == ["`chestxray14` | "]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site. A link, an anchor or a name that leads nowhere ends the build."""
    folder = tmp_path_factory.mktemp("site")
    run(sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", folder, cwd=ROOT)
    return folder


@pytest.mark.slow
def test_no_page_asks_the_internet(site: Path) -> None:
    pages = [*site.rglob("*.html")]
    assert len(pages) > 30
    assert not [found[0] for page in pages for found in ASKED.finditer(page.read_text(encoding="utf-8"))]
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//", sheet.read_text(encoding="utf-8")), sheet.name


@pytest.mark.slow
@pytest.mark.parametrize(("words", "address"), [("ablationcam", "explanations.html"), ("心臟肥大", "settings.html")])
def test_search_answers_without_a_server(chromium: webdriver.Chrome, site: Path, words: str, address: str) -> None:
    chromium.get((site / "index.html").as_uri())
    field = chromium.find_element(By.CSS_SELECTOR, "input[data-md-component=search-query]")
    chromium.execute_script("document.querySelector('[for=__search]').click()")
    WebDriverWait(chromium, 20).until(lambda _: field.is_displayed())
    field.send_keys(words, Keys.END)
    results = ".md-search-result__link"
    WebDriverWait(chromium, 20).until(lambda browser: browser.find_elements(By.CSS_SELECTOR, results))
    found = [link.get_attribute("href") or "" for link in chromium.find_elements(By.CSS_SELECTOR, results)]
    assert any(address in link for link in found), found
