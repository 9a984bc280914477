"""What the rows of a table say of one film, and the film they make."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cxr.data.film import Film
from cxr.data.tables import Box
from cxr.findings import FindingVocabulary
from cxr.read.dicom import ReadError, pseudonym, read_header
from cxr.read.picture import is_picture
from cxr.read.tags import looks_like_dicom

_log = logging.getLogger(__name__)


@dataclass
class Marks:
    """What is marked on a film: each (finding, box) once, and the findings that it has without a usable box."""

    boxes: list[tuple[str, Box]] = field(default_factory=list)
    unboxed: set[str] = field(default_factory=set)

    def add(self, finding: str, box: Box | None) -> None:
        """Add a row of a table; ``box`` is None where the row has none that encloses an area."""
        if box is None:
            self.unboxed.add(finding)
        elif (finding, box) not in self.boxes:
            self.boxes.append((finding, box))

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


def marked_film(path: Path, name: str, patient: str, marks: Marks, findings: FindingVocabulary, **more: Any) -> Film:
    """Return a film with its marks, still without its size; ``patient`` is an identifier, not yet a pseudonym.

    A finding it has without a usable box is none it could teach: it is not labelled for it.
    """
    fields: dict[str, Any] = {"labelled": told(findings, marks.unboxed)} | more
    return Film(
        path, name, pseudonym(name), pseudonym(patient), marks.corners, marks.findings, width=0, height=0, **fields
    )


def find_images(table: Path, names: Iterable[str], folders: Sequence[Path]) -> dict[str, Path]:
    """Return where the images of a table lie in ``folders``, by name, given there with or without an extension.

    A part of a data set is a data set: images that are missing are counted in a warning. Raises ``FileNotFoundError``
    where there is none at all.
    """
    there: dict[str, Path] = {}
    for path in (path for folder in folders if folder.is_dir() for path in sorted(folder.iterdir()) if path.is_file()):
        there.setdefault(path.name, path)
        there.setdefault(path.stem, path)
    wanted = list(dict.fromkeys(names))
    found = {name: there[name] for name in wanted if name in there}
    looked = ", ".join(str(folder) for folder in folders)
    if wanted and not found:
        raise FileNotFoundError(f"{table}: none of its {len(wanted)} images lies in {looked}")
    if missing := len(wanted) - len(found):
        first = next(name for name in wanted if name not in found)
        _log.warning("%s: %d of %d images are not in %s and left out, first %s", table, missing, len(wanted), looked, first)  # fmt: skip  # noqa: E501
    return found


def with_headers(films: Sequence[Film]) -> list[Film]:
    """Return the films with the size in their image's header, and of DICOM files the study, and patient if named.

    No pixels are read. A file whose header cannot be read keeps the size 0: whoever reads its pixels reports it.
    """
    with ThreadPoolExecutor() as pool:
        return list(pool.map(_with_header, films))


def note_unusable(table: Path, marks: Mapping[Any, Marks]) -> None:
    """Warn of rows that name a finding without a box that encloses an area."""
    if count := sum(len(found.unboxed) for found in marks.values()):
        _log.warning(
            "%s: %d findings have no box with an area; their films are not labelled for them.", table, count
        )  # fmt: skip


def _with_header(film: Film) -> Film:
    with film.path.open("rb") as file:
        start = file.read(132)
    if is_picture(start) and not looks_like_dicom(start):
        try:
            with Image.open(film.path) as image:  # reads the header only
                return replace(film, width=image.width, height=image.height)
        except (OSError, ValueError, Image.DecompressionBombError):
            return film
    try:
        header = read_header(film.path)
    except ReadError:
        return film
    # without PatientID the study stands for the patient
    patient = film.patient if header.patient == header.study else header.patient
    return replace(film, width=header.columns, height=header.rows, study=header.study, patient=patient)
