"""A page is a template of ``templates/`` filled in with words of one language: one file that needs no network.

A template escapes every text it is given. So names of findings, errors of files and the like may hold markup.
"""

import base64
import functools
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from cxr.files import write_whole
from cxr.findings import FindingVocabulary
from cxr.fonts.page import font_face
from cxr.palette import colour
from cxr.report.words import words


@dataclass(frozen=True)
class Row:
    """A line of a table. What follows a line break in a text is written small beside it.

    Args:
        heading: of the line.
        cells: beside the heading.
        kind: a class of ``page.css``; "" for a plain line.
        colour: of a square before the heading; "" for none.
    """

    heading: str
    cells: Sequence[str]
    kind: str = ""
    colour: str = ""


@dataclass(frozen=True)
class Chip:
    """A few words below a film, with a square in the colour of their finding; "" for no square."""

    text: str
    colour: str = ""


@dataclass(frozen=True)
class Card:
    """A film with its boxes drawn, its pseudonym, a note on it ("" for none) and words for the boxes."""

    study: str
    picture: Image.Image
    chips: Sequence[Chip]
    note: str = ""


@dataclass(frozen=True)
class NotShown:
    """A line for each film without maps or figures: it cannot be read, it failed, or it is no film for the detector.

    Lines name films by pseudonyms and numbers.
    """

    unreadable: Sequence[str] = ()
    failed: Sequence[str] = ()
    refused: Sequence[str] = ()


def write_page(path: Path, template: str, language: str, **content: Any) -> Path:
    """Write ``template`` filled in with ``content`` to ``path``; ``say`` holds the words of ``language`` in it."""
    write_whole(path, page_text(template, language, **content))
    return path


def page_text(template: str, language: str, **content: Any) -> str:
    """Return ``template`` filled in as ``write_page`` does it."""
    return _environment().get_template(template).render(say=words(language), **content)


def finding_chip(findings: FindingVocabulary, name: str, text: str, language: str) -> Chip:
    """Return the words for a box of the finding ``name``."""
    return Chip(f"{findings.label(name, language)} · {text}", colour(findings, name))


def finding_row(findings: FindingVocabulary, name: str, cells: Sequence[str], language: str) -> Row:
    """Return the line of a finding: its label in the page's language, and small the one in the other language."""
    first, second = (findings.label(name, one) for one in (language, "en" if language == "zh" else "zh"))
    return Row(first if first == second else f"{first}\n{second}", cells, colour=colour(findings, name))


def only_detected_in_words(findings: FindingVocabulary, boxes: Mapping[str, int], language: str) -> str:
    """Return a sentence on the findings that were detected and that nobody marked; "" where there are none."""
    say = words(language)["only_detected"]
    named = [say["finding"].format(label=findings.label(name, language), boxes=n) for name, n in boxes.items() if n]
    return say["sentence"].format(named=say["between"].join(named)) if named else ""


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("cxr.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["font_face"] = font_face
    environment.filters |= {"jpeg": _jpeg, "png": _png, "png_width": _png_width, "breakable": _breakable}
    return environment


def _breakable(text: str) -> Markup:
    """Return a text with places at which a long name of a part, ``roi_heads.box_head/rpn.head``, may go on below."""
    return Markup("<wbr>").join(re.split(r"(?<=[a-z][./])(?=[a-z])", text))  # which escapes the pieces


def _jpeg(picture: Image.Image) -> str:
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=85)
    return _data_uri(out.getvalue(), "image/jpeg")


def _png(content: bytes) -> str:
    return _data_uri(content, "image/png")


def _png_width(content: bytes) -> int:
    with Image.open(io.BytesIO(content)) as picture:
        return picture.width


def _data_uri(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
