"""The hospital's course layout: csv files with one row a (film, finding), marks painted as white rectangles.

    train.csv  test.csv  [test_truth.csv]
    train/<category>/image/*.dcm     train/<category>/mark/<file>.dcm.jpg
    test/image/*.dcm

Categories in the csv and folders on disk may be Chinese or English, independently of each other.
"""

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cxr.data.course_files import CourseError, raise_problems, read_csv, read_mark
from cxr.data.film import Film
from cxr.data.patients import without_placeholders
from cxr.findings import NORMAL, FindingVocabulary, UnknownLabelError
from cxr.progress import track
from cxr.read.dicom import Header, ReadError, pseudonym, read_header

_log = logging.getLogger(__name__)

_TRAIN_COLUMNS = ("ID", "category", "Width", "Height", "ImagePath", "MarkPath")
_TEST_COLUMNS = ("ID", "Width", "Height", "ImagePath")
_TRUTH_COLUMNS = ("ID", "category", "xmin", "xmax", "ymin", "ymax")


@dataclass(frozen=True)
class _Row:
    """One record of train.csv: a film and, unless ``category`` is normal, one finding on it."""

    number: int
    id: str
    category: str
    size: tuple[int, int]
    image: Path | None
    mark: Path | None


def read_course(root: Path | str, findings: FindingVocabulary) -> list[Film]:
    """Return one film for each ID, with the boxes of all its rows, xyxy in original pixels.

    ``root`` holds ``train.csv``, or is one folder above or below. The size of a film is that of its file, whatever
    ``Width`` and ``Height`` say. Films of ``test.csv`` come along, ``split="test"``, when ``test_truth.csv`` lies
    beside it. A file with an unreadable header stays in the list with the size the csv gives: whoever reads its
    pixels reports it.

    Raises ``FileNotFoundError`` without ``train.csv``, ``UnknownLabelError`` for labels outside ``findings`` and
    ``CourseError`` for missing columns, files and marks.
    """
    base = _locate(Path(root))
    films = _read_train(base, findings)
    if (base / "test.csv").is_file() and (base / "test_truth.csv").is_file():
        films += _with_truth(read_course_test(base), base / "test_truth.csv", findings)
    return without_placeholders(films)


def read_course_test(root: Path | str) -> list[Film]:
    """Return the films of ``test.csv`` in its order, without boxes, ``split="test"``. Raises as ``read_course``."""
    base = _locate(Path(root))
    table = base / "test.csv"
    records = read_csv(table, _TEST_COLUMNS)
    paths = [_find(base / "test", record["ImagePath"], ()) for record in records.values()]
    first: dict[str, int] = {}
    problems = []
    for (number, record), path in zip(records.items(), paths, strict=True):
        if path is None:
            problems.append(f"row {number}: ImagePath {record['ImagePath']!r} leads to no file")
        if first.setdefault(record["ID"], number) != number:
            problems.append(f"row {number}: the same ID as row {first[record['ID']]}, expected one row a film")
    raise_problems(table, problems)
    found = [path for path in paths if path is not None]
    return [
        _film(record["ID"], [path], read, _size(record), split="test")
        for record, path, read in zip(records.values(), found, _read_headers([path] for path in found), strict=True)
    ]


def list_course_test(table: Path) -> list[tuple[str, Path]]:
    """Return (ID, file) of each row of ``test.csv``, in its order; of it only ``ID`` and ``ImagePath`` are needed.

    A row whose film is missing keeps the path it should have: whoever reads it reports it. Raises ``CourseError`` for
    missing columns and where an ID stands twice.
    """
    records = read_csv(table, ("ID", "ImagePath"))
    folder = table.parent / "test"
    rows: dict[str, int] = {}
    for number, record in records.items():
        rows.setdefault(record["ID"], number)
    raise_problems(table, [
        f"row {number}: the same ID as row {rows[record['ID']]}, expected one row a film"
        for number, record in records.items() if rows[record["ID"]] != number
    ])  # fmt: skip
    return [
        (record["ID"], _find(folder, record["ImagePath"], ()) or folder / record["ImagePath"].lstrip("/\\"))
        for record in records.values()
    ]


