"""Reads ChestX-Det and ChestX-Det10: films of ChestX-ray14 with boxes by three radiologists, in two JSON files.

    ChestX_Det_train.json  ChestX_Det_test.json      (13 findings; ChestX-Det10: train.json, test.json, 10 findings)
        [{"file_name": "36302.png", "syms": ["Effusion"], "boxes": [[x1, y1, x2, y2]], "polygons": …}, …]
    train_data/<file_name>  test_data/<file_name>

``syms`` names the boxes in their order. A film without any was read and has none of the findings. Coordinates are
pixels of the 1024 × 1024 PNG. Source: Lian et al. 2021, arXiv:2104.10326; Liu et al. 2020, arXiv:2006.10550.
"""

import re
from pathlib import Path
from typing import Any

from cxr.data.film import Film
from cxr.data.sources.boxes import corners
from cxr.data.sources.documents import is_number, read_json
from cxr.data.sources.marks import Marks, find_images, fit_marks, labelled_for, marked_film, read_files
from cxr.data.sources.nih import patient_name
from cxr.data.sources.root import Root
from cxr.data.sources.tables import TableError, raise_problems, shown
from cxr.findings import FindingVocabulary

_SPLITS = ("train", "test")
_THIRTEEN, _TEN = "ChestX_Det_{}.json", "{}.json"
_NOT_OF_THE_TEN = ("Cardiomegaly", "Diffuse Nodule", "Pleural Thickening")


def read_chestxdet(root: Path | str, findings: FindingVocabulary) -> list[Film]:
    """Return the films of ``root``, boxes [N, 4] xyxy in original pixels; those of the test JSON have ``split="test"``.

    Films of ChestX-Det10 are not labelled for the three findings that were added later. Its files have their names of
    ChestX-ray14, so its patients are known. In ChestX-Det each film counts as another patient.

    Raises ``FileNotFoundError``, ``UnknownLabelError`` and ``TableError``.
    """
    base, place = Path(root), Root(Path(root))
    tables = [(base / name.format(split), split) for name in (_THIRTEEN, _TEN) for split in _SPLITS]
    tables = [(table, split) for table, split in tables if table.is_file()]
    if not tables:
        raise FileNotFoundError(f"{base} holds neither {_THIRTEEN.format('train')} nor {_TEN.format('train')}")
    return [film for table, split in tables for film in _read(place, table, split, findings)]


def is_chestxdet(root: Path) -> bool:
    """Return whether ``root`` has a JSON file of this data set."""
    if any((root / _THIRTEEN.format(split)).is_file() for split in _SPLITS):
        return True
    ten = root / _TEN.format("train")
    return ten.is_file() and b'"syms"' in ten.read_bytes()[:10_000]


def _read(place: Root, table: Path, split: str, findings: FindingVocabulary) -> list[Film]:
    entries = _entries(place.check(table))
    labels = sorted({label for entry in entries for label in entry["syms"]})
    names = dict(zip(labels, findings.resolve(labels, str(table)), strict=True))
    marks = {entry["file_name"]: _marks(n, entry, names) for n, entry in enumerate(entries, start=1)}
    folder = table.parent
    folders = [folder / f"{split}_data", folder / f"{split}_data" / split, folder / split]
    files = read_files(find_images(place, table, marks, folders))
    fit_marks(table, marks.items(), files)
    never = _not_looked_for(table, findings)
    return [
        marked_film(
            file, name, _patient(name), marks[name], findings,
            split="test" if split == "test" else "", labelled=labelled_for(findings, never),
        )
        for name, file in files.items()
    ]  # fmt: skip


def _marks(number: int, entry: dict[str, Any], names: dict[str, str]) -> Marks:
    marks = Marks()
    for label, box in zip(entry["syms"], entry["boxes"], strict=True):
        try:
            marks.add(names[label], corners(box), f"film {number}")
        except ValueError as error:
            marks.problems.append(f"film {number}: {error}")
    return marks


def _entries(table: Path) -> list[dict[str, Any]]:
    entries = read_json(table)
    if not isinstance(entries, list) or not entries:
        raise TableError(f"{table} holds {shown(entries)}, expected a list of films")
    raise_problems(table, [f"film {n}: {why}" for n, entry in enumerate(entries, 1) if (why := _wrong(entry))])
    first: dict[str, int] = {}
    numbered = ((n, first.setdefault(entry["file_name"], n)) for n, entry in enumerate(entries, 1))
    raise_problems(table, [f"film {n}: the same file_name as film {other}" for n, other in numbered if n != other])
    return entries


def _wrong(entry: Any) -> str:
    """Return what is wrong with a film of the JSON, "" if nothing is."""
    if not isinstance(entry, dict) or not {"file_name", "syms", "boxes"} <= entry.keys():
        return "expected file_name, syms and boxes"
    name, syms, boxes = entry["file_name"], entry["syms"], entry["boxes"]
    if not isinstance(name, str) or not name:
        return f"file_name is {shown(name)}, expected the name of a file"
    if not isinstance(syms, list) or not isinstance(boxes, list) or not all(isinstance(sym, str) for sym in syms):
        return f"syms is {shown(syms)} and boxes is {shown(boxes)}, expected a list of names and a list of boxes"
    if len(syms) != len(boxes):
        return f"{len(syms)} syms for {len(boxes)} boxes, expected one a box"
    for box in boxes:
        if not isinstance(box, list) or len(box) != 4 or not all(map(is_number, box)):
            return f"the box {shown(box)}, expected [x1, y1, x2, y2]"
    return ""


def _not_looked_for(table: Path, findings: FindingVocabulary) -> set[str]:
    return set() if table.name.startswith("ChestX_Det") else {findings.canonical(label) for label in _NOT_OF_THE_TEN}


def _patient(name: str) -> str:
    original = re.fullmatch(r"(\d{8})_\d{3}\.png", name)
    return patient_name(original[1]) if original else name
