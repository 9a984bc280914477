"""A card of the page of explained films: the film, the maps that can be laid over it, its boxes, and words for them."""

import base64
import io
import json
import unicodedata
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np
from PIL import Image

from cxr.explain.record import PICTURE, Box, Explained, ExplainedFilm
from cxr.findings import NORMAL, FindingVocabulary
from cxr.palette import colour
from cxr.report.explain_figures import HEAT, LEVELS, cautions, outcome_words, overlay
from cxr.report.methods import method_text
from cxr.report.words import words

_FILM_SIDE, _MAP_SIDE = 768, 512  # pixels: a page of 16 films and 5 methods stays below 25 MB
HEAT_TABLE = (np.asarray(HEAT.colors) * 255 + 0.5).astype(np.uint8)  # [LEVELS, 4] red, green, blue, opacity

# What the outcome filter offers, in its order, and the word for it.
OUTCOMES = {"hit": "hit", "false-alarm": "false_alarm", "missed": "missed", NORMAL: NORMAL, "unmarked": "detected"}


def pairs(record: ExplainedFilm) -> list[tuple[str, str]]:
    """Return what the filters find a film by: pairs of a finding and a key of ``OUTCOMES``."""
    named = [box for box in record.boxes if box.outcome != "suppressed"]
    if not record.truth_known:
        return [(box.finding, "unmarked") for box in named]
    normal = [] if record.truth else [(NORMAL, NORMAL)]
    missed = [(finding, "missed") for finding in record.missed]
    return [*normal, *((box.finding, box.outcome.replace(" ", "-")) for box in named), *missed]


def card(
    index: int, folder: Path, record: ExplainedFilm, methods: Sequence[str], findings: FindingVocabulary, language: str
) -> str:
    """Return a film with its boxes, the map of each method for each explained box, and what became of its findings."""
    say = words(language)
    maps = "".join(
        _map(folder, box, b, method, b == 0 and method == methods[0], language)
        for b, box in enumerate(record.boxes)
        for method in methods
    )
    chips = "".join(_chip(index, b, box, record, findings, language) for b, box in enumerate(record.boxes))
    missed = "".join(
        f"<span class='chip plain' style='--colour:{colour(findings, name)}'><i></i>"
        f"{escape(findings.label(name, language))} · {say['missed']}</span>"
        for name in record.missed
    )
    choice = f"<fieldset aria-label='{say['which_box']}'>{chips}{missed}</fieldset>" if chips or missed else ""
    nothing = "" if record.boxes else f"<p class=quiet>{say['nothing']}</p>"
    state = "" if record.truth else f" · {say['normal'] if record.truth_known else say['unmarked']}"
    return f"""<figure class=film data-pairs="{escape(json.dumps(pairs(record)))}">
<div class=stage style="aspect-ratio:{record.width}/{record.height}">
<img class=radiograph alt="{say["film"]} {escape(record.study)}" src="{_film_data(folder)}">{maps}
{_drawing(record, findings, language)}</div>
<figcaption><h3>{escape(record.study)}{state}</h3>{choice}{nothing}{_remarks(record, methods, say)}
</figcaption></figure>"""


def _chip(index: int, b: int, box: Explained, record: ExplainedFilm, findings: FindingVocabulary, language: str) -> str:
    return (
        f"<label class=chip style='--colour:{colour(findings, box.finding)}'>"
        f"<input type=radio name=box-{index} value={b}"
        f"{' checked' if b == 0 else ''}><i></i>{escape(findings.label(box.finding, language))} {box.score:.2f} · "
        f"{outcome_words(box, record, words(language))}</label>"
    )


