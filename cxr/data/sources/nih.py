"""NIH ChestX-ray14: 112,120 PNG with labels mined from reports, about 880 of them with boxes drawn by a radiologist.

    BBox_List_2017.csv           Image Index,Finding Label,Bbox [x,y,w,h],,,
    Data_Entry_2017.csv          Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,…  (or …_v2020.csv)
    images/<Image Index>         or images_001/images/ … images_012/images/
    test_list.txt                the official test films

The boxes' header is not what stands below it: its brackets hold commas, so the last four of its columns are x, y, w and
h, pixels of the 1024 × 1024 PNG. "Infiltrate" there is "Infiltration" here.
Source: Wang et al. 2017, CVPR, arXiv:1705.02315.
"""

import logging
from collections import defaultdict
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path

from cxr.data.film import Film
from cxr.data.sources.boxes import corner_and_size, numbers
from cxr.data.sources.marks import Marks, find_images, fit_marks, marked_film, note_unboxed, read_files, told
from cxr.data.sources.root import Root
from cxr.data.sources.tables import (
    TableError,
    raise_problems,
    read_rows,
    read_table,
    read_text,
    resolve,
    shown,
    shown_names,
)
from cxr.findings import NORMAL, FindingVocabulary

_log = logging.getLogger(__name__)

_BOXES = "BBox_List_2017.csv"
_ENTRIES = "Data_Entry_2017*.csv"
_BOXED = ("Atelectasis", "Cardiomegaly", "Effusion", "Infiltrate", "Mass", "Nodule", "Pneumonia", "Pneumothorax")
_NEVER_BOXED = ("Consolidation", "Edema", "Emphysema", "Fibrosis", "Pleural_Thickening", "Hernia")


def read_nih(
    root: Path | str, findings: FindingVocabulary, normals: int | None = 1000, test_list: bool = False
) -> list[Film]:
    """Return the films with boxes, and normal ones; boxes [N, 4] xyxy in pixels of the PNG.

    A film that has findings but no box can teach no detector and is left out. A boxed film whose report names a further
    finding, for which nobody drew a box, is not labelled for that one (``Film.labelled``). Films of "No Finding" are
    normal as far as a report tells: no reader looked at them for this data set.

    Args:
        root: the folder of ``BBox_List_2017.csv``.
        findings: in which the eight boxed findings are known, as in ``conf/findings/nih.yaml``; of any other finding
            nothing is told.
        normals: how many of the 60,361 normal films come along, those of one hash of their names; None takes all.
        test_list: whether films of ``test_list.txt`` are the test set. Nearly all boxed films are in it, so that hardly
            any would be left to train on: for a run that trains on other sources.

    Raises ``FileNotFoundError``, ``UnknownLabelError`` and ``TableError``.
    """
    base, place = Path(root), Root(Path(root))
    boxed = _boxed(place.check(base / _BOXES), findings)
    entries = sorted(base.glob(_ENTRIES))
    if not entries:
        raise FileNotFoundError(f"{base} holds no {_ENTRIES}, expected Data_Entry_2017.csv beside {_BOXES}")
    labels, patients = _labels(place.check(entries[-1]), findings)
    if stray := sorted(boxed.keys() - labels.keys()):
        raise TableError(f"{base / _BOXES}: {len(stray)} films are not in {entries[-1].name}, first {shown(stray[0])}")
    healthy = [name for name, found in labels.items() if found == {NORMAL} and name not in boxed]
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
            labelled=told(findings, (labels[name] | marks[name].unboxed | never) - set(marks[name].findings)),
        )
        for name, file in files.items()
    ]  # fmt: skip


def is_nih(root: Path) -> bool:
    """Whether ``root`` holds the table of boxes of this data set."""
    return (root / _BOXES).is_file()


def is_patient_number(text: str) -> bool:
    """Whether ``text`` is a patient's number in ChestX-ray14, such as 1 or 00000001."""
    return text.isdecimal() and len(text) <= 12


def patient_name(number: str) -> str:
    """Return how a patient of ChestX-ray14 is called, in all data sets that were made of its films."""
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
    names = resolve((row[1] for _, row in rows), findings, table, (line for line, _ in rows))
    marks: dict[str, Marks] = defaultdict(Marks)
    for (line, row), name in zip(rows, names, strict=True):
        try:
            values = numbers(row[2:6])
            marks[row[0]].add(name, None if values is None else corner_and_size(values), f"row {line}")
        except ValueError as error:
            marks[row[0]].problems.append(f"row {line}: {error}; a finding without a box has four empty cells")
    note_unboxed(table, marks.values())
    return marks


def _labels(table: Path, findings: FindingVocabulary) -> tuple[dict[str, set[str]], dict[str, str]]:
    """Return of each film the findings of its report that can have boxes (or the normal one), and its Patient ID."""
    records = read_table(table, ["Image Index", "Finding Labels", "Patient ID"])
    _check_entries(table, records)
    spelt = {label for record in records.values() for label in record["Finding Labels"].split("|")}
    boxable = sorted(spelt - set(_NEVER_BOXED))
    # one that is never boxed keeps its name: its film is not normal
    names = dict(zip(boxable, findings.resolve(boxable, str(table)), strict=True)) | {n: n for n in _NEVER_BOXED}
    labels = {r["Image Index"]: {names[label] for label in r["Finding Labels"].split("|")} for r in records.values()}
    return labels, {record["Image Index"]: record["Patient ID"] for record in records.values()}


def _check_entries(table: Path, records: Mapping[int, Mapping[str, str]]) -> None:
    """Raise ``TableError`` for rows without a film or a patient, and for films that stand twice."""
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
