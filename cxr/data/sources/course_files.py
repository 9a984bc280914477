"""The two kinds of file of the course layout beside its films: tables in whatever encoding, marks painted white."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cxr.data.sources import tables
from cxr.data.sources.tables import TableError, parse_rows, records_of

# Smaller marks are dirt: 3000 px on a film of the size most films have, in proportion on others.
_MIN_MARK_SHARE = 3000 / (2328 * 2344)
_MAX_MARK_PIXELS = 80_000_000  # several times those of the largest radiographs
_SHAPE_SHARE = 0.01
_MIN_MARK_LEVEL = 64  # of 255; JPEG noise on black stays well below


class CourseError(TableError):
    """A csv of the course layout that does not fit itself or its files; the message lists all rows concerned."""


def read_csv(table: Path, columns: Sequence[str]) -> dict[int, dict[str, str]]:
    """Return the records of a csv in UTF-8 (with or without a byte order mark) or Big5 by their line in the file.

    Lines count from 1, the column names and blank lines included, as an editor shows them. All values are stripped
    strings. Raises ``FileNotFoundError`` and ``CourseError``.
    """
    if not table.is_file():
        raise FileNotFoundError(f"{table} is missing, expected a csv with the columns {', '.join(columns)}")
    records = records_of(table, parse_rows(table, _decode(table), CourseError), columns, error=CourseError)
    raise_problems(table, [f"row {line}: no ID" for line, record in records.items() if not record["ID"]])
    return records


def read_mark(path: Path, film: tuple[int, int] | None = None) -> NDArray[np.float64]:
    """Return the white rectangles of a mark picture as [N, 4] xyxy in fractions of its width and height.

    A pixel belongs to a mark when it is brighter than half the brightest; connected pixels are one mark; what is
    smaller than 3000 px on a whole film is dirt. ``film`` is the width and height of the film it was painted for; a
    mark may be smaller than that. Raises ``CourseError`` when the file is no picture, is of another shape than the
    film, or has no black on any of its four sides.
    """
    picture = _picture(path)
    height, width = picture.shape
    if film is not None and not _same_shape((width, height), film):
        raise CourseError(
            f"{path} is {width} × {height} pixels, expected the shape of its film, which is {film[0]} × {film[1]}"
        )
    white = (picture > max(_MIN_MARK_LEVEL, int(picture.max()) // 2)).astype(np.uint8)
    stats = cv2.connectedComponentsWithStats(white, connectivity=8)[2][1:]  # the first component is the black
    stats = stats[stats[:, cv2.CC_STAT_AREA] >= _MIN_MARK_SHARE * width * height]
    x, y, w, h = stats[:, : cv2.CC_STAT_AREA].T
    # No finding reaches all four borders of a film: two lungs, the largest there is, leave the shoulders or the
    # abdomen. A picture white all over, or one with black and white exchanged, does.
    if ((w == width) & (h == height)).any():
        raise CourseError(f"{path} is white up to all four borders, expected a black picture with a white rectangle")
    return np.stack([x / width, y / height, (x + w) / width, (y + h) / height], axis=1)


def raise_problems(table: Path, problems: Sequence[str]) -> None:
    """Raise one ``CourseError`` for all ``problems`` of a csv, if there are any."""
    tables.raise_problems(table, problems, CourseError)


def _picture(path: Path) -> NDArray[np.uint8]:
    """Return the pixels [H, W] of a mark. Raises ``CourseError``."""
    try:
        with Image.open(path) as image:  # the header alone: a file of some KB may decode to gigabytes
            if image.width * image.height > _MAX_MARK_PIXELS:
                raise CourseError(f"{path} has {image.width} × {image.height} pixels, more than any film")
        # not cv2.imread: it cannot open Chinese paths on Windows
        encoded = np.fromfile(path, np.uint8)
        picture = cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION)
    except CourseError:
        raise
    except Exception as error:  # of Pillow and OpenCV; ultralytics, where it is imported, makes another of Pillow's
        raise CourseError(f"{path} is not a picture that can be read, expected JPEG or PNG") from error
    if picture is None:
        raise CourseError(f"{path} is not a picture that can be read, expected JPEG or PNG")
    return np.asarray(picture, np.uint8)


def _same_shape(mark: tuple[int, int], film: tuple[int, int]) -> bool:
    """Whether a mark can be the film's, made smaller: one ratio of width to height.

    Allowed is what rounding a smaller mark to whole pixels changes, one pixel a side, or one hundredth of the ratio:
    that moves no border of a box by more than a hundredth of the film, while marks of other films differ by more.
    """
    difference = abs(mark[0] * film[1] - mark[1] * film[0])
    return difference <= max(film[0] + film[1], _SHAPE_SHARE * mark[1] * film[0])


def _decode(table: Path) -> str:
    # UTF-8 first: text in Big5 is practically never valid UTF-8, while much UTF-8 would pass for Big5.
    # cp950 is Big5 as Windows and Excel write it.
    encoded = table.read_bytes()
    for encoding in ("utf-8-sig", "cp950"):
        try:
            return encoded.decode(encoding)
        except UnicodeDecodeError as error:
            position = error.start
    line = encoded[:position].count(b"\n") + 1
    raise CourseError(f"{table} is neither UTF-8 nor Big5: byte 0x{encoded[position]:02x} in line {line}")
