"""The two kinds of file of the course layout beside its films: tables in whatever encoding, marks painted white."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

# Smaller marks are dirt: 3000 px on a film of the size most films have, in proportion on others.
_MIN_MARK_SHARE = 3000 / (2328 * 2344)
_MIN_MARK_LEVEL = 64  # of 255; JPEG noise on black stays well below


class CourseError(ValueError):
    """A csv of the course layout that does not fit itself or its files; the message lists all rows concerned."""


def read_csv(table: Path, columns: Sequence[str]) -> dict[int, dict[str, str]]:
    """Return the records of a csv in UTF-8 (with or without a byte order mark) or Big5 by their line in the file.

    Lines count from 1, the column names and blank lines included, as an editor shows them. All values are stripped
    strings.
    """
    if not table.is_file():
        raise FileNotFoundError(f"{table} is missing, expected a csv with the columns {', '.join(columns)}")
    reader = csv.DictReader(io.StringIO(_decode(table), newline=""), restval="", restkey="")
    reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
    missing = [column for column in columns if column not in reader.fieldnames]
    if missing:
        raise CourseError(
            f"{table} has no column {', '.join(missing)}; it has {', '.join(reader.fieldnames) or 'none'}, "
            f"expected {', '.join(columns)}"
        )
    lines = ((reader.line_num, record) for record in reader)
    records = {line: {column: record[column].strip() for column in columns} for line, record in lines}
    raise_problems(table, [f"row {line}: no ID" for line, record in records.items() if not record["ID"]])
    return records


def read_mark(path: Path) -> NDArray[np.float64]:
    """Return the white rectangles of a mark picture as [N, 4] xyxy in fractions of its width and height.

    A pixel belongs to a mark when it is brighter than half the brightest; connected pixels are one mark; what is
    smaller than 3000 px on a whole film is dirt. Raises ``CourseError`` when the file is no picture.
    """
    encoded = np.fromfile(path, np.uint8)  # not cv2.imread: it cannot open Chinese paths on Windows
    picture = cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION) if encoded.size else None
    if picture is None:
        raise CourseError(f"{path} is not a picture, expected JPEG or PNG")
    height, width = picture.shape
    white = (picture > max(_MIN_MARK_LEVEL, int(picture.max()) // 2)).astype(np.uint8)
    stats = cv2.connectedComponentsWithStats(white, connectivity=8)[2][1:]  # the first component is the black
    stats = stats[stats[:, cv2.CC_STAT_AREA] >= _MIN_MARK_SHARE * width * height]
    x, y, w, h = stats[:, : cv2.CC_STAT_AREA].T
    return np.stack([x / width, y / height, (x + w) / width, (y + h) / height], axis=1)


def raise_problems(table: Path, problems: Sequence[str], most: int = 30) -> None:
    """Raise one ``CourseError`` for all ``problems`` of a csv, if there are any."""
    if problems:
        more = [f"and {len(problems) - most} more"] if len(problems) > most else []
        raise CourseError("\n  ".join([f"{table}: {len(problems)} problems", *problems[:most], *more]))


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
