"""Films to be looked at, as a user names them: a folder, a file, the course's test.csv, a list of paths."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cxr.data.course import list_course_test
from cxr.data.folder import film_paths

_COURSE = "test.csv"


@dataclass(frozen=True)
class Input:
    """One film.

    Args:
        number: its place among the films given, from 1; stands for it where its path might name a patient.
        path: the file; also what it is as a string.
        id: its ``ID`` in the course's table, else "".
    """

    number: int
    path: Path
    id: str = ""

    def __str__(self) -> str:
        return str(self.path)


def read_inputs(path: Path) -> list[Input]:
    """Return the films at ``path``: a film, a folder, or a table of films; no film is opened.

    A folder with the course's ``test.csv`` in it gives the films of that table, in its order. Any other ``csv`` or
    ``txt`` is the same table under another name, known by its columns ``ID`` and ``ImagePath``, or holds one path a
    line, relative to its own folder. Raises ``ValueError`` where there are no films or the table does not fit.
    """
    table = path / _COURSE if path.is_dir() else path
    if table.is_file() and table.suffix.lower() in (".csv", ".txt"):
        rows = list_course_test(table) if _is_course(table) else [("", file) for file in _listed(table)]
    else:
        rows = [("", file) for file in film_paths(path)]
    if not rows:
        raise ValueError(f"{path}: lists no film")
    return [Input(number, file, film_id) for number, (film_id, file) in enumerate(rows, start=1)]


def is_course(inputs: Sequence[Input]) -> bool:
    """Whether the films came from the course's table, so that a submission can be written."""
    return all(film.id for film in inputs)


def _is_course(table: Path) -> bool:
    with table.open("rb") as file:
        head = file.readline().decode("utf-8-sig", errors="replace")
    return {"ID", "ImagePath"} <= {name.strip() for name in head.split(",")}


def _listed(table: Path) -> list[Path]:
    try:
        text = table.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{table}: is not UTF-8 text, expected one path a line ({error})") from error
    lines = (row[0].strip() for row in csv.reader(io.StringIO(text)) if row)
    return [table.parent / line for line in lines if line]
