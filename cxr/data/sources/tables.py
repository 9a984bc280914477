"""Reads the csv tables of data sets, with a row for each mark, and reports all their problems at once."""

import csv
import io
import reprlib
from collections.abc import Mapping, Sequence
from pathlib import Path

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 60
_SHORT.maxlevel = 3  # a value of a damaged JSON may have thousands of levels


class TableError(ValueError):
    """The error of a table that is damaged or contradicts itself. Its message names the rows."""


def read_rows(table: Path) -> dict[int, list[str]]:
    """Return the rows of a csv in UTF-8, with or without a byte order mark, by line. The first has the column names.

    Values are stripped strings, lines count from 1, empty lines are skipped. Raises ``FileNotFoundError`` and
    ``TableError``.
    """
    if not table.is_file():
        raise FileNotFoundError(f"{table} is missing, expected a csv with column names")
    rows = parse_rows(table, read_text(table))
    if not rows:
        raise TableError(f"{table} is empty, expected a csv with column names")
    return rows


def read_text(table: Path) -> str:
    """Return a text in UTF-8, without its byte order mark. Raises ``TableError`` if the file is no such text."""
    try:
        return table.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TableError(f"{table} is not UTF-8: {error}") from error


def parse_rows(table: Path, text: str) -> dict[int, list[str]]:
    """Return the rows of ``text``, the content of the csv ``table``, as ``read_rows`` does. Raises ``TableError``."""
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise TableError(
            f"{table}: line {line} holds a NUL byte; expected a csv as text, saved as UTF-8 and not as UTF-16"
        )
    # strict, because an unclosed quotation mark would turn all following rows into one cell
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: dict[int, list[str]] = {}
    begin = 1
    try:
        for row in reader:
            values = [value.strip() for value in row]
            if any(values):
                rows[reader.line_num] = values
            begin = reader.line_num + 1
    except csv.Error as problem:
        raise TableError(
            f"{table}: row {begin} is not a row of a csv ({problem}); expected closed quotation marks and cells of at "
            f"most {csv.field_size_limit():,} characters"
        ) from problem
    return rows


def read_table(table: Path, columns: Sequence[str], optional: Sequence[str] = ()) -> dict[int, dict[str, str]]:
    """Return the records of a csv by line. All ``columns`` must be there; missing ``optional`` columns are "".

    Raises like ``read_rows``, and ``TableError`` for a table with nothing but column names.
    """
    records = records_of(table, read_rows(table), columns, optional)
    if not records:
        raise TableError(f"{table} has column names and no row, expected a row a film or mark")
    return records


def records_of(
    table: Path,
    rows: Mapping[int, Sequence[str]],
    columns: Sequence[str],
    optional: Sequence[str] = (),
) -> dict[int, dict[str, str]]:
    """Return the records of the rows below the column names, as ``read_table`` does.

    Raises ``TableError`` for columns that are missing or there twice, and for rows with too few or too many cells: one
    comma too many shifts all cells after it.
    """
    header, body = next(iter(rows.values()), []), list(rows.items())[1:]
    if missing := [column for column in columns if column not in header]:
        raise TableError(
            f"{table} has no column {', '.join(missing)}; it has {shown_names(header)}, expected {', '.join(columns)}"
        )
    kept = {column: header.index(column) for column in (*columns, *optional) if column in header}
    if double := [column for column in kept if header.count(column) > 1]:
        raise TableError(f"{table} has the column {', '.join(double)} twice, expected it once")
    least = 1 + max(kept[column] for column in columns)
    raise_problems(table, [
        f"row {line}: {len(row)} cells for the {len(header)} columns"
        for line, row in body if len(row) < least or any(row[len(header):])
    ])  # fmt: skip
    nothing = dict.fromkeys(optional, "")
    return {line: nothing | {name: _cell(row, column) for name, column in kept.items()} for line, row in body}


def raise_problems(table: Path, problems: Sequence[str], most: int = 20) -> None:
    """Raise one ``TableError`` for all ``problems`` of a table, if there are any; it shows the first ``most``."""
    if problems:
        more = [f"and {len(problems) - most} more"] if len(problems) > most else []
        raise TableError("\n  ".join([f"{table}: {len(problems)} problems", *problems[:most], *more]))


def shown(value: object) -> str:
    """Return a value of a table for a message: its ``repr``, of a text at most about 60 characters."""
    return _SHORT.repr(value)


def shown_names(names: Sequence[str], most: int = 20) -> str:
    """Return column names for a message."""
    listed = ", ".join(name if len(name) <= 60 else f"{name[:57]}..." for name in names[:most])
    return f"{listed} and {len(names) - most} more" if len(names) > most else listed or "none"


def _cell(row: Sequence[str], column: int) -> str:
    return row[column] if column < len(row) else ""
