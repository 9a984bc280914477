"""Films of a folder, without a table and without marks, for a trained detector."""

from pathlib import Path

import numpy as np

from cxr.data.film import Film
from cxr.read.dicom import ReadError, read_header
from cxr.read.files import files_below, look_at
from cxr.read.part10 import looks_like_dicom
from cxr.read.picture import is_picture

_SAYS_DICOM = (".dcm", ".dicom")


def read_folder(path: Path) -> tuple[list[Film], list[tuple[Path, ReadError]]]:
    """Return the films at ``path``, one file or all below a folder, and the files that cannot be read, with reasons.

    DICOM files and pictures are films; their content decides. Other files (a csv, a text) are skipped, unless their
    names end like that of a DICOM file. Only headers are read. Raises ``ValueError`` if there is no film.
    """
    paths = film_paths(path)
    films: list[Film] = []
    failures: list[tuple[Path, ReadError]] = []
    for file in paths:
        try:
            header = read_header(file)
        except ReadError as error:
            failures.append((file, error))
            continue
        name = file.name if file == path else str(file.relative_to(path))
        nothing = np.zeros((0, 4), np.float32)
        films.append(Film(file, name, header.study, header.patient, nothing, (), header.columns, header.rows))
    return films, failures


def film_paths(path: Path) -> list[Path]:
    """Return ``path`` if it is a file, else the sorted films below it, chosen as by ``read_folder``.

    A file that cannot be opened is returned too, since it may be a film: reading it raises the reason. Raises
    ``ValueError`` if there is no film.
    """
    if path.is_file():
        return [path]
    paths = sorted(file for file, start in files_below(path) if start is None or _is_film(file, start))
    if not paths:
        raise ValueError(f"{path}: holds no film, neither DICOM nor picture")
    return paths


def may_be_film(path: Path) -> bool:
    """Return whether ``film_paths`` takes this file of a folder."""
    there, start = look_at(path)
    return there and (start is None or _is_film(path, start))


def _is_film(file: Path, start: bytes) -> bool:
    return looks_like_dicom(start) or is_picture(start) or file.suffix.lower() in _SAYS_DICOM