def _locate(root: Path) -> Path:
    """Return the one folder at, just below or just above ``root`` that holds train.csv."""
    if not root.is_dir():
        raise FileNotFoundError(f"{root} is not a folder, expected one that holds train.csv")
    below = [folder for folder in sorted(root.iterdir()) if folder.is_dir()]
    for folders in ([root], below, [root.absolute().parent]):
        found = [folder for folder in folders if (folder / "train.csv").is_file()]
        if len(found) > 1:
            raise FileNotFoundError(f"{root}: train.csv lies in {', '.join(f.name for f in found)}; name one of them")
        if found:
            return found[0]
    raise FileNotFoundError(f"{root} holds no train.csv, nor does a folder just below or above it")


def _read_train(base: Path, findings: FindingVocabulary) -> list[Film]:
    table = base / "train.csv"
    rows = _train_rows(table, findings)
    by_id: dict[str, list[_Row]] = defaultdict(list)
    for row in rows:
        by_id[row.id].append(row)
    problems = _missing(rows) + _contradictions(by_id.values())
    marks, bad_marks = _read_marks(rows)
    raise_problems(table, problems + bad_marks)
    copies = [list(dict.fromkeys(row.image for row in same if row.image)) for same in by_id.values()]
    films = [
        _with_boxes(_film(film_id, paths, read, same[0].size), _boxes(same, marks))
        for (film_id, same), paths, read in zip(by_id.items(), copies, _read_headers(copies), strict=True)
    ]
    _note_sizes(table, zip(films, (same[0] for same in by_id.values()), strict=True))
    return films


def _train_rows(table: Path, findings: FindingVocabulary) -> list[_Row]:
    records = read_csv(table, _TRAIN_COLUMNS)
    categories = findings.resolve([r["category"] for r in records.values()], str(table), rows=list(records))
    train = table.parent / "train"
    folders = _category_folders(train, findings)
    return [
        _Row(
            number,
            record["ID"],
            category,
            _size(record),
            _find(train, record["ImagePath"], folders[category]),
            _find(train, record["MarkPath"], folders[category]),
        )
        for (number, record), category in zip(records.items(), categories, strict=True)
    ]


def _category_folders(train: Path, findings: FindingVocabulary) -> Mapping[str, list[Path]]:
    """Return the folders on disk of each category, by canonical name, whatever language they are named in."""
    folders: dict[str, list[Path]] = defaultdict(list)
    for folder in sorted(train.iterdir()) if train.is_dir() else []:
        try:
            folders[findings.canonical(folder.name)].append(folder)
        except UnknownLabelError:
            continue  # __MACOSX and the like; a category that is missed comes up as missing files
    return folders


def _find(folder: Path, listed: str, category_folders: Iterable[Path]) -> Path | None:
    """Return the file that a csv lists as ``<category>/image/<name>``, with or without a leading slash or split."""
    parts = [part for part in listed.replace("\\", "/").split("/") if part]
    if parts[:1] == [folder.name]:
        parts = parts[1:]
    candidates = [folder.joinpath(*parts), *(other.joinpath(*parts[1:]) for other in category_folders)]
    return next((path for path in candidates if path.is_file()), None)


def _missing(rows: Sequence[_Row]) -> list[str]:
    """Say which rows lack their film, and which rows with a finding lack their mark; a normal film needs none."""
    films = [f"row {row.number}: ImagePath leads to no file" for row in rows if row.image is None]
    marked = [row for row in rows if row.category != NORMAL]
    return films + [
        f"row {row.number}: {row.category}, but MarkPath leads to no file" for row in marked if not row.mark
    ]


def _contradictions(films: Iterable[Sequence[_Row]]) -> list[str]:
    """Say which IDs are normal in one row and bear a finding in another: nobody can tell which is true."""
    return [
        f"rows {', '.join(str(row.number) for row in rows)}: one ID, both normal and {found[0].category}"
        for rows in films
        if (found := [row for row in rows if row.category != NORMAL]) and len(found) < len(rows)
    ]


