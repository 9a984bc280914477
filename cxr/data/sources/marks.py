"""Marks of a film from the rows of a table, the file of the film, and the film made of both."""

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
    """The marks of a film: each (finding, box) once, and the findings without a box.

    Args:
        boxes: finding and box, in the order of the rows.
        unboxed: findings that a row names without a box, where the table allows that.
        rows: row of each box in the table, such as "row 5", for messages.
        problems: problems of rows with impossible boxes; ``fit_marks`` raises those of all films together.
    """

    boxes: list[tuple[str, Box]] = field(default_factory=list)
    unboxed: set[str] = field(default_factory=set)
    rows: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    _added: set[tuple[str, Box]] = field(default_factory=set, repr=False)  # a damaged table may have 10^5 rows a film

    def add(self, finding: str, box: Box | None, row: str) -> None:
        """Add a row of a table. ``box`` is None if the row names a finding without a box."""
        if box is None:
            self.unboxed.add(finding)
        elif (finding, box) not in self._added:
            self._added.add((finding, box))
            self.boxes.append((finding, box))
            self.rows.append(row)

    def stretch(self, width: float, height: float) -> None:
        """Turn boxes from fractions of the film's width and height into pixels."""
        fractions = np.array([box for _, box in self.boxes], np.float64).reshape(-1, 4)
        pixels = rounded(fractions) * (width, height, width, height)
        self.boxes = [(name, tuple(box)) for (name, _), box in zip(self.boxes, pixels.tolist(), strict=True)]

    @property
    def findings(self) -> tuple[str, ...]:
        """Findings of the boxes, in their order."""
        return tuple(finding for finding, _ in self.boxes)

    @property
    def corners(self) -> NDArray[np.float32]:
        """The boxes, [N, 4] float32 xyxy."""
        return np.array([box for _, box in self.boxes], np.float32).reshape(-1, 4)


def labelled_for(findings: FindingVocabulary, missing: Iterable[str]) -> frozenset[str] | None:
    """Return ``Film.labelled`` of a film that is labelled for all findings except ``missing``; None without any."""
    names = frozenset(findings.names)
    return names - frozenset(missing) if names & frozenset(missing) else None


@dataclass(frozen=True)
class FilmFile:
    """The file of a film, with the values of its header.

    Args:
        path: the file.
        width, height: size of the image in pixels, 0 if the header cannot be read; reading its pixels raises the error.
        study, patient: pseudonyms, "" where the header has none.
    """

    path: Path
    width: int = 0
    height: int = 0
    study: str = ""
    patient: str = ""


def marked_film(
    file: FilmFile, name: str, patient: str, marks: Marks, findings: FindingVocabulary, **more: Any
) -> Film:
    """Return a film with its marks. ``patient`` is an identifier, not a pseudonym; it is used if the file has none.

    A detector cannot learn a finding without a box, so the film is not labelled for such findings.
    """
    fields: dict[str, Any] = {"labelled": labelled_for(findings, marks.unboxed)} | more
    return Film(
        file.path, name, file.study or pseudonym(name), file.patient or pseudonym(patient), marks.corners,
        marks.findings, file.width, file.height, **fields,
    )  # fmt: skip


def find_images(root: Root, table: Path, names: Iterable[str], folders: Sequence[Path]) -> dict[str, Path]:
    """Return the paths of the images of a table in ``folders``, by name. Names may lack the extension.

    A part of a data set is enough: a warning counts the missing images. Raises ``FileNotFoundError`` if all are
    missing, and ``TableError`` for names that are paths and for images outside ``root``.
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
    paths = {name: there[name] for name in wanted if name in there}
    looked = ", ".join(str(folder) for folder in folders)
    if wanted and not paths:
        raise FileNotFoundError(f"{table}: none of its {len(wanted)} images lies in {looked}")
    if missing := len(wanted) - len(paths):
        first = next(name for name in wanted if name not in paths)
        _log.warning("%s: %d of %d images are not in %s and left out, first %s", table, missing, len(wanted), looked, first)  # fmt: skip  # noqa: E501
    root.check_images(table, {path.name: path for path in paths.values()})
    return paths


def read_files(paths: Mapping[str, Path]) -> dict[str, FilmFile]:
    """Return the file of each image with the size in its header; for DICOM files also the study, and any patient.

    No pixels are read. A header that cannot be read gives the size 0.
    """
    with ThreadPoolExecutor() as pool:
        return dict(zip(paths, pool.map(_read_file, paths.values()), strict=True))


def fit_marks(table: Path, marks: Iterable[tuple[str, Marks]], files: Mapping[str, FilmFile]) -> None:
    """Clip boxes that reach slightly over the border of their film (``cxr.data.sources.boxes.fit``).

    The size of a film is unknown if it is not in ``files``, or if its header cannot be read. Its boxes are then checked
    with the largest possible size. Raises one ``TableError`` for all boxes that are not on their film, and for all
    rows with impossible boxes.
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
    except Exception:  # also of Pillow; if ultralytics is imported, it replaces Pillow's exceptions
        return FilmFile(path)
    # without PatientID, patient and study have the same pseudonym
    patient = "" if header.patient == header.study else header.patient
    return FilmFile(path, header.columns, header.rows, header.study, patient)
