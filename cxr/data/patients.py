"""Handles placeholders for PatientID: de-identification may put the same ID on the films of many patients."""

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TypeVar

from cxr.data.film import Film
from cxr.data.study import Study
from cxr.read.dicom import pseudonym

_log = logging.getLogger(__name__)

# An ID is a placeholder if more than a tenth of the films have it. With fewer than ten films it is taken as true: ten
# films in one split by mistake do no harm, but films of one patient in two splits make a score worthless.
_SHARE = 0.1
_FILMS = 10

AnyTaken = TypeVar("AnyTaken", Film, Study)


def without_placeholders(films: Sequence[AnyTaken], stated: Sequence[bool] | None = None) -> list[AnyTaken]:
    """Return the films; a film with a placeholder for PatientID gets its own ID as the patient, with a warning.

    An ID that all films share is a placeholder even for few films, because they could not be split otherwise.
    ``stated`` holds for each film whether its data set names the patient, who is then kept; None: for no film.
    """
    known = stated or [False] * len(films)
    unstated = [film.patient for film, kept in zip(films, known, strict=True) if not kept]
    placeholders = _placeholders(unstated)
    if affected := sum(patient in placeholders for patient in unstated):
        _log.warning(
            "%d of %d films have a PatientID that too many films share, so it is a placeholder: each counts as another "
            "patient. Films of one patient may be in two splits.", affected, len(unstated),
        )  # fmt: skip
    return [
        replace(film, patient=pseudonym(film.id)) if not kept and film.patient in placeholders else film
        for film, kept in zip(films, known, strict=True)
    ]


def _placeholders(patients: Iterable[str]) -> set[str]:
    numbers = Counter(patients)
    total = numbers.total()
    if len(numbers) == 1 and total > 1:
        return set(numbers)
    return {patient for patient, films in numbers.items() if films >= _FILMS and films > _SHARE * total}
