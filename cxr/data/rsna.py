"""The RSNA Pneumonia Detection Challenge of Kaggle: DICOM films of ChestX-ray14, boxes around lung opacities.

    stage_2_train_labels.csv           patientId,x,y,width,height,Target        one row a box; without one Target is 0
    stage_2_detailed_class_info.csv    patientId,class                          the same films, rows as often as above
    stage_2_train_images/<patientId>.dcm
    pneumonia-challenge-dataset-mappings_2018.json     optional, of the RSNA: which film of ChestX-ray14 each one is

``patientId`` names a film, not a patient. Coordinates are pixels of the 1024 × 1024 film.
Source: Shih et al. 2019, Radiology: Artificial Intelligence 1:e180041.
"""

import json
import logging
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

from cxr.data.film import Film
from cxr.data.marks import Marks, find_images, marked_film, note_unusable, told, with_headers
from cxr.data.nih import patient_name
from cxr.data.tables import TableError, corner_and_size, raise_problems, read_table
from cxr.findings import FindingVocabulary
from cxr.read.dicom import pseudonym

_log = logging.getLogger(__name__)

_LABELS = "stage_2_train_labels.csv"
_CLASSES = "stage_2_detailed_class_info.csv"
_MAPPINGS = "pneumonia-challenge-dataset-mappings_2018.json"
_OPACITY, _NORMAL, _OTHER = "Lung Opacity", "Normal", "No Lung Opacity / Not Normal"


def read_rsna(root: Path | str, findings: FindingVocabulary) -> list[Film]:
    """Return the films of ``root``, boxes [N, 4] xyxy in original pixels.

    Films "No Lung Opacity / Not Normal" have no box and are not normal: they tell that there is no opacity, and nothing
    else. Their patients are those of ChestX-ray14 where the mapping of the RSNA lies in ``root``; without it each film
    stands for itself, and films of one patient may come into two splits.

    Raises ``FileNotFoundError``, ``UnknownLabelError`` where ``findings`` has no "Lung Opacity", and ``TableError``.
    """
    base = Path(root)
    opacity = findings.canonical(_OPACITY)
    marks = _marks(base / _LABELS, opacity)
    classes = _classes(base / _CLASSES)
    _check(base, marks, classes)
    images = find_images(base / _LABELS, marks, [base / "stage_2_train_images", base])
    films = [
        marked_film(
            path, name, name, marks[name], findings,
            labelled=frozenset(findings.names) if classes[name] == _OTHER else told(findings, marks[name].unboxed),
        )
        for name, path in images.items()
    ]  # fmt: skip
    return _with_patients(with_headers(films), base / _MAPPINGS)


def is_rsna(root: Path) -> bool:
    """Whether ``root`` holds the labels of this data set."""
    return (root / _LABELS).is_file()


def _marks(table: Path, opacity: str) -> dict[str, Marks]:
    marks: dict[str, Marks] = defaultdict(Marks)
    problems = []
    for line, record in read_table(table, ["patientId", "x", "y", "width", "height", "Target"]).items():
        of_film = marks[record["patientId"]]
        try:
            if int(float(record["Target"])):
                of_film.add(opacity, corner_and_size([record[c] for c in ("x", "y", "width", "height")]))
        except ValueError as error:
            problems.append(f"row {line}: {error}, expected numbers and Target 0 or 1")
    raise_problems(table, problems)
    note_unusable(table, marks)
    return marks


def _classes(table: Path) -> dict[str, str]:
    records = read_table(table, ["patientId", "class"])
    classes: dict[str, str] = {}
    problems = []
    for line, record in records.items():
        if record["class"] not in (_OPACITY, _NORMAL, _OTHER):
            problems.append(f"row {line}: class is {record['class']!r}, expected {_OPACITY}, {_NORMAL} or {_OTHER}")
        elif classes.setdefault(record["patientId"], record["class"]) != record["class"]:
            problems.append(f"row {line}: class is {record['class']!r}, further up {classes[record['patientId']]!r}")
    raise_problems(table, problems)
    return classes


def _check(base: Path, marks: dict[str, Marks], classes: dict[str, str]) -> None:
    """Raise ``TableError`` for films whose two tables tell different things."""
    if missing := sorted(marks.keys() - classes.keys()):
        raise TableError(f"{base / _CLASSES}: {len(missing)} films of {_LABELS} are not in it, first {missing[0]}")
    marked = {name for name, of_film in marks.items() if of_film.boxes or of_film.unboxed}
    if other := sorted(name for name in marks if (name in marked) != (classes[name] == _OPACITY)):
        first = other[0]
        raise TableError(
            f"{base / _LABELS}: {len(other)} films do not fit {_CLASSES}; the first, {first}, has "
            f"{len(marks[first].boxes)} boxes and the class {classes[first]!r}"
        )


def _with_patients(films: list[Film], mappings: Path) -> list[Film]:
    if not mappings.is_file():
        _log.warning(
            "%s: no %s: patients are not known, and films of one may stand in two splits.", mappings.parent, _MAPPINGS
        )
        return films
    listed = json.loads(mappings.read_text(encoding="utf-8-sig"))
    # img_id is the film's name in ChestX-ray14: <patient>_<number>.png
    patients = {film["subset_img_id"]: patient_name(film["img_id"].partition("_")[0]) for film in listed}
    return [replace(f, patient=pseudonym(patients[f.id])) if f.id in patients else f for f in films]
