"""Reads NIH ChestX-ray14: 112,120 PNG with labels extracted from reports, about 880 with boxes by a radiologist.

    BBox_List_2017.csv           Image Index,Finding Label,Bbox [x,y,w,h],,,
    Data_Entry_2017.csv          Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,…  (or …_v2020.csv)
    images/<Image Index>         or images_001/images/ … images_012/images/
    test_list.txt                the official test films

The brackets in the header of the table of boxes contain commas, so its columns do not fit the rows: after the label
follow x, y, w and h in pixels of the 1024 × 1024 PNG. "Infiltrate" there is "Infiltration" here.
Source: Wang et al. 2017, CVPR, arXiv:1705.02315.
"""

import logging
from collections import defaultdict
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path

from cxr.data.film import Film
from cxr.data.sources.boxes import corner_and_size, numbers
from cxr.data.sources.marks import (
    Marks,
    find_images,
    fit_marks,
    labelled_for,
    marked_film,
    note_unboxed,
    read_files,
)
from cxr.data.sources.root import Root
from cxr.data.sources.tables import (
    TableError,
    raise_problems,
    read_rows,
    read_table,
    read_text,
    shown,
    shown_names,
)
from cxr.findings import NORMAL, FindingVocabulary
from cxr.read.film_groups import age_band, view_of

_log = logging.getLogger(__name__)

_BOXES = "BBox_List_2017.csv"
_ENTRIES = "Data_Entry_2017*.csv"
_AGE, _SEX, _VIEW = "Patient Age", "Patient Gender", "View Position"  # columns that a part of the table may lack
_BOXED = ("Atelectasis", "Cardiomegaly", "Effusion", "Infiltrate", "Mass", "Nodule", "Pneumonia", "Pneumothorax")
_NEVER_BOXED = ("Consolidation", "Edema", "Emphysema", "Fibrosis", "Pleural_Thickening", "Hernia")


def read_nih(
    root: Path | str, findings: FindingVocabulary, normals: int | None = 1000, test_list: bool = False
) -> list[Film]:
    """Return the films with boxes, and normal ones; boxes [N, 4] xyxy in pixels of the PNG.

    A film with findings but without boxes is left out, because no detector can learn from it. If the report of a film
    with boxes names another finding without a box, the film is not labelled for that one (``Film.labelled``). Films of
    "No Finding" are normal according to a report; no reader looked at them for this data set.

    Args:
        root: the folder of ``BBox_List_2017.csv``.
        findings: vocabulary with the eight findings that have boxes, as in ``conf/findings/nih.yaml``; films are not
            labelled for any other finding.
        normals: number of the 60,361 normal films that are returned, chosen by a hash of their names; None means all.
        test_list: whether films of ``test_list.txt`` are the test set. Nearly all films with boxes are in it, so this
            is for a run that trains on other sources.

    Raises ``FileNotFoundError``, ``UnknownLabelError`` and ``TableError``.
    """
    base, place = Path(root), Root(Path(root))
    boxed = _boxed(place.check(base / _BOXES), findings)
    entries = sorted(base.glob(_ENTRIES))
    if not entries:
        raise FileNotFoundError(f"{base} holds no {_ENTRIES}, expected Data_Entry_2017.csv beside {_BOXES}")
    labels, patients, groups = _labels(place.check(entries[-1]), findings)
    if stray := sorted(boxed.keys() - labels.keys()):
        raise TableError(f"{base / _BOXES}: {len(stray)} films are not in {entries[-1].name}, first {shown(stray[0])}")
    healthy = [name for name, names in labels.items() if names == {NORMAL} and name not in boxed]
    if left_out := len(labels) - len(boxed) - len(healthy):
        _log.warning("%s: %d films have findings but no box and are left out.", entries[-1], left_out)
    marks = boxed | {name: Marks() for name in sorted(healthy, key=_by_chance)[:normals]}
    images = find_images(place, entries[-1], marks, [base / "images", *sorted(base.glob("images_*/images")), base])
    never = set(findings.names) - set(findings.resolve(_BOXED))
    held_back = _listed(place.check(base / "test_list.txt")) if test_list else set()
    files = read_files(images)
    fit_marks(base / _BOXES, boxed.items(), files)
    return [
        marked_film(
            file, name, patient_name(patients[name]), marks[name], findings,
            split="test" if name in held_back else "",
            labelled=labelled_for(findings, (labels[name] | marks[name].unboxed | never) - set(marks[name].findings)),
            groups=groups[name],
        )
        for name, file in files.items()
    ]  # fmt: skip


