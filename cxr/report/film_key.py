"""``key.csv``: which film of a prediction is which file and object. It holds identities, for its owner alone.

A row a film is appended before the film enters the journal, so that each film of the journal has its row after a kill,
too. At the end the file is put in order, a row a film.
"""

import csv
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

from cxr.data.inputs import Input
from cxr.files import append_whole, whole_file

KEY = "key.csv"
HOLDS_IDENTITIES = f"{KEY} beside this file holds identities: keep it to yourself"
"""What a file that may be passed on says of the key."""

_COLUMNS = ("number", "path", "SOPInstanceUID", "study", "patient")
_OWNER_ALONE = 0o600  # read and written by whoever ran the prediction; nobody else may look


class FilmKey:
    """The key in a run's folder; a context manager that keeps it open for appending."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / KEY
        self._file: io.FileIO | None = None

    def __enter__(self) -> "FilmKey":
        self._file = open(self.path, "a+b", buffering=0, opener=_open_for_owner)
        end = self._file.seek(0, os.SEEK_END)
        self._file.seek(0)
        whole = self._file.read().rfind(b"\n") + 1
        if whole < end:  # a row that a kill cut short; its film is not in the journal
            self._file.truncate(whole)
        if not whole:
            self._append([_COLUMNS])
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, film: Input, sop_instance: str = "", study: str = "", patient: str = "") -> None:
        """Append a film: its path as given or its URL, and what its file says where it could be read.

        Raises ``OSError`` with the key's path where the disk does not take it; then nothing of it is left there.
        """
        self._append([(str(film.number), film.place, sop_instance, study, patient)])

    def put_in_order(self) -> None:
        """Rewrite the file with the last row of each film, by number."""
        rows = {number: (str(number), *row) for number, *row in read_key(self.path)}
        write_key(self.path, (rows[number] for number in sorted(rows)))

    def _append(self, rows: Iterable[Sequence[str]]) -> None:
        if self._file is None:
            raise ValueError(f"{self.path} is not open")
        append_whole(self._file, _as_csv(rows), self.path)


def read_key(path: Path) -> Iterator[tuple[int, str, str, str, str]]:
    """Yield the rows of a key, in the order in which they stand there; a torn row is passed over."""
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        for row in csv.reader(file):
            if len(row) == len(_COLUMNS) and row[0].isdecimal():
                yield int(row[0]), *row[1:]  # type: ignore[misc]  # as many as there are columns


def write_key(path: Path, rows: Iterable[Sequence[str]]) -> None:
    """Put a key with these rows at ``path``, row by row, for its owner alone."""
    with whole_file(path) as part, open(part, "wb", opener=_open_for_owner) as file:
        file.writelines(_as_csv([row]) for row in chain([_COLUMNS], rows))


def image_name(path: Path, folder: Path) -> str:
    """Return the path of a film relative to ``folder``, see ``folder_of``; as it is where it is not in there."""
    for film, above in ((path, folder), (path.absolute(), folder.absolute())):
        if film.is_relative_to(above):
            return film.relative_to(above).as_posix()
    return path.as_posix()


def folder_of(images: Path) -> Path:
    """Return the folder of what the user typed: a folder, or a table or film in one."""
    return images if images.is_dir() else images.parent


def _as_csv(rows: Iterable[Sequence[str]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode("utf-8", "surrogateescape")  # a path need not be UTF-8: its bytes come through


def _open_for_owner(path: str, flags: int) -> int:
    handle = os.open(path, flags, _OWNER_ALONE)
    Path(path).chmod(_OWNER_ALONE)  # also where the file was there before
    return handle
