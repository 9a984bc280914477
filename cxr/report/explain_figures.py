"""Pictures of explained films: one for each film and method, and a page for each method with every category."""

import math
import textwrap
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from matplotlib import cm, colors, rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec, SubplotSpec
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from cxr.explain.record import Box, Explained, ExplainedFilm, read_picture, read_records
from cxr.findings import NORMAL, FindingVocabulary
from cxr.palette import INK, QUIET, colour, laid_over
from cxr.report.figures import Marks, film_picture
from cxr.report.methods import method_text
from cxr.report.overlays import cautions, outcome_words, overlay
from cxr.report.plots import DARK, DPI
from cxr.report.words import words

_Example = tuple[Path, ExplainedFilm, Explained]  # a box, with its film's folder and record

# Told apart without colour: what a reader marked is solid, what the detector named dashed, what it held back dotted.
_Style = Literal["solid"] | tuple[float, tuple[float, ...]]
SOLID: _Style = "solid"
DASHES: dict[str, _Style] = {"hit": (0, (5, 3)), "false alarm": (0, (5, 3)), "suppressed": (0, (1, 2))}
_WIDTH = 3.1  # inches, of a film in a picture


@rc_context(DARK)
def film_figure(
    folder: Path, record: ExplainedFilm, method: str, findings: FindingVocabulary, language: str = "en"
) -> Path:
    """Draw a film: plain, with marks and detections, and under the map of ``method`` for each explained box.

    All maps share one colour bar of 0..1. Returns ``figure-<method>.png`` in the film's folder.
    """
    say = words(language)
    panels = 2 + max(1, len(record.boxes))
    columns = min(panels, 4)
    figure, grid, bar = _sheet(math.ceil(panels / columns), columns, record.height / record.width)
    film = np.asarray(read_picture(folder))
    axes = [figure.add_subplot(grid[divmod(i, columns)]) for i in range(panels)]
    _draw_film(axes[0], film, record)
    _draw_film(axes[1], _with_marks(film, record, findings, language), record)
    _title(axes[0], f"{say['film']} {record.study}")
    _title(axes[1], _summary(record, say))
    for place, box in zip(axes[2:], record.boxes, strict=False):
        _draw_explained(place, folder, record, box, method, findings, language)
    if not record.boxes:
        _draw_film(axes[2], film, record)
        _title(axes[2], method_text(method, language).name)
        _note(axes[2], say["nothing"])
    return _finished(figure, bar, folder / f"figure-{method}.png", method, language)


@rc_context(DARK)
def category_page(run: Path, method: str, findings: FindingVocabulary, language: str = "en") -> Path:
    """Draw one example a category, normal and each finding, under the maps of ``method``; return ``<method>.png``.

    A finding is shown by its hit with the highest score, else by its highest false alarm; normal by the strongest
    candidate on the first normal film.
    """
    say = words(language)
    films = list(read_records(run))
    boxes = [(folder, record, box) for folder, record in films for box in record.boxes if method in box.maps]
    names = (NORMAL, *findings.names)
    columns = 4
    aspect = max((record.height / record.width for _, record in films), default=1.0)
    figure, grid, bar = _sheet(math.ceil(len(names) / columns), columns, aspect)
    for i, name in enumerate(names):
        place = figure.add_subplot(grid[divmod(i, columns)])
        example = _normal_example(boxes) if name == NORMAL else _example(boxes, name)
        heading = findings.label(name, language)
        if example is None:
            _empty(place, heading, say["no_normal" if name == NORMAL else "no_example"])
            continue
        folder, record, box = example
        _draw_explained(place, folder, record, box, method, findings, language)
        detail = place.get_title() if name == NORMAL else f"{box.score:.2f} · {outcome_words(box, record, say)}"
        _title(place, f"{heading}\n{detail}", INK if name == NORMAL else colour(findings, name))
    return _finished(figure, bar, run / f"{method}.png", method, language)


def _example(boxes: Sequence[_Example], name: str) -> _Example | None:
    """Return the box that shows a finding best: a hit before a false alarm, then by score."""
    named = [e for e in boxes if e[2].finding == name and e[2].outcome != "suppressed"]
    return max(named, key=lambda e: (e[2].outcome == "hit", e[2].score), default=None)


def _normal_example(boxes: Sequence[_Example]) -> _Example | None:
    """Return the strongest box on the first film that is known to be normal."""
    normal = [e for e in boxes if e[1].truth_known and not e[1].truth]
    return max((e for e in normal if e[0] == normal[0][0]), key=lambda e: e[2].score, default=None)


def _sheet(rows: int, columns: int, aspect: float) -> tuple[Figure, GridSpec, SubplotSpec]:
    """A dark figure with a grid of films and, right of it, the place of the one colour bar."""
    head, foot, gap, side = 1.3, 0.5, 0.8, 0.95  # inches: heading, legend, a title between rows, colour bar
    height = head + foot + rows * _WIDTH * aspect + (rows - 1) * gap
    whole = columns * _WIDTH + (columns - 1) * 0.12 + side + 0.15
    figure = Figure(figsize=(whole, height))
    top, bottom, right = 1 - head / height, foot / height, 1 - side / whole
    grid = GridSpec(
        rows, columns, figure, left=0.15 / whole, right=right, top=top, bottom=bottom, wspace=0.12 / _WIDTH,
        hspace=gap / (_WIDTH * aspect),
    )  # fmt: skip
    left = right + 0.18 / whole
    bar = GridSpec(1, 1, figure, left=left, right=left + 0.16 / whole, top=top, bottom=bottom)
    return figure, grid, bar[0]


