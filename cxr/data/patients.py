"""Handles placeholders for PatientID: de-identification may put the same ID on the films of many patients."""

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from cxr.data.film import Film
from cxr.read.dicom import pseudonym

_log = logging.getLogger(__name__)

# An ID is a placeholder if more than a tenth of the films have it. With fewer than ten films it is taken as true: ten
# films in one split by mistake do no harm, but films of one patient in two splits make a score worthless.
_SHARE = 0.1
_FILMS = 10


def without_placeholders(films: Sequence[Film]) -> list[Film]:
    """Return the films; a film with a placeholder for PatientID gets its own ID as the patient, with a warning.

    An ID that all films share is a placeholder even for few films, because they could not be split otherwise.
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
