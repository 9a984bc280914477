"""Reads the test films of the course layout, with their boxes if ``test_truth.csv`` is beside ``test.csv``."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from cxr.data.film import Film
from cxr.data.sources.boxes import LARGEST_SIDE, Box, corners, fit, number
from cxr.data.sources.course_files import read_csv
from cxr.data.sources.course_films import listed_size, make_film, read_headers, with_boxes
from cxr.data.sources.course_places import find, locate, path_parts
from cxr.data.sources.root import Root, wrong_name
from cxr.data.sources.tables import raise_problems, shown
from cxr.findings import NORMAL, FindingVocabulary

_COLUMNS = ("ID", "Width", "Height", "ImagePath")
_TRUTH_COLUMNS = ("ID", "category", "xmin", "xmax", "ymin", "ymax")


def read_course_test(root: Path | str) -> list[Film]:
    """Return the films of ``test.csv`` in its order, without boxes, ``split="test"``. Raises like ``read_course``."""
    base = locate(Path(root))
    place, table = Root(base), base / "test.csv"
    records = read_csv(place.check(table), _COLUMNS)
    films = [(line, record, find(base / "test", record["ImagePath"])) for line, record in records.items()]
    lost = (
        f"row {line}: ImagePath {shown(record['ImagePath'])} {refusal}"
        for line, record, path in films
        if (refusal := place.refusal(path) if path else "leads to no file")
    )
    raise_problems(table, [*lost, *_repeated(records)])
    there = [(record, path) for _, record, path in films if path is not None]
    headers = read_headers([path] for _, path in there)
    return [
        make_film(record["ID"], [path], read, listed_size(record), split="test")
        for (record, path), read in zip(there, headers, strict=True)
    ]


def list_course_test(table: Path) -> list[tuple[str, Path]]:
    """Return (ID, file) of each row of ``test.csv``, in its order. It needs only the columns ``ID`` and ``ImagePath``.

    A row whose film is missing keeps its path: reading it later raises the error. Raises ``TableError`` for missing
    columns, for an ID that is there twice, and for paths that lead out of the table's folder.
    """
    records = read_csv(table, ("ID", "ImagePath"))
    place, folder = Root(table.parent), table.parent / "test"
    problems = _repeated(records)
    films = []
    for line, record in records.items():
        listed = record["ImagePath"]
        if problem := wrong_name(listed):
            problems.append(f"row {line}: ImagePath {problem}")
            continue
        path = find(folder, listed) or folder.joinpath(*path_parts(folder, listed))
        if refusal := place.refusal(path):
            problems.append(f"row {line}: ImagePath {shown(listed)} {refusal}")
        films.append((record["ID"], path))
    raise_problems(table, problems)
    return films


def with_truth(films: Sequence[Film], table: Path, findings: FindingVocabulary) -> list[Film]:
    """Return the test films with the boxes of test_truth.csv, whose coordinates are fractions of width and height.

    A row that is there twice counts once. Raises ``UnknownLabelError``, and one ``TableError`` for all rows of other
    films, with impossible boxes, or with boxes that are not on their film.
    """
    records = read_csv(table, _TRUTH_COLUMNS)
    categories = findings.resolve([r["category"] for r in records.values()], str(table), rows=list(records))
    by_id = {film.id: film for film in films}
    rows: dict[str, dict[tuple[str, Box], int]] = defaultdict(dict)
    problems = [f"row {n}: its ID is not in test.csv" for n, record in records.items() if record["ID"] not in by_id]
    for (line, record), category in zip(records.items(), categories, strict=True):
        if category == NORMAL or record["ID"] not in by_id:
            continue
        try:
            box = corners([number(record[column]) for column in ("xmin", "ymin", "xmax", "ymax")])
        except ValueError as error:
            problems.append(f"row {line}: {error}, as fractions of the width and height")
            continue
        rows[record["ID"]].setdefault((category, box), line)
    normal = {record["ID"] for record, c in zip(records.values(), categories, strict=True) if c == NORMAL}
    problems += [
        f"rows of one ID are both normal and {finding}, first in row {line}"
        for film_id in sorted(normal & rows.keys())
        for (finding, _), line in list(rows[film_id].items())[:1]
    ]
    return _with_rows(films, table, rows, problems)


def _with_rows(
    films: Sequence[Film], table: Path, rows: Mapping[str, Mapping[tuple[str, Box], int]], problems: list[str]
) -> list[Film]:
    """Return the films with the boxes of their rows, clipped to the film.

    Raises one ``TableError`` for all rows whose box is not on the film, and for all ``problems``.
    """
    places = [(film, finding, box, line) for film in films for (finding, box), line in rows.get(film.id, {}).items()]
    # A film whose header cannot be read has no size: its fractions are checked on the largest possible film
    sizes = np.array([(film.width or LARGEST_SIDE, film.height or LARGEST_SIDE) for film, *_ in places], np.float64)
    frames = np.tile(sizes.reshape(-1, 2), 2)
    fractions = np.array([box for _, _, box, _ in places], np.float64).reshape(-1, 4)
    _, misplaced = fit(fractions * frames, sizes.reshape(-1, 2))
    raise_problems(table, [*problems, *(f"row {places[i][3]}: {problem}" for i, problem in misplaced.items())])
    cut = np.clip(fractions, 0, 1).tolist()
    boxes: dict[str, list[tuple[str, Box]]] = defaultdict(list)
    for (film, finding, _, _), (x0, y0, x1, y1) in zip(places, cut, strict=True):
        boxes[film.id].append((finding, (x0, y0, x1, y1)))
    return [with_boxes(film, boxes[film.id]) for film in films]


def _repeated(records: Mapping[int, Mapping[str, str]]) -> list[str]:
    """Return a problem for each row with the ID of another row."""
    first: dict[str, int] = {}
    rows = ((n, first.setdefault(record["ID"], n)) for n, record in records.items())
    return [f"row {n}: the same ID as row {other}, expected one row a film" for n, other in rows if n != other]
