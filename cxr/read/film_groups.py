"""Which groups a film belongs to, as its header states: sex, age, view, maker, machine and year.

Detectors fail for groups: a machine, a view, the old. Only the group leaves the file. A birth date becomes one of three
bands of age, and a date becomes its year; no name, identifier or institution is read.
"""

import re
from datetime import date
from pathlib import Path

from cxr.read.files import first_bytes
from cxr.read.part10 import looks_like_dicom
from cxr.read.picture import is_picture
from cxr.read.radiograph import ReadError
from cxr.read.tags import Tags, open_tags

STATED = ("sex", "age", "view", "maker", "machine", "year")
"""What a header may state, in the order of reports."""

AGES = ("<40", "40-64", "65+")
"""Bands of age in years. They are wide, because few films are not enough for decades, and nobody is known by one."""

_ELEMENTS = ["PatientSex", "PatientAge", "PatientBirthDate", "StudyDate", "AcquisitionDate"]
_ELEMENTS += ["ViewPosition", "Manufacturer", "ManufacturerModelName"]
_SEXES = {"M": "M", "F": "F", "O": "O"}  # PS3.3 C.7.1.1: male, female, other
_AGE = re.compile(r"(\d{3})([DWMY])")  # PS3.5: Age String
_A_YEAR = {"D": 365.25, "W": 52.18, "M": 12, "Y": 1}
_OLDEST = 125
_PLACEHOLDER = date(1900, 1, 1)  # what systems write where they know no date: its bearer would count as old
_LONGEST = 48  # letters of a name


def read_groups(path: Path | str) -> dict[str, str]:
    """Return the group of a film by its kind, of ``STATED``; what the header does not state is missing.

    A picture has no header and states nothing. Neither does a header that is damaged: this is no reason to leave out a
    film whose pixels can be read.
    """
    path = Path(path)
    try:
        start = first_bytes(path)
        if is_picture(start) and not looks_like_dicom(start):
            return {}
        with open_tags(path, _ELEMENTS) as tags:
            return {kind: group for kind, group in _groups(tags).items() if group}
    except ReadError:
        return {}


def _groups(tags: Tags) -> dict[str, str]:
    taken = _day(tags.text("StudyDate")) or _day(tags.text("AcquisitionDate"))
    maker = name_of(tags.text("Manufacturer"))
    model = name_of(tags.text("ManufacturerModelName"))
    years = _years(tags.text("PatientAge"), _day(tags.text("PatientBirthDate")), taken)
    return {
        "sex": _SEXES.get(tags.text("PatientSex").upper(), ""),
        "age": "" if years is None else age_band(years),
        "view": view_of(tags.text("ViewPosition")),
        "maker": maker,
        "machine": model if not maker or model.startswith(maker) else f"{maker} {model}" if model else "",
        "year": "" if taken is None else str(taken.year),
    }


def age_band(years: float) -> str:
    """Return the band of ``AGES`` in which an age lies; "" where nobody is so old."""
    if not 0 <= years <= _OLDEST:
        return ""
    return AGES[0] if years < 40 else AGES[1] if years < 65 else AGES[2]


def view_of(text: str) -> str:
    """Return a ViewPosition as a group; "" for what is no code, as it may be anything."""
    code = text.strip().upper()
    return code if re.fullmatch(r"[A-Z0-9_]{1,16}", code) else ""


def name_of(text: str) -> str:
    """Return the name of a maker or a machine in one spelling: capitals, single blanks, no marks that a table obeys."""
    kept = "".join(letter if letter.isalnum() or letter in ".-_/()+&" else " " for letter in text.upper())
    return " ".join(kept.split())[:_LONGEST].strip(" .-_/()+&")


def _years(stated: str, born: date | None, taken: date | None) -> float | None:
    """Return the age that is stated, else the one that the two dates give."""
    if found := _AGE.fullmatch(stated.strip().upper()):
        return int(found[1]) / _A_YEAR[found[2]]
    return None if born is None or taken is None else (taken - born).days / 365.25


def _day(text: str) -> date | None:
    """Return a day of PS3.5, YYYYMMDD; None where the text is none."""
    try:
        day = date.fromisoformat(text.strip()[:8])
    except ValueError:
        return None
    return day if 1895 <= day.year <= 2200 and day != _PLACEHOLDER else None  # 1895: Röntgen's first film
