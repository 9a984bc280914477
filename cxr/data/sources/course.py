"""Reads the layout of the hospital's course: csv files with a row for each finding of a film, marks painted white.

    train.csv  test.csv  [test_truth.csv]
    train/<category>/image/*.dcm     train/<category>/mark/<file>.dcm.jpg
    test/image/*.dcm

Categories in the csv and folders on disk may be Chinese or English, independently of each other.
"""

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cxr.data.film import Film
from cxr.data.patients import without_placeholders
from cxr.data.sources.boxes import Box
from cxr.data.sources.course_files import read_csv, read_mark
from cxr.data.sources.course_films import ReadCopy, listed_size, make_film, read_headers, with_boxes
from cxr.data.sources.course_places import category_folders, find, locate
from cxr.data.sources.course_test_set import read_course_test, with_truth
from cxr.data.sources.root import Root
from cxr.data.sources.tables import TableError, raise_problems, shown
from cxr.findings import NORMAL, FindingVocabulary
from cxr.progress import track

_log = logging.getLogger(__name__)

_TRAIN_COLUMNS = ("ID", "category", "Width", "Height", "ImagePath", "MarkPath")


@dataclass
class _Row:
    """One record of train.csv: a film and, unless ``category`` is normal, one finding on it.

    ``image`` and ``mark`` are None where the listed path leads to no file, or to a file outside the data set.
    """

    number: int
    id: str
    category: str
    size: tuple[int, int]
    image: Path | None = None
    mark: Path | None = None
    problems: list[str] = field(default_factory=list)


def read_course(root: Path | str, findings: FindingVocabulary) -> list[Film]:
    """Return one film for each ID, with the boxes of all its rows, xyxy in original pixels.

    ``root`` is the folder of ``train.csv``, or one folder above or below it. The size of a film is that of its file;
    ``Width`` and ``Height`` are not used. If ``test_truth.csv`` is beside ``test.csv``, the films of ``test.csv`` are
    returned too, with ``split="test"``. A film whose header cannot be read stays in the list with the size of the csv:
    reading its pixels later raises the error.

    Raises ``FileNotFoundError`` without ``train.csv``, ``UnknownLabelError`` for labels outside ``findings``, and
    ``TableError`` for missing columns, files and marks, for marks that do not fit their film, for boxes outside of
    their test film, and for files outside the folder of ``train.csv``.
    """
    base = locate(Path(root))
    films = _read_train(base, findings)
    if (base / "test.csv").is_file() and (base / "test_truth.csv").is_file():
        truth = Root(base).check(base / "test_truth.csv")
        films += with_truth(read_course_test(base), truth, findings)
    return without_placeholders(films)


def _read_train(base: Path, findings: FindingVocabulary) -> list[Film]:
    table = base / "train.csv"
    by_id: dict[str, list[_Row]] = defaultdict(list)
    for row in (rows := _train_rows(Root(base), table, findings)):
        by_id[row.id].append(row)
    copies = {film_id: list(dict.fromkeys(r.image for r in same if r.image)) for film_id, same in by_id.items()}
    copies = {film_id: paths for film_id, paths in copies.items() if paths}
    headers = dict(zip(copies, read_headers(copies.values()), strict=True))
    marks, bad_marks = _read_marks(rows, headers)
    problems = [problem for row in rows for problem in row.problems]
    raise_problems(table, problems + _contradictions(by_id.values()) + bad_marks)
    films = [
        with_boxes(make_film(film_id, copies[film_id], headers[film_id], same[0].size), _boxes(same, marks))
        for film_id, same in by_id.items()
    ]
    _note_sizes(table, zip(films, (same[0] for same in by_id.values()), strict=True))
    return films


def _train_rows(place: Root, table: Path, findings: FindingVocabulary) -> list[_Row]:
    records = read_csv(place.check(table), _TRAIN_COLUMNS)
    if not records:
        raise TableError(f"{table} has column names and no row, expected a row a film and finding")
    categories = findings.resolve([r["category"] for r in records.values()], str(table), rows=list(records))
    train = table.parent / "train"
    folders = category_folders(train, findings)
    rows = []
    for (number, record), category in zip(records.items(), categories, strict=True):
        row = _Row(number, record["ID"], category, listed_size(record))
        row.image = _look_up(row, "ImagePath", record["ImagePath"], place, train, folders[category])
        if category != NORMAL:  # a normal film needs no mark, even if its row lists one
            row.mark = _look_up(row, "MarkPath", record["MarkPath"], place, train, folders[category])
        rows.append(row)
    return rows


def _look_up(row: _Row, column: str, listed: str, place: Root, train: Path, folders: Iterable[Path]) -> Path | None:
    """Return the file that a row lists. If it is missing or must not be read, return None and note the problem."""
    path = find(train, listed, folders)
    # The tables of the course list a mark in every row, so the message gives the category, which makes a mark necessary
    which = f"row {row.number}: {f'{row.category}, but ' if column == 'MarkPath' else ''}{column}"
    if path is None:
        row.problems.append(f"{which} leads to no file: {shown(listed)}")
    elif refusal := place.refusal(path):
        row.problems.append(f"{which} {shown(listed)} {refusal}")
        path = None
    return path


def _contradictions(films: Iterable[Sequence[_Row]]) -> list[str]:
    """Return a problem for each ID that is normal in one row and has a finding in another, since either may be true."""
    return [
        f"rows {', '.join(str(row.number) for row in rows)}: one ID, both normal and {abnormal[0].category}"
        for rows in films
        if (abnormal := [row for row in rows if row.category != NORMAL]) and len(abnormal) < len(rows)
    ]


def _read_marks(
    rows: Sequence[_Row], headers: Mapping[str, ReadCopy]
) -> tuple[dict[Path, NDArray[np.float64]], list[str]]:
    """Return the boxes of every existing mark, as fractions, and the problems of the others."""
    marked = [(row, row.mark) for row in rows if row.mark]

    def boxes(item: tuple[_Row, Path]) -> NDArray[np.float64] | str:
        row, mark = item
        _, header = headers.get(row.id, (mark, None))
        try:
            rectangles = read_mark(mark, (header.columns, header.rows) if header else None)
        except TableError as error:
            return f"row {row.number}: {error}"
        return rectangles if len(rectangles) else f"row {row.number}: {mark} shows no white rectangle"

    with ThreadPoolExecutor() as pool:  # threads are enough, because OpenCV decodes without Python's lock
        read = list(track(pool.map(boxes, marked), "Reading marks", total=len(marked), end=False))
    marks = {
        mark: rectangles for (_, mark), rectangles in zip(marked, read, strict=True) if not isinstance(rectangles, str)
    }
    return marks, [problem for problem in read if isinstance(problem, str)]


def _boxes(rows: Sequence[_Row], marks: Mapping[Path, NDArray[np.float64]]) -> list[tuple[str, Box]]:
    """Return (finding, box) of the rows of one film. A row that is there twice counts once."""
    return list(
        dict.fromkeys(
            (row.category, (x0, y0, x1, y1)) for row in rows if row.mark for x0, y0, x1, y1 in marks[row.mark].tolist()
        )
    )


def _note_sizes(table: Path, films: Iterable[tuple[Film, _Row]]) -> None:
    other = [row.number for film, row in films if (film.width, film.height) != row.size]
    if other:
        _log.warning(
            "%s: Width and Height of %d films (first: row %d) are not those of the file; the size of the file is used.",
            table, len(other), other[0],
        )  # fmt: skip
