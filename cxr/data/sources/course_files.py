"""Reads the files of the course layout other than films: tables in UTF-8 or Big5, and marks painted white."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cxr.data.sources.tables import TableError, parse_rows, raise_problems, records_of

# Smaller spots are dirt: below 3000 px on a film of the most common size, and in proportion on others.
_MIN_MARK_SHARE = 3000 / (2328 * 2344)
_MAX_MARK_PIXELS = 80_000_000  # several times as many as the largest radiographs have
_SHAPE_SHARE = 0.01
_MIN_MARK_LEVEL = 64  # of 255; JPEG noise on black stays well below


def read_csv(table: Path, columns: Sequence[str]) -> dict[int, dict[str, str]]:
    """Return the records of a csv in UTF-8 (with or without a byte order mark) or Big5, by their line in the file.

    Lines are counted as in an editor: from 1, with the column names and blank lines. All values are stripped strings.
    Raises ``FileNotFoundError`` and ``TableError``.
    """
    if not table.is_file():
        raise FileNotFoundError(f"{table} is missing, expected a csv with the columns {', '.join(columns)}")
    records = records_of(table, parse_rows(table, _decode(table)), columns)
    raise_problems(table, [f"row {line}: no ID" for line, record in records.items() if not record["ID"]])
    return records


def read_mark(path: Path, film: tuple[int, int] | None = None) -> NDArray[np.float64]:
    """Return the white rectangles of a mark picture as [N, 4] xyxy in fractions of its width and height.

    A pixel belongs to a mark if it is brighter than half the brightest pixel; connected pixels are one mark. An area
    below 3000 px, in proportion to the size of the film, is dirt. ``film`` is width and height of the film of this mark
    picture, which may be smaller than the film. Raises ``TableError`` if the file is no picture, has other proportions
    than the film, or shows a mark that reaches all four borders.
    """
    picture = _picture(path)
    height, width = picture.shape
    if film is not None and not _same_shape((width, height), film):
        raise TableError(
            f"{path} is {width} × {height} pixels, expected the shape of its film, which is {film[0]} × {film[1]}"
        )
    white = (picture > max(_MIN_MARK_LEVEL, int(picture.max()) // 2)).astype(np.uint8)
    # The first component is the black background
    stats = cv2.connectedComponentsWithStats(white, connectivity=8)[2][1:]
    stats = stats[stats[:, cv2.CC_STAT_AREA] >= _MIN_MARK_SHARE * width * height]
    x, y, w, h = stats[:, : cv2.CC_STAT_AREA].T
    # No finding reaches all four borders of a film: even both lungs together leave out shoulders or abdomen. A mark
    # that does so comes from a picture that is all white, or has black and white exchanged.
    if ((w == width) & (h == height)).any():
        raise TableError(f"{path} is white up to all four borders, expected a black picture with a white rectangle")
    return np.stack([x / width, y / height, (x + w) / width, (y + h) / height], axis=1)


def _picture(path: Path) -> NDArray[np.uint8]:
    """Return the pixels [H, W] of a mark. Raises ``TableError``."""
    try:
        with Image.open(path) as image:  # only the header, because a file of a few KB may decode to gigabytes
            if image.width * image.height > _MAX_MARK_PIXELS:
                raise TableError(f"{path} has {image.width} × {image.height} pixels, more than any film")
        # cv2.imread cannot open Chinese paths on Windows
        encoded = np.fromfile(path, np.uint8)
        picture = cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION)
    except TableError:
        raise
    except Exception as error:  # of Pillow or OpenCV; if ultralytics is imported, it replaces Pillow's exceptions
        raise TableError(f"{path} is not a picture that can be read, expected JPEG or PNG") from error
    if picture is None:
        raise TableError(f"{path} is not a picture that can be read, expected JPEG or PNG")
    return np.asarray(picture, np.uint8)


def _same_shape(mark: tuple[int, int], film: tuple[int, int]) -> bool:
    """Return whether a mark may be a smaller picture of the film: width and height have the same ratio.

    Rounding to whole pixels may change each side by a pixel, and the ratio may differ by one hundredth: that moves no
    side of a box by more than a hundredth of the film. Marks of other films differ by more.
    """
    difference = abs(mark[0] * film[1] - mark[1] * film[0])
    return difference <= max(film[0] + film[1], _SHAPE_SHARE * mark[1] * film[0])


def _decode(table: Path) -> str:
    # UTF-8 is tried first: Big5 text is almost never valid UTF-8, but much UTF-8 text is valid Big5.
    # cp950 is the variant of Big5 that Windows and Excel write.
    encoded = table.read_bytes()
    for encoding in ("utf-8-sig", "cp950"):
        try:
            return encoded.decode(encoding)
        except UnicodeDecodeError as error:
            position = error.start
    line = encoded[:position].count(b"\n") + 1
    raise TableError(f"{table} is neither UTF-8 nor Big5: byte 0x{encoded[position]:02x} in line {line}")
