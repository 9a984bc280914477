"""Pictures of films with true and predicted boxes, and curves of a run."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib import rc_context, style
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from cxr.findings import FindingVocabulary
from cxr.fonts import picture_font
from cxr.palette import GROUND, colour
from cxr.read.burnt_text import without_text
from cxr.read.film_text import without_film_text
from cxr.report.plots import DPI, png

_STRIP_WIDTH = 240  # px at least, of a picture with words above it
_WARNING = "#ffb74d"
_DARK = {**style.library["dark_background"], "figure.facecolor": GROUND, "axes.facecolor": GROUND}


@dataclass(frozen=True)
class Marks:
    """Boxes on one film: [N, 4] xyxy in the pixels of the picture they are drawn on, and their findings.

    ``scores`` are those of detections, 0..1; None for what a reader marked.
    """

    boxes: NDArray[np.float32]
    findings: Sequence[str]
    scores: NDArray[np.float32] | None = None

    def detections(self) -> Iterator[tuple[NDArray[np.float32], str, float]]:
        """Yield box, finding and score of each; none of marks without scores."""
        if self.scores is not None:
            yield from zip(self.boxes, self.findings, self.scores.tolist(), strict=True)


def marks_of(
    findings: FindingVocabulary,
    boxes: NDArray[np.float32],
    labels: Iterable[int],
    scale: NDArray[np.float32],
    scores: NDArray[np.float32] | None = None,
) -> Marks:
    """Return boxes [N, 4] of some labels as marks; ``scale`` (x, y) takes them to the pixels of a picture."""
    return Marks(boxes * np.tile(scale, 2), [findings.name(int(label)) for label in labels], scores)


def film_picture(
    image: NDArray[np.float32],
    truth: Marks,
    detections: Marks,
    findings: FindingVocabulary,
    width: int = 560,
    language: str = "en",
    path: Path | None = None,
) -> Image.Image:
    """Draw a film [h, w] of 0..1 with its true boxes (solid) and its detections (dashed, labelled with the score).

    Text burnt into the film is covered, as it may be a name (``cxr.read.burnt_text``). The picture is ``width`` pixels
    wide; boxes are in pixels of ``image``. Where ``image`` is smaller than the film, ``path`` is the film's file, in
    which its text is looked for, too.
    """
    scale = width / image.shape[1]
    levels = np.asarray(np.clip(image, 0, 1) * 255 + 0.5, np.uint8)
    grey = Image.fromarray(without_text(levels) if path is None else without_film_text(levels, path))
    picture = grey.resize((width, round(image.shape[0] * scale)), Image.Resampling.BILINEAR).convert("RGB")
    draw = ImageDraw.Draw(picture)
    for box, name in zip(truth.boxes, truth.findings, strict=True):
        draw.rectangle(_inside(box * scale, picture), outline=colour(findings, name), width=2)
    seen = [
        (_inside(box * scale, picture), colour(findings, name), f"{findings.label(name, language)} {score:.2f}")
        for box, name, score in detections.detections()
    ]
    for corners, ink, _ in seen:
        _dashed(draw, corners, ink)
    taken: list[tuple[float, float, float, float]] = []  # after the lines, so that none runs through a caption
    for corners, ink, text in seen:
        _caption(draw, corners[:2], text, ink, picture, taken)
    return picture


def write_across(picture: Image.Image, text: str) -> Image.Image:
    """Return ``picture`` with a dark strip at its top and ``text`` on it, on as many lines as its width asks for.

    The strip stands above the film, so that also a film of a few pixels shows the words.
    """
    size = max(12, picture.width // 40)
    font, width = picture_font(size), max(picture.width, _STRIP_WIDTH)
    lines = [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width - size:
            lines.append(word)
        else:
            lines[-1] = longer
    height = round(1.4 * size) * len(lines) + size // 2
    whole = Image.new("RGB", (width, picture.height + height), "black")
    whole.paste(picture, ((width - picture.width) // 2, height))
    draw = ImageDraw.Draw(whole)
    for number, line in enumerate(lines):
        draw.text((size // 2, size // 4 + round(1.4 * size) * number), line, fill=_WARNING, font=font)
    return whole


def epoch_curves(rows: Sequence[Mapping[str, float]], monitor: str) -> bytes:
    """Draw the losses and the validation AP50, AP and AR over the epochs of a run; return a PNG, dark as a page.

    A dotted line stands at the epoch that is kept: the first with the highest ``monitor``.
    """
    with rc_context(_DARK):
        figure = Figure(figsize=(9, 3), layout="constrained")
        losses, scores = figure.subplots(1, 2)
        for axes, keys, title in (
            (losses, ("train/loss", "val/loss"), "loss"),
            (scores, ("val/map_50", "val/map", "val/mar_100"), "validation AP50, AP, AR"),
        ):
            for key in keys:
                points = [(row["epoch"] + 1, row[key]) for row in rows if key in row]
                if points:
                    axes.plot(*zip(*points, strict=True), marker="o", markersize=3, label=key)
            axes.set(xlabel="epoch", title=title)
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.grid(alpha=0.3)
        best = max((row for row in rows if monitor in row), key=lambda row: row[monitor], default=None)
        if best is not None:
            scores.axvline(best["epoch"] + 1, color="grey", linestyle=":", label=f"kept: epoch {best['epoch'] + 1:.0f}")
            scores.set_ylim(0, 1)
        for axes in (losses, scores):
            if axes.lines:
                axes.legend(fontsize=8)
        return png(figure, dpi=DPI)


def figure_of_curves(rows: Sequence[Mapping[str, float]], plots: Mapping[str, Sequence[str]]) -> bytes:
    """Draw figures over the epochs of a run, one plot for each title with its columns; return a PNG, dark as a page."""
    with rc_context(_DARK):
        figure = Figure(figsize=(3.2 * len(plots), 3), layout="constrained")
        for axes, (title, keys) in zip(np.atleast_1d(figure.subplots(1, len(plots))), plots.items(), strict=True):
            for key in keys:
                if points := [(row["epoch"] + 1, row[key]) for row in rows if key in row]:
                    axes.plot(*zip(*points, strict=True), label=key)
            axes.set(xlabel="epoch", title=title)
            axes.grid(alpha=0.3)
            if axes.lines:
                axes.legend(fontsize=7)
        return png(figure, dpi=DPI)


def _inside(box: NDArray[np.float32], picture: Image.Image) -> tuple[float, float, float, float]:
    """A box clipped to the picture, so that an edge on the film's border is still drawn."""
    x0, y0, x1, y1 = (float(v) for v in box)
    right, bottom = picture.width - 1.0, picture.height - 1.0
    x0, y0 = min(max(x0, 0.0), right), min(max(y0, 0.0), bottom)
    return x0, y0, max(min(x1, right), x0), max(min(y1, bottom), y0)


