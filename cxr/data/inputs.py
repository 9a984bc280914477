"""Films for a detector: as a user names them, and as they are decoded. Imports no torch, since workers import this."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr.data.archive import Instance
from cxr.data.folder import film_paths
from cxr.data.sources.course_test_set import list_course_test
from cxr.data.sources.root import wrong_name
from cxr.data.sources.tables import parse_rows, raise_problems, read_text
from cxr.read.chest_films import ChestFilms, Reason
from cxr.read.dicom import read_film
from cxr.read.film_statistics import film_statistics
from cxr.read.frame import at_working_size, to_longest_side
from cxr.read.known_films import KnownFilms
from cxr.read.preprocessing import Preprocessing

_COURSE = "test.csv"


@dataclass(frozen=True)
class Input:
    """One film to read. As a string it is its path.

    Args:
        number: number of the film among all, from 1. It is shown in place of the path, which may name a patient.
        path: the file. That of a film of an archive is there only while the film is at work.
        id: ``ID`` of the film in the course's table, else "".
        instance: where an archive has the film; None for a file.
    """

    number: int
    path: Path
    id: str = ""
    instance: Instance | None = field(default=None, repr=False)

    @property
    def place(self) -> str:
        """Where its owner finds the film, for the key alone: its path, or its URL in the archive."""
        return str(self.path) if self.instance is None else self.instance.url

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True, eq=False)
class Decoded:
    """A film as the detector takes it.

    Args:
        pixels: [h, w], or [h, w, C] where the intensity gives channels; uint16, 65535 is 1.0 of the intensity. The
            longest side is exactly the size of the detector.
        height, width: size of the original film in pixels.
        study, patient: pseudonyms.
        sop_instance: SOPInstanceUID, "" where absent; used only in the key file of a prediction.
        statistics: what the film is like (``film_statistics``), where that is asked for.
    """

    pixels: NDArray[np.uint16]
    height: int
    width: int
    study: str
    patient: str
    sop_instance: str = field(default="", repr=False)
    statistics: tuple[float, ...] = ()


@dataclass(frozen=True)
class Refused:
    """A film that was read but must not be assessed. The fields, beside the reason, are those of ``Decoded``."""

    reason: Reason
    height: int
    width: int
    study: str
    patient: str
    sop_instance: str = field(default="", repr=False)
    statistics: tuple[float, ...] = ()


@dataclass(frozen=True)
class Decode:
    """Reads films as the detector takes them. It is sent to the worker processes.

    Args:
        intensity: intensity with which the detector was trained. A film that it refuses counts as unreadable.
        size: longest side in pixels of the films on which the detector was trained.
        kind: kind of these films; see ``ChestFilms``.
        known: what these films look like, likewise.
        statistics: whether to say what a film is like.
    """

    intensity: Preprocessing
    size: int
    kind: str | None = None
    known: tuple[KnownFilms, ...] = ()
    statistics: bool = False

    def __call__(self, film: Input) -> Decoded | Refused:
        """Return the film, or the reason why it must not be assessed. Raises ``ReadError``."""
        read = read_film(film.path)
        height, width = read.pixels.shape
        who: tuple[Any, ...] = (height, width, read.study, read.patient, read.sop_instance)
        rule = ChestFilms(self.size, self.kind, self.known)
        stated = (read.body_part, read.view_position, read.modality, read.row_direction)
        reason = rule.refusal(height, width, *stated)
        if reason is not None:  # before the intensity, which a film of another kind may not go through
            return Refused(reason, *who)
        pixels = at_working_size(read, self.intensity, self.size)
        reason = rule.refusal_by_pixels(pixels)
        if self.statistics:
            who += (tuple(film_statistics(pixels, self.known).tolist()),)
        return Decoded(to_longest_side(pixels, self.size), *who) if reason is None else Refused(reason, *who)


def read_inputs(path: Path) -> list[Input]:
    """Return the films at ``path``, which is a film, a folder, or a table of films. No film is opened.

    For a folder with the course's ``test.csv`` these are the films of that table, in its order. Any other ``csv`` or
    ``txt`` is either such a table under another name, if it has the columns ``ID`` and ``ImagePath``, or it has one
    path in each line, relative to its folder. Paths of the course's table must not lead out of its folder; a list of
    paths is made by the user, so its paths may lead anywhere. Raises ``ValueError`` for a bad table, or without films.
    """
    table = table_of(path)
    if table is not None:
        rows = list_course_test(table) if _is_course(table) else [("", file) for file in _listed(table)]
    else:
        rows = [("", file) for file in film_paths(path)]
    if not rows:
        raise ValueError(f"{path}: lists no film")
    return [Input(number, file, film_id) for number, (film_id, file) in enumerate(rows, start=1)]


def is_one_film(path: Path) -> bool:
    """Return whether ``path`` is a single film, neither a folder nor a table."""
    return path.is_file() and not _is_table(path)


def table_of(path: Path) -> Path | None:
    """Return the table that lists the films at ``path``; None where they are a film or those of a folder."""
    table = path / _COURSE if path.is_dir() else path
    return table if table.is_file() and _is_table(table) else None


def _is_table(path: Path) -> bool:
    return path.suffix.lower() in (".csv", ".txt")


def is_course(inputs: Sequence[Input]) -> bool:
    """Return whether the films come from the course's table, so that a submission can be written."""
    return all(film.id for film in inputs)


def _is_course(table: Path) -> bool:
    with table.open("rb") as file:
        head = file.readline().decode("utf-8-sig", errors="replace")
    return {"ID", "ImagePath"} <= {name.strip() for name in head.split(",")}


def _listed(table: Path) -> list[Path]:
    """Return the films of a user's list, whose paths may lead anywhere. Raises ``TableError``."""
    rows = {line: row[0] for line, row in parse_rows(table, read_text(table)).items() if row[0]}
    problems = {line: wrong_name(listed) for line, listed in rows.items()}
    raise_problems(table, [f"row {line}: {problem}" for line, problem in problems.items() if problem])
    return [table.parent / listed for listed in rows.values()]