def _map(folder: Path, box: Explained, b: int, method: str, current: bool, language: str) -> str:
    """The overlay of one map, or the words that stand for it, and the note on how to read it."""
    say = words(language)
    chosen = f"data-box={b} data-method='{escape(method)}'{'' if current else ' hidden'}"
    heat = overlay(folder / box.maps[method], _MAP_SIDE) if method in box.maps else None
    notes = cautions(box, method, heat, say)
    picture = ""
    if heat is not None:
        name = escape(method_text(method, language).name)
        out = io.BytesIO()
        levels = Image.fromarray(((heat.astype(np.uint16) * (LEVELS - 1) + 127) // 255).astype(np.uint8)).convert("P")
        levels.putpalette(HEAT_TABLE[:, :3].tobytes())
        levels.save(out, "PNG", transparency=HEAT_TABLE[:, 3].tobytes())
        picture = f"<img class=map {chosen} alt='{name}' src='{data_uri(out.getvalue(), 'image/png')}'>"
    return picture + (f"<span class=veil {chosen}>{'<br>'.join(map(escape, notes))}</span>" if notes else "")


def _remarks(record: ExplainedFilm, methods: Sequence[str], say: Mapping[str, str]) -> str:
    """Where each map points, in words, from its own figures."""
    lines = []
    for b, box in enumerate(record.boxes):
        for method in methods:
            figures = box.figures.get(method, {})
            if "hit" not in figures or "energy" not in figures:
                continue
            peak = say["peak_inside" if figures["hit"] >= 0.5 else "peak_outside"]
            share = say["inside"].format(share=round(100 * figures["energy"]))
            current = b == 0 and method == methods[0]
            lines.append(
                f"<p class=quiet data-box={b} data-method='{escape(method)}'{'' if current else ' hidden'}>"
                f"{peak} · {share}</p>"
            )
    return "".join(lines)


def _drawing(record: ExplainedFilm, findings: FindingVocabulary, language: str) -> str:
    """The boxes as SVG in original pixels: marked ones solid, detected ones dashed, a held-back one dotted.

    A mark that was missed carries its name, and so does the box whose map is shown; the chips name the others.
    """
    parts = []
    for mark in record.truth:
        name = findings.label(mark.finding, language) if mark.finding in record.missed else ""
        parts.append(_shape("truth", "", mark.box, name, colour(findings, mark.finding), record))
    for b, box in enumerate(record.boxes):
        kind = f"predicted{' suppressed' if box.outcome == 'suppressed' else ''}{' current' if b == 0 else ''}"
        label = f"{findings.label(box.finding, language)} {box.score:.2f}"
        parts.append(_shape(kind, f" data-box={b}", box.box, label, colour(findings, box.finding), record))
    view = f"0 0 {record.width} {record.height}"
    return f'<svg viewBox="{view}" preserveAspectRatio=none aria-hidden=true>{"".join(parts)}</svg>'


def _shape(kind: str, data: str, box: Box, label: str, ink: str, record: ExplainedFilm) -> str:
    """A box with its words inside the film: a detection's above it, a mark's below."""
    x0, y0, x1, y1 = box
    rectangle = f'x="{x0:.1f}" y="{y0:.1f}" width="{x1 - x0:.1f}" height="{y1 - y0:.1f}"'
    size = max(record.width, record.height) / 30
    width = size * sum(1 if unicodedata.east_asian_width(c) == "W" else 0.6 for c in label)
    x = max(min(x0, record.width - width), 0)
    y = min(y1 + size, record.height - 0.3 * size) if kind == "truth" else max(y0 - 0.35 * size, size)
    words = f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size:.1f}">{escape(label)}</text>' if label else ""
    return (
        f'<g class="{kind}"{data} style="--colour:{ink}"><rect class=halo {rectangle} /><rect {rectangle} />{words}</g>'
    )


def _film_data(folder: Path) -> str:
    with Image.open(folder / PICTURE) as picture:
        film = picture.convert("L")
    film.thumbnail((_FILM_SIDE, _FILM_SIDE), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    film.save(out, "JPEG", quality=85)
    return data_uri(out.getvalue(), "image/jpeg")


def data_uri(content: bytes, kind: str) -> str:
    """Return content of the MIME type ``kind`` as a data URI."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