def _read_marks(rows: Sequence[_Row]) -> tuple[dict[Path, NDArray[np.float64]], list[str]]:
    """Return the boxes of every mark that is there, as fractions, and what is wrong with the others."""
    marked = [(row, row.mark) for row in rows if row.category != NORMAL and row.mark]

    def boxes(item: tuple[_Row, Path]) -> NDArray[np.float64] | str:
        row, mark = item
        try:
            found = read_mark(mark)
        except CourseError as error:
            return f"row {row.number}: {error}"
        return found if len(found) else f"row {row.number}: {mark} shows no white rectangle"

    with ThreadPoolExecutor() as pool:  # threads: OpenCV decodes without holding the interpreter
        read = list(track(pool.map(boxes, marked), "Reading marks", total=len(marked), end=False))
    marks = {mark: found for (_, mark), found in zip(marked, read, strict=True) if not isinstance(found, str)}
    return marks, [problem for problem in read if isinstance(problem, str)]


def _boxes(rows: Sequence[_Row], marks: Mapping[Path, NDArray[np.float64]]) -> list[tuple[str, Sequence[float]]]:
    """Return (finding, box) of the rows of one film. A row that stands there twice counts once."""
    return list(
        dict.fromkeys((row.category, tuple(box)) for row in rows if row.mark for box in marks.get(row.mark, ()))
    )


def _film(
    film_id: str, copies: Sequence[Path], read: tuple[Path, Header | None], listed: tuple[int, int], split: str = ""
) -> Film:
    """Return a film without boxes; ``read`` is the copy that was read and its header, ``listed`` the csv's size."""
    path, header = read
    named = header is not None and header.patient != header.study  # without PatientID the study stands for it
    return Film(
        path=path,
        id=film_id,
        study=header.study if header else pseudonym(film_id),
        patient=header.patient if header and named else pseudonym(film_id),
        boxes=np.zeros((0, 4), np.float32),
        findings=(),
        width=header.columns if header else listed[0],
        height=header.rows if header else listed[1],
        split=split,
        copies=tuple(copy for copy in copies if copy != path),
    )


def _with_boxes(film: Film, boxes: Sequence[tuple[str, Sequence[float]]]) -> Film:
    """Return ``film`` with boxes given as (finding, xyxy as fractions of its width and height)."""
    fractions = np.array([box for _, box in boxes], np.float64).reshape(-1, 4)
    pixels = (fractions * (film.width, film.height, film.width, film.height)).astype(np.float32)
    return replace(film, boxes=pixels, findings=tuple(finding for finding, _ in boxes))


def _with_truth(films: Sequence[Film], table: Path, findings: FindingVocabulary) -> list[Film]:
    """Return the test films with the boxes of test_truth.csv, whose coordinates are fractions of width and height."""
    records = read_csv(table, _TRUTH_COLUMNS)
    categories = findings.resolve([r["category"] for r in records.values()], str(table), rows=list(records))
    known = {film.id for film in films}
    boxes: dict[str, list[tuple[str, Sequence[float]]]] = defaultdict(list)
    problems = []
    for (number, record), category in zip(records.items(), categories, strict=True):
        if record["ID"] not in known:
            problems.append(f"row {number}: its ID is not in test.csv")
        if category == NORMAL:
            continue
        try:
            box = [float(record[column]) for column in ("xmin", "ymin", "xmax", "ymax")]
        except ValueError as error:
            problems.append(f"row {number}: {error}, expected fractions of the width and height")
            continue
        boxes[record["ID"]].append((category, box))
    raise_problems(table, problems)
    return [_with_boxes(film, boxes[film.id]) for film in films]


def _read_headers(films: Iterable[Sequence[Path]]) -> list[tuple[Path, Header | None]]:
    """Return of each film its first copy that can be read with its header, or its first copy and None."""

    def first_readable(copies: Sequence[Path]) -> tuple[Path, Header | None]:
        for path in copies:
            try:
                return path, read_header(path)
            except ReadError:
                continue
        return copies[0], None

    with ThreadPoolExecutor() as pool:
        return list(pool.map(first_readable, films))


def _note_sizes(table: Path, films: Iterable[tuple[Film, _Row]]) -> None:
    other = [row.number for film, row in films if (film.width, film.height) != row.size]
    if other:
        _log.warning(
            "%s: Width and Height of %d films (first: row %d) are not those of the file; the file is believed.",
            table, len(other), other[0],
        )  # fmt: skip


def _size(record: Mapping[str, str]) -> tuple[int, int]:
    """Return Width and Height as the csv has them, 0 where it has no number: they only stand in for a broken file."""
    width, height = (int(record[c]) if record[c].isdecimal() else 0 for c in ("Width", "Height"))
    return width, height
