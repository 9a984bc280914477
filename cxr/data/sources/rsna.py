"""Reads the RSNA Pneumonia Detection Challenge of Kaggle: DICOM films of ChestX-ray14, boxes around lung opacities.

    stage_2_train_labels.csv           patientId,x,y,width,height,Target        a row for each box; Target 0: no box
    stage_2_detailed_class_info.csv    patientId,class                          the same films, each in as many rows
    stage_2_train_images/<patientId>.dcm
    pneumonia-challenge-dataset-mappings_2018.json     optional, of the RSNA: the film of ChestX-ray14 for each film

``patientId`` names a film, not a patient. Coordinates are pixels of the 1024 × 1024 film.
Source: Shih et al. 2019, Radiology: Artificial Intelligence 1:e180041.
"""

import logging
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from cxr.data.film import Film
from cxr.data.sources.boxes import Box, corner_and_size, number, numbers
from cxr.data.sources.documents import read_json
from cxr.data.sources.marks import Marks, find_images, fit_marks, marked_film, read_files
from cxr.data.sources.nih import is_patient_number, patient_name
from cxr.data.sources.root import Root
from cxr.data.sources.tables import TableError, raise_problems, read_table, shown
from cxr.findings import FindingVocabulary
from cxr.read.dicom import pseudonym

_log = logging.getLogger(__name__)

_LABELS = "stage_2_train_labels.csv"
_CLASSES = "stage_2_detailed_class_info.csv"
_MAPPINGS = "pneumonia-challenge-dataset-mappings_2018.json"
_BOX = ("x", "y", "width", "height")
_OPACITY, _NORMAL, _OTHER = "Lung Opacity", "Normal", "No Lung Opacity / Not Normal"


def read_rsna(root: Path | str, findings: FindingVocabulary) -> list[Film]:
    """Return the films of ``root``, boxes [N, 4] xyxy in original pixels.

    Films "No Lung Opacity / Not Normal" have no box and are not normal: they are labelled only for opacity. If the
    mapping of the RSNA is in ``root``, patients are those of ChestX-ray14. Without it each film counts as another
    patient, so films of one patient may be in two splits.

    Raises ``FileNotFoundError``, ``UnknownLabelError`` if ``findings`` has no "Lung Opacity", and ``TableError``.
    """
    base, place = Path(root), Root(Path(root))
    opacity = findings.canonical(_OPACITY)
    marks = _marks(place.check(base / _LABELS), opacity)
    classes = _classes(place.check(base / _CLASSES))
    _check(base, marks, classes)
    files = read_files(find_images(place, base / _LABELS, marks, [base / "stage_2_train_images", base]))
    fit_marks(base / _LABELS, marks.items(), files)
    films = [
        marked_film(
            file, name, name, marks[name], findings,
            labelled=frozenset(findings.names) if classes[name] == _OTHER else None,
        )
        for name, file in files.items()
    ]  # fmt: skip
    return _with_patients(films, place.check(base / _MAPPINGS))


def is_rsna(root: Path) -> bool:
    """Return whether ``root`` has the labels of this data set."""
    return (root / _LABELS).is_file()


def _marks(table: Path, opacity: str) -> dict[str, Marks]:
    marks: dict[str, Marks] = defaultdict(Marks)
    records = read_table(table, ["patientId", *_BOX, "Target"])
    raise_problems(table, [f"row {line}: no patientId" for line, record in records.items() if not record["patientId"]])
    for line, record in records.items():
        of_film = marks[record["patientId"]]
        try:
            if (box := _box(record)) is not None:
                of_film.add(opacity, box, f"row {line}")
        except ValueError as error:
            of_film.problems.append(f"row {line}: {error}")
    return marks


def _box(record: Mapping[str, str]) -> Box | None:
    """Return the box of a row, None if Target is 0, which means that there is none. Raises ``ValueError``."""
    target = number(record["Target"])
    if target not in (0, 1):
        raise ValueError(f"Target is {shown(record['Target'])}, expected 0 or 1")
    values = numbers([record[column] for column in _BOX])
    if (values is not None) != (target == 1):
        raise ValueError(f"Target is {target:g} {'with' if values else 'without'} a box, expected 1 with one, else 0")
    return None if values is None else corner_and_size(values)


def _classes(table: Path) -> dict[str, str]:
    records = read_table(table, ["patientId", "class"])
    classes: dict[str, str] = {}
    problems = []
    for line, record in records.items():
        if record["class"] not in (_OPACITY, _NORMAL, _OTHER):
            problems.append(
                f"row {line}: class is {shown(record['class'])}, expected {_OPACITY}, {_NORMAL} or {_OTHER}"
            )
        elif classes.setdefault(record["patientId"], record["class"]) != record["class"]:
            problems.append(
                f"row {line}: class is {shown(record['class'])}, further up {shown(classes[record['patientId']])}"
            )
    raise_problems(table, problems)
    return classes


def _check(base: Path, marks: dict[str, Marks], classes: dict[str, str]) -> None:
    """Raise ``TableError`` for films on which the two tables disagree."""
    if missing := sorted(marks.keys() - classes.keys()):
        raise TableError(
            f"{base / _CLASSES}: {len(missing)} films of {_LABELS} are not in it, first {shown(missing[0])}"
        )
    # problems in the rows of a film are reported later, with those of other films
    boxed = {name: bool(of_film.boxes) for name, of_film in marks.items() if not of_film.problems}
    if other := sorted(name for name, marked in boxed.items() if marked != (classes[name] == _OPACITY)):
        first = other[0]
        raise TableError(
            f"{base / _LABELS}: {len(other)} films do not fit {_CLASSES}; the first, {shown(first)}, has "
            f"{len(marks[first].boxes)} boxes and the class {classes[first]!r}"
        )


def _with_patients(films: list[Film], mappings: Path) -> list[Film]:
    if not mappings.is_file():
        _log.warning(
            "%s: no %s: patients are unknown, so films of one may be in two splits.", mappings.parent, _MAPPINGS
        )
        return films
    listed = read_json(mappings)
    if not isinstance(listed, list):
        raise TableError(f"{mappings} holds a {type(listed).__name__}, expected a list of films")
    raise_problems(mappings, [
        f"film {n}: {shown(entry)}, expected subset_img_id and img_id such as 00000001_000.png"
        for n, entry in enumerate(listed, start=1) if not _is_mapping(entry)
    ])  # fmt: skip
    # img_id is the film's name in ChestX-ray14: <patient>_<number>.png
    patients = {film["subset_img_id"]: patient_name(film["img_id"].partition("_")[0]) for film in listed}
    return [replace(f, patient=pseudonym(patients[f.id])) if f.id in patients else f for f in films]


def _is_mapping(entry: Any) -> bool:
    if not isinstance(entry, dict):
        return False
    film, original = entry.get("subset_img_id"), entry.get("img_id")
    return isinstance(film, str) and isinstance(original, str) and is_patient_number(original.partition("_")[0])
