"""Films that nobody has marked, beside marked ones: which of them may be learnt from."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cxr.data.film import Film
from cxr.data.folder import read_folder
from cxr.data.patients import without_placeholders
from cxr.read.cache import FilmCache
from cxr.read.dicom import ReadError
from cxr.read.files import first_bytes
from cxr.read.picture import is_picture

_log = logging.getLogger(__name__)

_HELD = ("val", "test")  # splits of the marked films that nothing may be learnt from


@dataclass(frozen=True)
class HeldBack:
    """What the films are known by that must not be learnt from: pseudonyms of patients, and digests of pixels."""

    patients: frozenset[str]
    digests: frozenset[str]


def films_below(folder: Path) -> tuple[list[Film], list[tuple[Path, ReadError]]]:
    """Return the films at a path, and the files that cannot be read, with the reasons; see ``read_folder``.

    Films are DICOM files, or pictures where there is no DICOM file: pictures beside them are marks, thumbnails or
    figures. Patients are those that the files state (``allowed``). Raises ``ValueError`` if there is no film.
    """
    films, failures = read_folder(folder)
    dicom = [film for film in films if not is_picture(first_bytes(film.path))]
    if dicom and len(dicom) < len(films):
        _log.warning("%d pictures are left out, as they lie beside DICOM files", len(films) - len(dicom))
    return dicom or films, failures


def allowed(films: Sequence[Film], held: HeldBack) -> list[Film]:
    """Return the films but for those of patients who are held back; then placeholders give way to films of their own.

    In this order: in a folder with many films of one patient, who tests, that patient's ID looks like a placeholder.
    """
    return without_placeholders([film for film in films if film.patient not in held.patients])


def without_copies(films: Sequence[Film], cache: FilmCache) -> list[Film]:
    """Return the films, the first of those that are one picture."""
    once = {cache.get(film.path).digest: film for film in reversed(films)}
    if len(once) < len(films):
        _log.info("%d of %d films are copies of others and are taken once", len(films) - len(once), len(films))
    return list(once.values())[::-1]


def held_back(marked: Mapping[str, Sequence[Film]], cache: FilmCache) -> HeldBack:
    """Return who validates and tests the marked films.

    The patient of a marked film is the one its data set states, and the one its file states. A file's patient who
    stands in training too is a placeholder for many, and tells nothing.
    """
    in_files = {split: {cache.get(film.path).patient for film in films} for split, films in marked.items()}
    films = [film for split in _HELD for film in marked[split]]
    patients = {film.patient for film in films}
    for split in _HELD:
        patients |= in_files[split] - in_files["train"]
    return HeldBack(frozenset(patients), frozenset(cache.get(film.path).digest for film in films))


def unmarked_films(
    folder: Path, marked: Mapping[str, Sequence[Film]], chosen: Sequence[Film], cache: FilmCache
) -> tuple[list[Film], list[tuple[Path, ReadError]]]:
    """Return the films below a folder that may be learnt from beside marked ones, and the files that cannot be read.

    A film that is one of the ``chosen``, whose marks are learnt, is left out, known by its pixels, and so is one that
    validates or tests, or is of a patient who does. A training film that was not chosen (``shots``) stays: its marks
    are not used. What is left says nothing of any finding (``Film.labelled``). Raises ``ValueError`` if the folder is
    not there, and if no film is left.
    """
    if not folder.exists():
        raise ValueError(f"data.unmarked={folder}: there is no such folder; type data.unmarked=FOLDER, or null")
    listed, failures = films_below(folder)
    held = held_back(marked, cache)
    digests = held.digests | {cache.get(film.path).digest for film in chosen}
    films = allowed(listed, held)
    failed = cache.fill([film.path for film in films])
    readable = [film for film in films if film.path not in failed]
    kept = [film for film in readable if cache.get(film.path).digest not in digests]
    if left_out := len(listed) - len(films) + len(readable) - len(kept):
        _log.warning(
            "%d of %d unmarked films are left out: %d are of patients who validate or test, %d are marked films",
            left_out, len(listed), len(listed) - len(films), len(readable) - len(kept),
        )  # fmt: skip
    if not kept:
        raise ValueError(f"data.unmarked={folder}: none of its {len(listed)} films may be learnt from")
    errors = sorted([*failures, *failed.items()], key=lambda failure: failure[0])
    once = without_copies(kept, cache)
    return [replace(film, labelled=frozenset(), source="unmarked") for film in once], errors
