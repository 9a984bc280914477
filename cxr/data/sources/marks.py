"""What the rows of a table say of one film, the file of that film, and the film they make."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cxr.data.film import Film
from cxr.data.sources.boxes import Box, fit, rounded
from cxr.data.sources.root import Root
from cxr.data.sources.tables import raise_problems, shown
from cxr.findings import FindingVocabulary
from cxr.read.dicom import pseudonym, read_header
from cxr.read.picture import is_picture
from cxr.read.tags import looks_like_dicom

_log = logging.getLogger(__name__)


@dataclass
class Marks:
    """What is marked on a film: each (finding, box) once, and the findings that it has without a box.

    Args:
        boxes: in the order of the rows.
        unboxed: findings that a row names without a box, where the table allows that.
        rows: where the table has each box, for messages: "row 5".
        problems: of rows that can be no box; ``fit_marks`` raises those of all films together.
    """

    boxes: list[tuple[str, Box]] = field(default_factory=list)
    unboxed: set[str] = field(default_factory=set)
    rows: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def add(self, finding: str, box: Box | None, row: str) -> None:
        """Add a row of a table; ``box`` is None where the row says that the film has the finding without a box."""
        if box is None:
            self.unboxed.add(finding)
        elif (finding, box) not in self.boxes:
            self.boxes.append((finding, box))
            self.rows.append(row)

    def stretch(self, width: float, height: float) -> None:
        """Turn boxes in fractions of a film's width and height into pixels."""
        fractions = np.array([box for _, box in self.boxes], np.float64).reshape(-1, 4)
        pixels = rounded(fractions) * (width, height, width, height)
        self.boxes = [(name, tuple(box)) for (name, _), box in zip(self.boxes, pixels.tolist(), strict=True)]

    @property
    def findings(self) -> tuple[str, ...]:
        """The names of the boxes, in their order."""
        return tuple(finding for finding, _ in self.boxes)

    @property
    def corners(self) -> NDArray[np.float32]:
        """The boxes, [N, 4] float32 xyxy."""
        return np.array([box for _, box in self.boxes], np.float32).reshape(-1, 4)


def told(findings: FindingVocabulary, untold: Iterable[str]) -> frozenset[str] | None:
    """Return ``Film.labelled`` of a film that says nothing of the findings ``untold``: None where it tells of all."""
    names = frozenset(findings.names)
    return names - frozenset(untold) if names & frozenset(untold) else None


@dataclass(frozen=True)
class FilmFile:
    """The file of a film and what its header says.

    Args:
        path: the file.
        width, height: of the image in pixels, 0 where the header cannot be read: whoever reads the pixels reports it.
        study, patient: pseudonyms, "" where the header names none.
    """

    path: Path
    width: int = 0
    height: int = 0
    study: str = ""
    patient: str = ""


def marked_film(
    file: FilmFile, name: str, patient: str, marks: Marks, findings: FindingVocabulary, **more: Any
) -> Film:
    """Return a film with its marks; ``patient`` is an identifier, not yet a pseudonym, for where the file names none.

    A finding it has without a box is none it could teach: it is not labelled for it.
    """
    fields: dict[str, Any] = {"labelled": told(findings, marks.unboxed)} | more
    return Film(
        file.path, name, file.study or pseudonym(name), file.patient or pseudonym(patient), marks.corners,
        marks.findings, file.width, file.height, **fields,
    )  # fmt: skip


def find_images(root: Root, table: Path, names: Iterable[str], folders: Sequence[Path]) -> dict[str, Path]:
    """Return where the images of a table lie in ``folders``, by name, given there with or without an extension.

    A part of a data set is a data set: images that are missing are counted in a warning. Raises ``FileNotFoundError``
    where there is none at all, and ``TableError`` for names that are paths and for images outside ``root``.
    """
    there: dict[str, Path] = {}
    for path in (path for folder in folders if folder.is_dir() for path in sorted(folder.iterdir()) if path.is_file()):
        there.setdefault(path.name, path)
        there.setdefault(path.stem, path)
    wanted = list(dict.fromkeys(names))
    raise_problems(table, [
        f"the image {shown(name)}: expected the name of a file in {folders[0]}, without a folder"
        for name in wanted if "/" in name or "\\" in name
    ])  # fmt: skip
    found = {name: there[name] for name in wanted if name in there}
    looked = ", ".join(str(folder) for folder in folders)
    if wanted and not found:
        raise FileNotFoundError(f"{table}: none of its {len(wanted)} images lies in {looked}")
    if missing := len(wanted) - len(found):
        first = next(name for name in wanted if name not in found)
        _log.warning("%s: %d of %d images are not in %s and left out, first %s", table, missing, len(wanted), looked, first)  # fmt: skip  # noqa: E501
    refusals = [(path, root.refusal(path)) for path in found.values()]
    raise_problems(table, [f"the image {path.name} {refusal}" for path, refusal in refusals if refusal])
    return found


def read_files(paths: Mapping[str, Path]) -> dict[str, FilmFile]:
    """Return each image's file with the size in its header, and of DICOM files the study, and patient if named.

    No pixels are read. A header that cannot be read gives the size 0.
    """
    with ThreadPoolExecutor() as pool:
        return dict(zip(paths, pool.map(_read_file, paths.values()), strict=True))


def fit_marks(table: Path, marks: Iterable[tuple[str, Marks]], files: Mapping[str, FilmFile]) -> None:
    """Cut the boxes of (film, marks) that overhang the border of their film by a hair (``cxr.data.sources.boxes.fit``).

    Of films that are not in ``files``, and of those whose header cannot be read, the size is not known: their boxes are
    held to the largest a film can have. Raises one ``TableError`` for all boxes that are not on their films and all
    rows that can be no box.
    """
    marks = list(marks)
    places = [(of_film, i, files.get(name)) for name, of_film in marks for i in range(len(of_film.boxes))]
    boxes = np.array([of_film.boxes[i][1] for of_film, i, _ in places], np.float64).reshape(-1, 4)
    sizes = np.array([(file.width, file.height) if file else (0, 0) for _, _, file in places], np.float64)
    fitted, misplaced = fit(boxes, sizes.reshape(-1, 2))
    rows = [f"{places[n][0].rows[places[n][1]]}: {problem}" for n, problem in misplaced.items()]
    raise_problems(table, [problem for _, of_film in marks for problem in of_film.problems] + rows)
    for (of_film, i, _), box in zip(places, fitted.tolist(), strict=True):
        of_film.boxes[i] = (of_film.boxes[i][0], tuple(box))


def note_unboxed(table: Path, marks: Iterable[Marks]) -> None:
    """Warn of rows that name a finding without a box."""
    if count := sum(len(of_film.unboxed) for of_film in marks):
        _log.warning("%s: %d findings have no box; their films are not labelled for them.", table, count)


def _read_file(path: Path) -> FilmFile:
    try:
        with path.open("rb") as file:
            start = file.read(132)
        if is_picture(start) and not looks_like_dicom(start):
            with Image.open(path) as image:  # reads the header only
                return FilmFile(path, image.width, image.height)
        header = read_header(path)
    except Exception:  # of Pillow too; ultralytics, where it is imported, makes another one of Pillow's
        return FilmFile(path)
    # without PatientID the study stands for the patient
    patient = "" if header.patient == header.study else header.patient
    return FilmFile(path, header.columns, header.rows, header.study, patient)