def _draw_film(axes: Axes, film: NDArray[np.uint8], record: ExplainedFilm) -> None:
    """The film in its original pixels, whatever the size of its picture."""
    axes.imshow(film, cmap="gray", vmin=0, vmax=255, extent=(0, record.width, record.height, 0))
    axes.set(xticks=[], yticks=[], anchor="N")
    axes.set_axis_off()


def _with_marks(
    film: NDArray[np.uint8], record: ExplainedFilm, findings: FindingVocabulary, language: str
) -> NDArray[np.uint8]:
    """The film with its marks and detections, captions clear of each other; what was held back is no detection."""
    scale = film.shape[1] / record.width
    detected = [box for box in record.boxes if box.outcome != "suppressed"]
    truth, seen = (
        Marks(np.array([b.box for b in boxes], np.float32).reshape(-1, 4) * scale, [b.finding for b in boxes])
        for boxes in (record.truth, detected)
    )
    seen = replace(seen, scores=np.array([box.score for box in detected], np.float32))
    image = np.divide(film, 255, dtype=np.float32)
    return np.asarray(film_picture(image, truth, seen, findings, round(_WIDTH * DPI), language))


def _draw_explained(
    axes: Axes, folder: Path, record: ExplainedFilm, box: Explained, method: str,
    findings: FindingVocabulary, language: str,
) -> None:  # fmt: skip
    """Draw a film with a box's map over it, with the marks of its finding, the box itself and what must be known."""
    say = words(language)
    ink = colour(findings, box.finding)
    longest = round(_WIDTH * DPI * max(1, record.height / record.width))  # that of the panel: not made smaller again
    heat = overlay(folder / box.maps[method], longest) if method in box.maps else None
    film = np.asarray(read_picture(folder))
    _draw_film(axes, film if heat is None else laid_over(film, heat), record)
    for mark in record.truth:
        if mark.finding == box.finding:
            _draw_box(axes, mark.box, ink, SOLID)
    _draw_box(axes, box.box, ink, DASHES[box.outcome])
    _title(axes, f"{findings.label(box.finding, language)} {box.score:.2f}\n{outcome_words(box, record, say)}", ink)
    notes = cautions(box, method, heat, say)
    if notes:
        _note(axes, "\n".join(notes))


def _summary(record: ExplainedFilm, say: Mapping[str, str]) -> str:
    """What the picture with boxes holds: marks, or that there are none, and detections where there are any."""
    marks = say["marked"] if record.truth else say["normal" if record.truth_known else "unmarked"]
    detected = any(box.outcome != "suppressed" for box in record.boxes)
    return f"{marks} · {say['detected']}" if detected else marks


def _draw_box(axes: Axes, box: Box, ink: str, style: _Style) -> None:
    x0, y0, x1, y1 = box
    axes.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor=ink, linewidth=1.6, linestyle=style))


def _title(axes: Axes, text: str, ink: str = INK) -> None:
    axes.set_title(text, color=ink, linespacing=1.3)


def _note(axes: Axes, text: str) -> None:
    axes.text(
        0.5, 0.02, _wrapped(text), transform=axes.transAxes, ha="center", va="bottom", fontsize=7.5,
        bbox={"facecolor": "black", "alpha": 0.75, "pad": 2.5, "edgecolor": "none"},
    )  # fmt: skip


def _wrapped(text: str) -> str:
    """Lines that fit a film's width; a Chinese character is two wide."""
    wide = any(unicodedata.east_asian_width(c) == "W" for c in text)
    return "\n".join(textwrap.fill(line, 26 if wide else 50) for line in text.splitlines())


def _empty(axes: Axes, heading: str, text: str) -> None:
    axes.set_axis_off()
    _title(axes, heading)
    axes.text(0.5, 0.5, _wrapped(text), transform=axes.transAxes, ha="center", color=QUIET, fontsize=8)


def _finished(figure: Figure, bar: SubplotSpec, path: Path, method: str, language: str) -> Path:
    """Add the heading, the legend and, at ``bar``, the colour bar; write the picture and return its path."""
    say, text, height = words(language), method_text(method, language), figure.get_figheight()
    figure.text(0.012, 1 - 0.14 / height, text.name, fontsize=15, va="top")
    figure.text(0.012, 1 - 0.46 / height, text.explained, color=QUIET, fontsize=9.5, va="top")
    styles = {"marked": SOLID, "detected": DASHES["hit"], "suppressed": DASHES["suppressed"]}
    lines = [Line2D([], [], color=INK, linestyle=style, linewidth=1.6, label=say[key]) for key, style in styles.items()]
    figure.legend(handles=lines, loc="lower left", ncols=3, frameon=False, handlelength=3.2, borderaxespad=0.6)
    colours = cm.ScalarMappable(colors.Normalize(0, 1), "inferno")
    scale = figure.colorbar(colours, cax=figure.add_subplot(bar), ticks=[0, 0.5, 1])
    scale.outline.set_visible(False)
    scale.set_label(say["evidence"], color=QUIET, fontsize=8.5)
    figure.savefig(path, pil_kwargs={"compress_level": 2})
    return path
