"""Films of a folder, without a table and without marks: what a trained detector is shown."""

from pathlib import Path

import numpy as np

from cxr.data.film import Film
from cxr.read.dicom import ReadError, find_dicoms, read_header
from cxr.read.picture import is_picture

_SAYS_DICOM = (".dcm", ".dicom")


def read_folder(path: Path) -> tuple[list[Film], list[tuple[Path, ReadError]]]:
    """Return the films at ``path``, one file or all below a folder, and the files that should be films with why not.

    Films are DICOM files and pictures, known by content. Files of another kind (a csv, a text) are passed over, unless
    their names end like a DICOM file's. Only headers are read. Raises ``ValueError`` where there is nothing.
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
    """Return ``path`` where it is a file, else the films below it, sorted, chosen as ``read_folder`` says.

    Raises ``ValueError`` where there is none.
    """
    if path.is_file():
        return [path]
    found = set(find_dicoms(path))
    for file in path.rglob("*"):
        if file.is_file() and file not in found:
            with file.open("rb") as opened:
                if is_picture(opened.read(132)) or file.suffix.lower() in _SAYS_DICOM:
                    found.add(file)
    if not found:
        raise ValueError(f"{path}: holds no film, neither DICOM nor picture")
    return sorted(found)
