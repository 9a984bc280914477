"""The tables that public data sets come with: csv, one row a mark, and what is wrong with them told at once."""

import csv
import io
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from cxr.findings import FindingVocabulary

Box = tuple[float, float, float, float]


class TableError(ValueError):
    """A table that does not fit itself; the message names the rows."""


def read_rows(table: Path) -> dict[int, list[str]]:
    """Return the rows of a csv in UTF-8, with or without a byte order mark, by line; the first are the column names.

    Values are stripped strings, lines count from 1, empty lines are passed over. Raises ``FileNotFoundError`` and
    ``TableError``.
    """
    if not table.is_file():
        raise FileNotFoundError(f"{table} is missing, expected a csv of the data set as it is published")
    try:
        text = table.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise TableError(f"{table} is not UTF-8: {error}") from error
    reader = csv.reader(io.StringIO(text, newline=""))
    numbered = ((reader.line_num, [value.strip() for value in row]) for row in reader)
    rows = {line: row for line, row in numbered if any(row)}
    if not rows:
        raise TableError(f"{table} is empty, expected a csv with column names")
    return rows


def read_table(table: Path, columns: Sequence[str], optional: Sequence[str] = ()) -> dict[int, dict[str, str]]:
    """Return the records of a csv by line: ``columns``, of which none may lack, and ``optional`` ones, "" without.

    Raises as ``read_rows``.
    """
    (_, header), *rows = read_rows(table).items()
    if missing := [column for column in columns if column not in header]:
        raise TableError(
            f"{table} has no column {', '.join(missing)}; it has {', '.join(header)}, expected {', '.join(columns)}"
        )
    kept = [column for column in (*columns, *optional) if column in header]
    nothing = dict.fromkeys(optional, "")
    return {line: nothing | {column: _cell(row, header.index(column)) for column in kept} for line, row in rows}


def resolve(labels: Iterable[str], findings: FindingVocabulary, table: Path, lines: Iterable[int]) -> list[str]:
    """Return the canonical names of the labels of a column. Raises ``UnknownLabelError``, which names the lines."""
    return findings.resolve(list(labels), str(table), list(lines))


def corners(values: Sequence[str]) -> Box | None:
    """Return the box with two given opposite corners, None where they enclose no area or a number is missing.

    Raises ``ValueError`` for what is no number.
    """
    x0, y0, x1, y1 = (_number(value) for value in values)
    if not all(map(math.isfinite, (x0, y0, x1, y1))) or x0 == x1 or y0 == y1:
        return None
    return min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)


def corner_and_size(values: Sequence[str]) -> Box | None:
    """Return the box with the given x, y, width and height, None where a size is not positive or a number is missing.

    Raises ``ValueError`` for what is no number.
    """
    x, y, width, height = (_number(value) for value in values)
    if not all(map(math.isfinite, (x, y, width, height))) or width <= 0 or height <= 0:
        return None
    return x, y, x + width, y + height


def raise_problems(table: Path, problems: Sequence[str], most: int = 20) -> None:
    """Raise one ``TableError`` for all ``problems`` of a table, if there are any."""
    if problems:
        more = [f"and {len(problems) - most} more"] if len(problems) > most else []
        raise TableError("\n  ".join([f"{table}: {len(problems)} problems", *problems[:most], *more]))


def _cell(row: Sequence[str], column: int) -> str:
    return row[column] if column < len(row) else ""


def _number(value: str) -> float:
    return float(value) if value else math.nan