def is_nih(root: Path) -> bool:
    """Return whether ``root`` has the table of boxes of this data set."""
    return (root / _BOXES).is_file()


def is_patient_number(text: str) -> bool:
    """Return whether ``text`` is a patient's number in ChestX-ray14, such as 1 or 00000001."""
    return text.isdecimal() and len(text) <= 12


def patient_name(number: str) -> str:
    """Return the name of a patient of ChestX-ray14: the same in all data sets that have films of it."""
    return f"ChestX-ray14 {int(number)}"


def _boxed(table: Path, findings: FindingVocabulary) -> dict[str, Marks]:
    (_, header), *rows = read_rows(table).items()
    if header[:2] != ["Image Index", "Finding Label"] or len(header) < 6:
        raise TableError(
            f"{table} begins with {shown_names(header)}, expected Image Index, Finding Label, Bbox [x, y, w, h]"
        )
    if not rows:
        raise TableError(f"{table} has column names and no row, expected a row a box")
    raise_problems(table, [
        f"row {line}: {len(row)} cells, expected Image Index, Finding Label, x, y, w, h"
        for line, row in rows if len(row) < 6 or any(row[6:]) or not row[0]
    ])  # fmt: skip
    names = findings.resolve([row[1] for _, row in rows], str(table), [line for line, _ in rows])
    marks: dict[str, Marks] = defaultdict(Marks)
    for (line, row), name in zip(rows, names, strict=True):
        try:
            values = numbers(row[2:6])
            marks[row[0]].add(name, None if values is None else corner_and_size(values), f"row {line}")
        except ValueError as error:
            marks[row[0]].problems.append(f"row {line}: {error}; a finding without a box has four empty cells")
    note_unboxed(table, marks.values())
    return marks


def _labels(
    table: Path, findings: FindingVocabulary
) -> tuple[dict[str, set[str]], dict[str, str], dict[str, dict[str, str]]]:
    """Return of each film the findings of its report that can have boxes (or "normal"), its Patient ID, its groups."""
    records = read_table(table, ["Image Index", "Finding Labels", "Patient ID"], [_AGE, _SEX, _VIEW])
    _check_entries(table, records)
    spelt = {label for record in records.values() for label in record["Finding Labels"].split("|")}
    boxable = sorted(spelt - set(_NEVER_BOXED))
    # A finding that never has boxes keeps its name, so its film does not count as normal
    names = dict(zip(boxable, findings.resolve(boxable, str(table)), strict=True)) | {n: n for n in _NEVER_BOXED}
    labels = {r["Image Index"]: {names[label] for label in r["Finding Labels"].split("|")} for r in records.values()}
    patients = {record["Image Index"]: record["Patient ID"] for record in records.values()}
    return labels, patients, {record["Image Index"]: _groups(record) for record in records.values()}


def _groups(record: Mapping[str, str]) -> dict[str, str]:
    """Return the groups of a film that the table tells of; the age is "58", or "058Y" in the first edition."""
    years = record[_AGE].removesuffix("Y")
    age = age_band(int(years)) if years.isdecimal() and len(years) <= 3 else ""
    sex = record[_SEX] if record[_SEX] in ("M", "F") else ""
    groups = {"sex": sex, "age": age, "view": view_of(record[_VIEW])}
    return {kind: group for kind, group in groups.items() if group}


def _check_entries(table: Path, records: Mapping[int, Mapping[str, str]]) -> None:
    """Raise ``TableError`` for rows without a film or a patient, and for films that are there twice."""
    first: dict[str, int] = {}
    problems = []
    for line, record in records.items():
        if not is_patient_number(record["Patient ID"]):
            problems.append(f"row {line}: Patient ID is {shown(record['Patient ID'])}, expected a number")
        if not record["Image Index"]:
            problems.append(f"row {line}: no Image Index")
        elif (other := first.setdefault(record["Image Index"], line)) != line:
            problems.append(f"row {line}: the same Image Index as row {other}, expected one row a film")
    raise_problems(table, problems)


def _by_chance(name: str) -> bytes:
    return blake2b(name.encode(), digest_size=8).digest()


def _listed(table: Path) -> set[str]:
    if not table.is_file():
        raise FileNotFoundError(f"{table} is missing, expected the official test films; or type test_list=false")
    return set(read_text(table).split())
