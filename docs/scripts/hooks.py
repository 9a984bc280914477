"""What the site adds to the pages of docs/: two made pages, and a look at each place of the repository that is named.

A link out of docs/ becomes its text, since the site has no such file. A link, or a path between backticks, to what does
not exist is a warning, which ends a strict build.
"""

import logging
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from settings_page import settings_page

ROOT = Path(__file__).parents[2]
_LOG = logging.getLogger("mkdocs.hooks.places")
_OUTSIDE = re.compile(r"\[([^\]]+)\]\((\.\./[^)#\s]+)(?:#[^)]*)?\)")
_PLACE = re.compile(r"`((?:benchmarks|conf|cxr|deploy|docs|hydra_plugins|notebooks|tests)/[\w./-]*)`")
_OLD = ("changelog.md",)  # tells of files that are gone
_READERS = ("conf/intensity/mine.yaml", "deploy/model", "deploy/secrets")  # what a reader makes


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made."""
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    files.append(File.generated(config, "settings.md", content=settings_page(ROOT / "conf")))
    files.append(File.generated(config, "changelog.md", content=changes.replace("](docs/", "](")))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Return the page with its links out of docs/ as text, once all that it names is there."""
    here = page.file.src_uri
    folder = (ROOT / "docs" / here).parent
    for named in (folder / target for _, target in _OUTSIDE.findall(markdown)):
        _expect(named, here)
    if here not in _OLD:
        for place in sorted({*_PLACE.findall(markdown)} - {*_READERS}):
            _expect(ROOT / place, here)
    return _OUTSIDE.sub(r"\1", markdown)


def _expect(path: Path, page: str) -> None:
    if not path.exists():
        _LOG.warning("%s names %s, which is not there", page, path.resolve())
