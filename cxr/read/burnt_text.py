"""Text that is burnt into the pixels of a film, such as a name on an old film: found, and covered in pictures.

A header can be left out of a picture, but letters that a machine or a scanner wrote into the pixels go wherever the
picture goes. They are found by their looks, without reading them: strokes of one grey value near the brightest (or,
black on a bright ground, the darkest) of the film, in glyphs of one height side by side. So Latin and Chinese letters
are found alike. What a glyph says is asked in one case alone: side markers stay, an L or R that stands alone or with at
most two letters beside it.

Nothing is changed but pictures for people. The detector sees the film as it is.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components  # type: ignore[import-untyped]

Picture = NDArray[np.uint8]
Boxes = NDArray[np.int64]
_Glyph = tuple[int, int, int, int]

_LEAST, _MOST = 5, 30  # px of the height of a glyph; larger ones are found in the picture at half its size
_LEAST_SHRUNK = 9  # px there: smaller ones were seen before
_WIDEST_STROKE = 9  # px
_LEAST_CONTRAST = 96  # of 255, between a stroke and what is beside it
_LEAST_SIDE = 100  # px of a picture in which text is still looked for
_MOST_STROKES = 1500  # of one picture: the largest; more are grains of noise
_BRIGHT = 110  # of 255: the ground of black letters
_SURE_CONTRAST = 130  # of 255, of the letters of a short word
_FAINT_CONTRAST = 24  # of 255, of the white letters of a longer one
_MARKER_LETTERS = 3  # with the L or R itself


def without_text(picture: NDArray[Any]) -> NDArray[Any]:
    """Return a copy of a picture [h, w], uint8 or float in 0..1 and air dark, in which lines of text are black bars.

    A bar is black and not filled from its surroundings, so that everybody sees that something was covered there.
    """
    return cover(picture, text_boxes(picture))


def cover(picture: NDArray[Any], boxes: Boxes) -> NDArray[Any]:
    """Return a copy of a picture [h, w] that is black within ``boxes`` [N, 4] xyxy."""
    covered = picture.copy()
    for x0, y0, x1, y1 in boxes.tolist():
        covered[y0:y1, x0:x1] = 0
    return covered


def text_boxes(picture: NDArray[Any]) -> Boxes:
    """Return the lines of text in a picture [h, w], as boxes [N, 4] xyxy in its pixels; side markers are no text.

    The picture is uint8 or float in 0..1, and air is dark in it.
    """
    texts, markers = [_NOTHING], [_NOTHING]
    grey = picture if picture.dtype == np.uint8 else np.clip(picture, 0, 1) * 255 + 0.5
    level: Picture = np.ascontiguousarray(grey, np.uint8)
    scale = 1
    while min(level.shape) >= _LEAST_SIDE:
        for text, marker in _lines_of(level, _LEAST if scale == 1 else _LEAST_SHRUNK):
            texts.append(scale * text)
            markers.append(scale * marker)
        level = np.asarray(cv2.resize(level, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), np.uint8)
        scale *= 2
    boxes, stay = np.concatenate(texts), np.concatenate(markers)
    boxes = boxes[~(_share_within(boxes, stay) > 0.6).any(1)]  # a marker may look like text where it is smaller
    height, width = picture.shape
    return np.clip(boxes, 0, [width, height, width, height])


def _share_within(boxes: Boxes, others: Boxes) -> NDArray[np.float64]:
    """Return the share of each box [N, 4] that lies within each other one [M, 4], as [N, M]."""
    low, high = np.maximum(boxes[:, None, :2], others[:, :2]), np.minimum(boxes[:, None, 2:], others[:, 2:])
    area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    return np.asarray(np.prod(np.maximum(high - low, 0), axis=2) / np.maximum(area, 1)[:, None], np.float64)


def _lines_of(picture: Picture, least: int) -> Iterator[tuple[Boxes, Boxes]]:
    """Yield lines of text and side markers of white letters, of letters little darker than their ground, of black ones.

    Text that runs up or down is looked for too, of five letters and more.
    """
    strokes = _strokes_of(picture, least)
    yield _lines(strokes)
    yield _lines(strokes.sideways, letters=5)[0][:, [1, 0, 3, 2]], _NOTHING
    yield _lines(_strokes_of(picture, least, faint=True), letters=4)
    yield _on_bright_ground(_lines(_strokes_of(255 - picture, least), letters=4)[0], picture), _NOTHING


@dataclass(frozen=True, eq=False)
class _Strokes:
    """Connected strokes of one picture.

    Args:
        boxes: [N, 4] xyxy.
        ink: [N] the brightest value of each.
        contrast: [N] how much brighter than what is beside it.
        mask: [h, w] where they are, 0 or 1.
    """

    boxes: Boxes
    ink: NDArray[np.int64]
    contrast: NDArray[np.int64]
    mask: Picture

    def only(self, kept: NDArray[Any]) -> "_Strokes":
        return _Strokes(self.boxes[kept], self.ink[kept], self.contrast[kept], self.mask)

    @property
    def sideways(self) -> "_Strokes":
        """The same strokes with rows and columns exchanged, for text that runs up or down."""
        return _Strokes(self.boxes[:, [1, 0, 3, 2]], self.ink, self.contrast, self.mask.T)


_NOTHING = np.zeros((0, 4), np.int64)


def _on_bright_ground(lines: Boxes, picture: Picture) -> Boxes:
    """Return the lines of black letters with a bright margin; others are what white letters enclose."""
    kept = []
    for line in lines:
        x0, y0, x1, y1 = line.clip(0)
        block = picture[y0:y1, x0:x1]
        border = np.concatenate([block[0], block[-1], block[:, 0], block[:, -1]])
        kept.append(bool(np.median(border) >= _BRIGHT))
    return np.asarray(lines[np.array(kept, bool)], np.int64)


def _strokes_of(picture: Picture, least: int, faint: bool = False) -> _Strokes:
    """Return what may be letters or parts of them: thin, much brighter than what is beside them, near the brightest.

    Where a film is bright itself, letters are hardly brighter. Such ``faint`` ones are of the brightest value alone.
    """
    hat = cv2.morphologyEx(picture, cv2.MORPH_TOPHAT, np.ones((_WIDEST_STROKE, _WIDEST_STROKE), np.uint8))
    contrasts = _FAINT_CONTRAST if faint else _LEAST_CONTRAST
    mask = np.asarray(hat >= contrasts // 2, np.uint8)  # the blurred border of a letter belongs to it
    if faint:
        mask &= np.asarray(picture >= int(picture.max()) - 25, np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    ink, contrast = np.zeros((2, count), np.int64)
    inside = mask > 0
    for values, of in ((ink, picture), (contrast, hat)):
        np.maximum.at(values, np.asarray(labels[inside], np.int64), np.asarray(of[inside], np.int64))
    left, top, width, height, area = stats.T.astype(np.int64)
    sides = np.minimum(width, height), np.maximum(width, height)
    fits = (sides[1] >= least) & (sides[0] <= _MOST) & (sides[1] <= 12 * _MOST)
    fits &= contrast >= contrasts
    fits &= ink >= (0.85 - 0.3 * (sides[1] < 12)) * picture.max()  # thin strokes are grey where a picture was shrunk
    fits[0] = False  # what is no stroke
    boxes = np.stack([left, top, left + width, top + height], 1)
    order = np.flatnonzero(fits)[np.argsort(-area[fits], kind="stable")][:_MOST_STROKES]
    return _Strokes(boxes[order], ink[order], contrast[order], mask)


def _lines(strokes: _Strokes, letters: int = 2) -> tuple[Boxes, Boxes]:
    """Return the lines of so many letters and more, and the side markers, with a margin around them."""
    height = strokes.boxes[:, 3] - strokes.boxes[:, 1]
    width = strokes.boxes[:, 2] - strokes.boxes[:, 0]
    fitting = strokes.only((height >= _LEAST) & (height <= _MOST) & (width <= 12 * height))
    lines: dict[str, list[_Glyph]] = {"text": [], "marker": [], "": []}
    for members in _chains(fitting):
        line = _without_marker(fitting.only(members))
        x0, y0, x1, y1 = (int(side) for side in (*line.boxes[:, :2].min(0), *line.boxes[:, 2:].max(0)))
        edge = max(2, round(0.25 * (y1 - y0)))
        lines[_kind(line, letters)].append((x0 - 2 * edge, y0 - edge, x1 + 2 * edge, y1 + edge))
    text, markers = (np.array(lines[kind], np.int64).reshape(-1, 4) for kind in ("text", "marker"))
    return text, markers


def _chains(strokes: _Strokes) -> list[NDArray[np.int64]]:
    """Return the indices of strokes that stand in one line, side by side and of like height, for each line."""
    if not len(strokes.boxes):
        return []
    x0, y0, x1, y1 = strokes.boxes.T[:, :, None]
    height = y1 - y0
    shared = np.minimum(y1, y1.T) - np.maximum(y0, y0.T)
    gap = np.maximum(x0, x0.T) - np.minimum(x1, x1.T)
    taller, lower = np.maximum(height, height.T), np.minimum(height, height.T)
    beside = (shared >= 0.6 * lower) & (gap <= 0.9 * taller) & (taller <= 1.9 * lower)
    beside &= np.abs(strokes.ink[:, None] - strokes.ink[None]) <= 40
    count, chain = connected_components(beside, directed=False)
    return [np.flatnonzero(chain == number) for number in range(count)]


def _without_marker(line: _Strokes) -> _Strokes:
    """Return a line without a letter at one of its ends that is much taller than all others, as a side marker is."""
    height = line.boxes[:, 3] - line.boxes[:, 1]
    tall = height >= 1.5 * np.median(height)
    if tall.sum() != 1 or len(height) < _MARKER_LETTERS + 1 or np.ptp(height[~tall]) > 0.5 * np.median(height):
        return line
    left = line.boxes[:, 0]
    at_end = left[tall][0] in (left.min(), left.max())
    return line.only(~tall) if at_end else line


def _kind(line: _Strokes, least: int) -> str:
    """Return whether strokes that stand in one line are "text" of ``least`` letters or more, a "marker", or "" neither.

    What tells letters from a rib or a wire: a row of pixels through a line of text crosses a stroke in each letter.
    """
    glyphs = _glyphs(line.boxes)
    (x0, y0), (x1, y1) = line.boxes[:, :2].min(0), line.boxes[:, 2:].max(0)
    height = int(y1 - y0)
    letters = sum(max(1, round((right - left) / (0.8 * height))) for left, _, right, _ in glyphs)  # they may touch
    tall = np.array([bottom - top for _, top, _, bottom in glyphs])
    like = np.mean((tall >= 0.55 * height) | (np.abs(tall - np.median(tall)) <= 0.25 * np.median(tall)))
    crossed = _crossings(line.mask[y0 + height // 5 : y1 - height // 5, x0:x1])
    if letters < least or like < 0.6 or np.ptp(line.ink) > 60 or crossed < 0.8 * letters:
        return ""
    if letters > _MARKER_LETTERS:
        return "text" if len(glyphs) > 1 or crossed >= letters else ""
    if not _is_word(line, glyphs, height):
        return ""
    return "marker" if _is_marker(line.mask, glyphs) else "text"


def _crossings(mask: Picture) -> float:
    """Return how many strokes a row of a mask [h, w] crosses, in the mean over the half of the rows with most."""
    padded = np.pad(mask, ((0, 0), (1, 0)))
    strokes = np.sort((np.diff(padded.astype(np.int8), axis=1) == 1).sum(1))
    return float(strokes[len(strokes) // 2 :].mean())


def _is_word(line: _Strokes, glyphs: Sequence[_Glyph], height: int) -> bool:
    """Return whether two or three glyphs are a word: one height, one bright grey value, close together.

    What is no wider than high is one letter that is broken in two.
    """
    heights = [y1 - y0 for _, y0, _, y1 in glyphs]
    alike = min(heights) >= 0.8 * max(heights) and np.ptp(line.ink) <= 25 and line.contrast.min() >= _SURE_CONTRAST
    wide = glyphs[-1][2] - glyphs[0][0] > 0.95 * height
    return len(glyphs) > 1 and wide and bool(alike) and max(_gaps(glyphs)) <= 0.6 * height


def _gaps(glyphs: Sequence[_Glyph]) -> list[int]:
    return [after[0] - before[2] for before, after in pairwise(glyphs)]


def _glyphs(boxes: Boxes) -> list[_Glyph]:
    """Return the boxes of glyphs from left to right: strokes one above the other are one glyph."""
    glyphs: list[list[int]] = []
    for x0, y0, x1, y1 in boxes[np.argsort(boxes[:, 0], kind="stable")].tolist():
        if glyphs and min(x1, glyphs[-1][2]) - x0 > 0.3 * min(x1 - x0, glyphs[-1][2] - glyphs[-1][0]):
            last = glyphs[-1]
            glyphs[-1] = [last[0], min(last[1], y0), max(last[2], x1), max(last[3], y1)]
        else:
            glyphs.append([x0, y0, x1, y1])
    return [(x0, y0, x1, y1) for x0, y0, x1, y1 in glyphs]


def _is_marker(mask: Picture, glyphs: Sequence[_Glyph]) -> bool:
    """Return whether one of a few glyphs is an L or an R; three letters close together are a word, not a marker."""
    if len(glyphs) > _MARKER_LETTERS:
        return False
    height = max(y1 - y0 for _, y0, _, y1 in glyphs)
    if len(glyphs) == _MARKER_LETTERS and max(_gaps(glyphs)) < 0.25 * height:
        return False
    shapes = [_shape(mask[y0:y1, x0:x1]) for x0, y0, x1, y1 in glyphs]
    return any(_alike(shape, letter) for shape in shapes for letter in _letters())


def _shape(mask: Picture) -> NDArray[np.float32]:
    shape = cv2.resize(mask.astype(np.float32), (12, 16), interpolation=cv2.INTER_AREA)
    return np.asarray(shape - shape.mean(), np.float32)


def _alike(one: NDArray[np.float32], other: NDArray[np.float32]) -> bool:
    norms = float(np.linalg.norm(one) * np.linalg.norm(other))
    return norms > 0 and float((one * other).sum()) / norms >= _SAME_LETTER


_SAME_LETTER = 0.75  # correlation of two shapes


@cache
def _letters() -> list[NDArray[np.float32]]:
    """Return the shapes of L and R, thin and bold, in three fonts."""
    shapes = []
    for letter in "LR":
        for font in (cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_COMPLEX):
            for thick in (2, 4, 7):
                plate = np.zeros((80, 80), np.uint8)
                cv2.putText(plate, letter, (15, 60), font, 1.6, 1, thick)
                rows, columns = np.flatnonzero(plate.any(1)), np.flatnonzero(plate.any(0))
                shapes.append(_shape(plate[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]))
    return shapes
