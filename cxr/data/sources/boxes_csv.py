"""Reads films and one table of their boxes: the plainest layout, for films that are in none of the others.

    boxes.csv    film,finding,xmin,ymin,xmax,ymax[,patient][,split]    a row a box, in pixels of the original film

``film`` is the path of the file below the folder, DICOM or a picture. A row without finding and box, or with the
finding "normal", says that a film is normal. A row with a finding and no box says that the finding is there and nobody
boxed it. A film in no row is not read.
"""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from cxr.data.film import Film
from cxr.data.sources.boxes import corners, numbers
from cxr.data.sources.marks import Marks, fit_marks, marked_film, note_unboxed, read_files
from cxr.data.sources.root import Root, wrong_name
from cxr.data.sources.tables import raise_problems, read_table, shown
from cxr.findings import NORMAL, FindingVocabulary

TABLE = "boxes.csv"
_BOX = ("xmin", "ymin", "xmax", "ymax")
_COLUMNS = ("film", "finding", *_BOX)
_SPLITS = ("", "train", "val", "test")

_Records = Mapping[int, Mapping[str, str]]


def read_boxes_csv(root: Path | str, findings: FindingVocabulary) -> list[Film]:
    """Return the films of ``boxes.csv`` in ``root``, boxes [N, 4] xyxy in original pixels.

    The patient of a DICOM film is that of its header, of a picture that of the column ``patient``; without either each
    film counts as another patient. Raises ``FileNotFoundError``, ``UnknownLabelError``, and one ``TableError`` for all
    rows that name no file of the folder, whose box is impossible, or that contradict one another.
    """
    place = Root(Path(root))
    table = place.check(place.folder / TABLE)
    if not table.is_file() and (place.folder / "train.csv").is_file():
        raise FileNotFoundError(f"{table} is missing; train.csv is there, as in the course's layout: data=course")
    records = read_table(table, _COLUMNS, ("patient", "split"))
    raise_problems(table, _problems(place, records))
    marks = _marks(table, records, findings)
    files = read_files({name: place.folder / name for name in marks})
    fit_marks(table, marks.items(), files)
    note_unboxed(table, marks.values())
    first = {record["film"]: record for record in reversed(records.values())}
    return [
        marked_film(
            files[name], name, first[name]["patient"] or name, of_film, findings, split=first[name]["split"]
        )
        for name, of_film in marks.items()
    ]  # fmt: skip


def is_boxes_csv(root: Path) -> bool:
    """Return whether ``root`` has a table of this layout."""
    table = root / TABLE
    if not table.is_file():
        return False
    with table.open("rb") as file:
        return {b"film", b"finding"} <= {
            name.strip() for name in file.readline().removeprefix(b"\xef\xbb\xbf").split(b",")
        }


def _problems(place: Root, records: _Records) -> list[str]:
    """Return what is wrong with rows before any film is opened."""
    problems = []
    stated: dict[tuple[str, str], str] = {}
    for line, record in records.items():
        name = record["film"]
        path = place.folder / name
        if problem := wrong_name(name):
            problems.append(f"row {line}: {problem}")
        elif problem := place.refusal(path) or ("" if path.is_file() else "is not there"):
            problems.append(f"row {line}: the film {shown(name)} {problem}")
        if record["split"] not in _SPLITS:
            problems.append(f"row {line}: split is {shown(record['split'])}, expected train, val, test or nothing")
        for column in ("patient", "split"):
            if stated.setdefault((name, column), record[column]) != record[column]:
                first = shown(stated[name, column])
                problems.append(f"row {line}: {column} is {shown(record[column])}, in the film's first row {first}")
    return problems


def _marks(table: Path, records: _Records, findings: FindingVocabulary) -> dict[str, Marks]:
    named = {line: record["finding"] for line, record in records.items() if record["finding"]}
    names = dict(zip(named, findings.resolve([*named.values()], str(table), [*named]), strict=True))
    marks: dict[str, Marks] = defaultdict(Marks)
    for line, record in records.items():
        of_film, name = marks[record["film"]], names.get(line, NORMAL)
        try:
            values = numbers([record[column] for column in _BOX])
            if name != NORMAL:
                of_film.add(name, None if values is None else corners(values), f"row {line}")
            elif values is not None:
                raise ValueError("a box without a finding, expected both or neither")
        except ValueError as error:
            of_film.problems.append(f"row {line}: {error}")
    return dict(marks)
