"""Whose film it is, where de-identification has put one and the same PatientID on the films of many patients."""

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from cxr.data.film import Film
from cxr.read.dicom import pseudonym

_log = logging.getLogger(__name__)

# An id is a placeholder when more than a tenth of the films bear it. Of fewer than ten films it is believed: to keep
# ten films in one split by mistake costs nothing, to tear the films of one patient apart makes a score worthless.
_SHARE = 0.1
_FILMS = 10


def without_placeholders(films: Sequence[Film]) -> list[Film]:
    """Return films of which those with a placeholder for PatientID have their own ID as the patient, with a warning.

    Where all films share one id it is a placeholder however few they are: nothing could be split otherwise.
    """
    placeholders = _placeholders(film.patient for film in films)
    affected = sum(film.patient in placeholders for film in films)
    if affected:
        _log.warning(
            "%d of %d films bear a PatientID that too many share, a placeholder: they are split by their own ID. Films "
            "of one patient among them may stand in two splits.", affected, len(films),
        )  # fmt: skip
    return [replace(f, patient=pseudonym(f.id)) if f.patient in placeholders else f for f in films]


def _placeholders(patients: Iterable[str]) -> set[str]:
    numbers = Counter(patients)
    total = numbers.total()
    if len(numbers) == 1 and total > 1:
        return set(numbers)
    return {patient for patient, films in numbers.items() if films >= _FILMS and films > _SHARE * total}
