"""Films that are listed once, in a file of the run's folder, and read from it one by one.

A run over a part of an archive keeps this list, so that it goes on with the same films after a kill, although the
archive has grown. Memory holds eight bytes a film. The list leads to patients: its owner alone may read it.
"""

import json
import os
from array import array
from collections.abc import Callable, Container, Iterable, Iterator
from pathlib import Path
from typing import Any

from cxr.data.folder import may_be_film
from cxr.data.inputs import Input
from cxr.files import DamagedFileError, whole_file

LIST = "films.list"
_OWNER_ALONE = 0o600


class FilmList:
    """The films of a list: a line of JSON says what they are a list of, then a line stands for each film.

    Args:
        path: of the list.
        film: makes the film from its number, from 1, and what its line holds.
        unseen: whether nobody has looked at the listed files, so that some may be no films.
    """

    def __init__(self, path: Path, film: Callable[[int, Any], Input], unseen: bool = False) -> None:
        self.path, self._film, self._unseen = path, film, unseen
        self._places = array("Q")  # bytes at which the lines of the films begin
        with path.open("rb") as file:
            place = len(file.readline())
            for line in file:
                self._places.append(place)
                place += len(line)

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Input:
        with self.path.open("rb") as file:
            file.seek(self._places[index])
            return self._film(index + 1, json.loads(file.readline()))

    def left(self, done: Container[int]) -> Iterator[Input]:
        """Yield the films whose numbers are not in ``done``; a file that turns out to be no film is passed over."""
        with self.path.open("rb") as file:
            file.readline()
            for number, line in enumerate(file, start=1):
                if number not in done:
                    film = self._film(number, json.loads(line))
                    if not self._unseen or may_be_film(film.path):
                        yield film


def kept_list(path: Path, about: Any, entries: Callable[[], Iterable[Any]]) -> None:
    """Write the list at ``path``, unless a whole one of the same things is there.

    Args:
        path: of the list.
        about: says what is listed, as JSON: the same words list the same things.
        entries: returns what stands for each film, as JSON; called only where the list is to be written.
    """
    if _about(path) == json.loads(json.dumps(about)):
        return
    with whole_file(path) as part:
        part.touch(_OWNER_ALONE)
        with part.open("w", encoding="ascii") as file:
            file.write(json.dumps(about) + "\n")
            file.writelines(json.dumps(entry) + "\n" for entry in entries())
            file.flush()
            os.fsync(file.fileno())


def _about(path: Path) -> Any:
    """Return what a list says it is a list of, None where there is no list."""
    if not path.exists():
        return None
    with path.open("rb") as file:
        try:
            return json.loads(file.readline())
        except ValueError as error:
            raise DamagedFileError(f"{path} is damaged ({error}); remove it, and the films are listed again") from error
