"""The hospital's course layout: csv files, one row a (film, finding), marks painted as white rectangles.

    train.csv  test.csv  [test_truth.csv]
    train/<category>/image/*.dcm     train/<category>/mark/<file>.dcm.jpg
    test/image/*.dcm

Categories and folders may be Chinese or English, each for itself; see ``docs`` for the format in full.
"""

import csv
import io
import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from cxr.data.film import Film
from cxr.findings import NORMAL, FindingVocabulary, UnknownLabelError
from cxr.read.dicom import Header, ReadError, pseudonym, read_header

_log = logging.getLogger(__name__)

_TRAIN_COLUMNS = ("ID", "category", "Width", "Height", "ImagePath", "MarkPath")
_TEST_COLUMNS = ("ID", "Width", "Height", "ImagePath")
_TRUTH_COLUMNS = ("ID", "category", "xmin", "xmax", "ymin", "ymax")
_HEADER_LINES = 1
_FIRST_ROW = _HEADER_LINES + 1  # the file row of the first record, as an editor counts it
# A mark smaller than this is dirt on the mark picture. 3000 px is meant for a whole film, of the size most films have.
_MIN_MARK_AREA = 3000 / (2328 * 2344)
_BLACK = 64  # JPEG noise around a mark stays below

Row = Mapping[str, str]


class CourseError(ValueError):
    """A data set in the course layout that does not hold together; lists every problem of a csv with its rows."""


def read_course(root: Path | str, findings: FindingVocabulary) -> list[Film]:
    """Read a data set in the course layout; one film for each ID, with the boxes of all its rows.

    ``root`` holds ``train.csv``, or is the one folder above or below that does. Boxes are xyxy in original pixels of
    the film as the file has it, whatever ``Width`` and ``Height`` say. Films of ``test.csv`` come along with
    ``split="test"`` when ``test_truth.csv`` lies beside it. A file whose header cannot be read keeps its place in the
    list with the size the csv gives, for the reader of the pixels to report.

    Raises ``FileNotFoundError`` without ``train.csv``, ``UnknownLabelError`` for labels outside ``findings`` and
    ``CourseError`` for all other problems; each names all the rows concerned.
    """
    base = _locate(Path(root))
    films = _read_train(base, findings)
    if (base / "test.csv").is_file() and (base / "test_truth.csv").is_file():
        films += _with_truth(read_course_test(base), base / "test_truth.csv", findings)
    return _without_placeholder_patients(films)


def read_course_test(root: Path | str) -> list[Film]:
    """Read the films of ``test.csv`` in its order, without boxes, ``split="test"``. Raises as ``read_course``."""
    table = _locate(Path(root)) / "test.csv"
    rows = _read_csv(table, _TEST_COLUMNS)
    paths = [_first_file(_candidates(table.parent, "test", row["ImagePath"])) for row in rows]
    problems = [f"row {n}: no file {row['ImagePath']!r}" for n, row, path in _numbered(rows, paths) if path is None]
    ids = [row["ID"] for row in rows]
    problems += [f"row {n}: the ID of row {ids.index(i) + _FIRST_ROW} again" for n, i in _numbered(ids) if i in ids[: n - _FIRST_ROW]]
    _raise_if(problems, table)
    found = [path for path in paths if path is not None]
    with ThreadPoolExecutor() as pool:
        headers = list(pool.map(_header, found))
    return [
        _film(row, path, header, split="test") for row, path, header in zip(rows, found, headers, strict=True)
    ]
