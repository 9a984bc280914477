"""A card of the page of explained films: the film, the maps that can be laid over it, its boxes, and words for them."""

import io
import json
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cxr.explain.record import Box, Explained, ExplainedFilm, read_picture
from cxr.findings import NORMAL, FindingVocabulary
from cxr.palette import colour
from cxr.report.methods import method_text
from cxr.report.overlays import HEAT, LEVELS, cautions, outcome_words, overlay
from cxr.report.page import Chip, finding_chip
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


def film_card(
    index: int, folder: Path, record: ExplainedFilm, methods: Sequence[str], findings: FindingVocabulary, language: str
) -> dict[str, Any]:
    """Return a film with its boxes, the map of each method for each explained box, and what became of its findings."""
    say, film = words(language), read_picture(folder)
    film.thumbnail((_FILM_SIDE, _FILM_SIDE), Image.Resampling.LANCZOS)
    unmarked = say["normal" if record.truth_known else "unmarked"]
    return {
        "index": index,
        "study": record.study,
        "state": "" if record.truth else unmarked,
        "pairs": json.dumps(pairs(record)),
        "width": record.width,
        "height": record.height,
        "picture": film,
        "maps": [
            _map(folder, record, b, method, b == 0 and method == methods[0], language)
            for b in range(len(record.boxes))
            for method in methods
        ],
        "shapes": _shapes(record, findings, language),
        "boxes": [_chip(box, record, findings, language) for box in record.boxes],
        "missed": [finding_chip(findings, name, say["missed"], language) for name in record.missed],
    }


def _chip(box: Explained, record: ExplainedFilm, findings: FindingVocabulary, language: str) -> Chip:
    label = f"{findings.label(box.finding, language)} {box.score:.2f}"
    say = words(language)
    parts = [label, outcome_words(box, record, say)]
    if box.disagreement is not None:
        parts.append(say["members_disagree"].format(share=f"{box.disagreement:.2f}"))
    return Chip(" · ".join(parts), colour(findings, box.finding))


def _map(folder: Path, record: ExplainedFilm, b: int, method: str, current: bool, language: str) -> dict[str, Any]:
    """The overlay of one map, None where there is nothing to lay over the film, and the words on how to read it."""
    say, box = words(language), record.boxes[b]
    heat = overlay(folder / box.maps[method], _MAP_SIDE) if method in box.maps else None
    return {
        "box": b,
        "method": method,
        "name": method_text(method, language).name,
        "current": current,
        "png": None if heat is None else _coloured(heat),
        "cautions": cautions(box, method, heat, say),
        "remark": _remark(box.figures.get(method, {}), say),
    }


def _coloured(heat: NDArray[np.uint8]) -> bytes:
    """A map [h, w], 255 = 1.0, as a PNG of ``LEVELS`` colours, each with its own opacity."""
    levels = Image.fromarray(((heat.astype(np.uint16) * (LEVELS - 1) + 127) // 255).astype(np.uint8)).convert("P")
    levels.putpalette(HEAT_TABLE[:, :3].tobytes())
    out = io.BytesIO()
    levels.save(out, "PNG", transparency=HEAT_TABLE[:, 3].tobytes())
    return out.getvalue()


def _remark(figures: Mapping[str, float], say: Mapping[str, str]) -> str:
    """Where a map points, in words, from its own figures; "" where they were not measured."""
    if "hit" not in figures or "energy" not in figures:
        return ""
    peak = say["peak_inside" if figures["hit"] >= 0.5 else "peak_outside"]
    return f"{peak} · {say['inside'].format(share=round(100 * figures['energy']))}"


def _shapes(record: ExplainedFilm, findings: FindingVocabulary, language: str) -> list[dict[str, Any]]:
    """The boxes as SVG in original pixels: marked ones solid, detected ones dashed, a held-back one dotted.

    A mark that was missed carries its name, and so does the box whose map is shown; the chips name the others.
    """
    shapes = []
    for mark in record.truth:
        name = findings.label(mark.finding, language) if mark.finding in record.missed else ""
        shapes.append(_shape("truth", None, mark.box, name, colour(findings, mark.finding), record))
    for b, box in enumerate(record.boxes):
        kind = f"predicted{' suppressed' if box.outcome == 'suppressed' else ''}{' current' if b == 0 else ''}"
        label = f"{findings.label(box.finding, language)} {box.score:.2f}"
        shapes.append(_shape(kind, b, box.box, label, colour(findings, box.finding), record))
    return shapes


def _shape(kind: str, number: int | None, box: Box, label: str, ink: str, record: ExplainedFilm) -> dict[str, Any]:
    """A box with its words inside the film: a detection's above it, a mark's below. ``number`` is that of a box."""
    x0, y0, x1, y1 = box
    letters = sum(1 if unicodedata.east_asian_width(c) == "W" else 0.66 for c in label)  # widths, in sizes of the font
    size = min(max(record.width, record.height) / 30, record.width / max(letters, 1))
    width = size * letters
    x = max(min(x0, record.width - width), 0)
    y = min(y1 + size, record.height - 0.3 * size) if kind == "truth" else max(y0 - 0.35 * size, size)
    return {
        "kind": kind,
        "box": number,
        "label": label,
        "colour": ink,
        "rectangle": _one_decimal(x=x0, y=y0, width=x1 - x0, height=y1 - y0),
        "place": _one_decimal(x=x, y=y, **{"font-size": size}),
    }


def _one_decimal(**attributes: float) -> dict[str, str]:
    return {name: f"{value:.1f}" for name, value in attributes.items()}
