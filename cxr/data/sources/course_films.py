"""Makes films of the course layout from the headers of their files, and boxes from fractions of the film."""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from cxr.data.film import Film
from cxr.data.sources.boxes import Box
from cxr.read.dicom import Header, ReadError, pseudonym, read_header

ReadCopy = tuple[Path, Header | None]
"""The copy of a film that was read, and its header, None if no copy has a readable header."""


def read_headers(films: Iterable[Sequence[Path]]) -> list[ReadCopy]:
    """Return the first readable copy of each film with its header; if none is readable, the first copy and None."""

    def first_readable(copies: Sequence[Path]) -> ReadCopy:
        for path in copies:
            try:
                return path, read_header(path)
            except ReadError:
                continue
        return copies[0], None

    with ThreadPoolExecutor() as pool:
        return list(pool.map(first_readable, films))


def make_film(film_id: str, copies: Sequence[Path], read: ReadCopy, listed: tuple[int, int], split: str = "") -> Film:
    """Return a film without boxes. Its size is that of its header, or without one the size ``listed`` in the csv."""
    path, header = read
    named = header is not None and header.patient != header.study  # without PatientID it is the same as the study
    return Film(
        path=path,
        id=film_id,
        study=header.study if header else pseudonym(film_id),
        patient=header.patient if header and named else pseudonym(film_id),
        boxes=np.zeros((0, 4), np.float32),
        findings=(),
        width=header.columns if header else listed[0],
        height=header.rows if header else listed[1],
        split=split,
        copies=tuple(copy for copy in copies if copy != path),
    )


def with_boxes(film: Film, boxes: Sequence[tuple[str, Box]]) -> Film:
    """Return ``film`` with these boxes (finding, xyxy), whose coordinates are fractions of its width and height."""
    fractions = np.array([box for _, box in boxes], np.float64).reshape(-1, 4)
    pixels = (fractions * (film.width, film.height, film.width, film.height)).astype(np.float32)
    return replace(film, boxes=pixels, findings=tuple(finding for finding, _ in boxes))


def listed_size(record: Mapping[str, str]) -> tuple[int, int]:
    """Return Width and Height of the csv, 0 where it has no number. They are used only if the file is damaged."""
    width, height = (int(cell) if (cell := record[c]).isdecimal() and len(cell) < 6 else 0 for c in ("Width", "Height"))
    return width, height
