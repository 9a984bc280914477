"""Films to be looked at, as a user names them, and as a detector takes them. Imports no torch: it goes to readers."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cxr.data.folder import film_paths
from cxr.data.sources.course_test_set import list_course_test
from cxr.data.sources.root import wrong_name
from cxr.data.sources.tables import parse_rows, raise_problems, read_text
from cxr.read.chest_films import ChestFilms, Reason
from cxr.read.dicom import read_film
from cxr.read.frame import at_working_size, to_longest_side
from cxr.read.preprocessing import Preprocessing

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


@dataclass(frozen=True, eq=False)
class Decoded:
    """A film as the detector takes it.

    Args:
        pixels: [h, w], or [h, w, C] where the intensity gives channels, uint16, 65535 = 1.0 of the intensity, longest
            side exactly the detector's size.
        height, width: of the original film, pixels.
        study, patient: pseudonyms.
        sop_instance: SOPInstanceUID, "" where absent; for the key of a prediction alone.
    """

    pixels: NDArray[np.uint16]
    height: int
    width: int
    study: str
    patient: str
    sop_instance: str = field(default="", repr=False)


@dataclass(frozen=True)
class Refused:
    """A film that was read and that the detector may not speak of; the fields are those of ``Decoded``."""

    reason: Reason
    height: int
    width: int
    study: str
    patient: str
    sop_instance: str = field(default="", repr=False)


@dataclass(frozen=True)
class Decode:
    """Reads films as the detector takes them; sent to the processes that read.

    Args:
        intensity, size: those the detector was trained with; size is the longest side in pixels. A film that the
            intensity does not take, of a modality that the detector was not trained on, is one that cannot be read.
        kind: of the films the detector was trained on; see ``ChestFilms``.
    """

    intensity: Preprocessing
    size: int
    kind: str | None = None

    def __call__(self, film: Input) -> Decoded | Refused:
        """Return the film, or why the detector may not speak of it. Raises ``ReadError``."""
        read = read_film(film.path)
        height, width = read.pixels.shape
        who = (height, width, read.study, read.patient, read.sop_instance)
        reason = ChestFilms(self.size, self.kind).refusal(height, width, read.body_part, read.view_position)
        if reason is not None:
            return Refused(reason, *who)
        return Decoded(to_longest_side(at_working_size(read, self.intensity, self.size), self.size), *who)


def read_inputs(path: Path) -> list[Input]:
    """Return the films at ``path``: a film, a folder, or a table of films; no film is opened.

    A folder with the course's ``test.csv`` in it gives the films of that table, in its order. Any other ``csv`` or
    ``txt`` is the same table under another name, known by its columns ``ID`` and ``ImagePath``, or holds one path a
    line, relative to its own folder. The course's table is part of a data set, whose folder none of its paths may
    leave; a list of paths is the user's own. Raises ``ValueError`` where there are no films or the table does not fit.
    """
    table = path / _COURSE if path.is_dir() else path
    if table.is_file() and _is_table(table):
        rows = list_course_test(table) if _is_course(table) else [("", file) for file in _listed(table)]
    else:
        rows = [("", file) for file in film_paths(path)]
    if not rows:
        raise ValueError(f"{path}: lists no film")
    return [Input(number, file, film_id) for number, (film_id, file) in enumerate(rows, start=1)]


def is_one_film(path: Path) -> bool:
    """Whether ``path`` is a single film, neither a folder nor a table."""
    return path.is_file() and not _is_table(path)


def _is_table(path: Path) -> bool:
    return path.suffix.lower() in (".csv", ".txt")


def is_course(inputs: Sequence[Input]) -> bool:
    """Whether the films came from the course's table, so that a submission can be written."""
    return all(film.id for film in inputs)


def _is_course(table: Path) -> bool:
    with table.open("rb") as file:
        head = file.readline().decode("utf-8-sig", errors="replace")
    return {"ID", "ImagePath"} <= {name.strip() for name in head.split(",")}


def _listed(table: Path) -> list[Path]:
    """Return the films of a list. It is the user's own, so that its paths may lead anywhere. Raises ``TableError``."""
    rows = {line: row[0] for line, row in parse_rows(table, read_text(table)).items() if row[0]}
    problems = {line: wrong_name(listed) for line, listed in rows.items()}
    raise_problems(table, [f"row {line}: {problem}" for line, problem in problems.items() if problem])
    return [table.parent / listed for listed in rows.values()]