def _dashed(draw: ImageDraw.ImageDraw, box: tuple[float, float, float, float], ink: str, dash: int = 8) -> None:
    x0, y0, x1, y1 = box
    for x in np.arange(x0, x1, 2 * dash):
        for y in (y0, y1):
            draw.line((x, y, min(x + dash, x1), y), fill=ink, width=2)
    for y in np.arange(y0, y1, 2 * dash):
        for x in (x0, x1):
            draw.line((x, y, x, min(y + dash, y1)), fill=ink, width=2)


def _caption(
    draw: ImageDraw.ImageDraw,
    corner: tuple[float, float],
    text: str,
    ink: str,
    picture: Image.Image,
    taken: list[tuple[float, float, float, float]],
) -> None:
    """Write ``text`` at a box's upper left corner, inside the picture and below the captions it would cover."""
    font = picture_font(12)
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
    w, h = right - left + 4, bottom - top + 4
    x = max(min(corner[0], picture.width - w), 0.0)
    y = corner[1] if corner[1] + h < picture.height else picture.height - h
    while y + 2 * h < picture.height and any(
        x < r0 and l0 < x + w and y < b0 and t0 < y + h for l0, t0, r0, b0 in taken
    ):
        y += h
    taken.append((x, y, x + w, y + h))
    draw.rectangle((x, y, x + w, y + h), fill="#000000")
    draw.text((x + 2 - left, y + 2 - top), text, fill=ink, font=font)
