"""ChestX-Det and ChestX-Det10: films of ChestX-ray14 with boxes drawn by three radiologists, in two json files.

    ChestX_Det_train.json  ChestX_Det_test.json      (13 findings; ChestX-Det10: train.json, test.json, 10 findings)
        [{"file_name": "36302.png", "syms": ["Effusion"], "boxes": [[x1, y1, x2, y2]], "polygons": …}, …]
    train_data/<file_name>  test_data/<file_name>

``syms`` names the boxes one by one; a film with neither was read and bears none of the findings. Coordinates are pixels
of the 1024 × 1024 PNG. Source: Lian et al. 2021, arXiv:2104.10326; Liu et al. 2020, arXiv:2006.10550.
"""

import json
import re
from pathlib import Path
from typing import Any

from cxr.data.film import Film
from cxr.data.marks import Marks, find_images, marked_film, note_unusable, told, with_headers
from cxr.data.nih import patient_name
from cxr.data.tables import TableError, corners, raise_problems
from cxr.findings import FindingVocabulary

_SPLITS = ("train", "test")
_THIRTEEN, _TEN = "ChestX_Det_{}.json", "{}.json"
_NOT_OF_THE_TEN = ("Cardiomegaly", "Diffuse Nodule", "Pleural Thickening")


def read_chestxdet(root: Path | str, findings: FindingVocabulary) -> list[Film]:
    """Return the films of ``root``, boxes [N, 4] xyxy in original pixels; those of the test json ``split="test"``.

    Films of ChestX-Det10 tell nothing of the three findings that were added later. Its files keep the names they have
    in ChestX-ray14, so its patients are known; of ChestX-Det each film stands for itself.

    Raises ``FileNotFoundError``, ``UnknownLabelError`` and ``TableError``.
    """
    base = Path(root)
    tables = [(base / name.format(split), split) for name in (_THIRTEEN, _TEN) for split in _SPLITS]
    tables = [(table, split) for table, split in tables if table.is_file()]
    if not tables:
        raise FileNotFoundError(f"{base} holds neither {_THIRTEEN.format('train')} nor {_TEN.format('train')}")
    return [film for table, split in tables for film in _read(table, split, findings)]


def is_chestxdet(root: Path) -> bool:
    """Whether ``root`` holds a json of this data set."""
    if any((root / _THIRTEEN.format(split)).is_file() for split in _SPLITS):
        return True
    ten = root / _TEN.format("train")
    return ten.is_file() and b'"syms"' in ten.read_bytes()[:10_000]


def _read(table: Path, split: str, findings: FindingVocabulary) -> list[Film]:
    entries = _entries(table)
    labels = sorted({label for entry in entries for label in entry["syms"]})
    names = dict(zip(labels, findings.resolve(labels, str(table)), strict=True))
    marks: dict[str, Marks] = {}
    for entry in entries:
        of_film = marks.setdefault(entry["file_name"], Marks())
        for label, box in zip(entry["syms"], entry["boxes"], strict=True):
            of_film.add(names[label], corners([str(value) for value in box]))
    note_unusable(table, marks)
    folder = table.parent
    images = find_images(table, marks, [folder / f"{split}_data", folder / f"{split}_data" / split, folder / split])
    never = _not_looked_for(table, findings)
    return with_headers([
        marked_film(
            path, name, _patient(name), marks[name], findings,
            split="test" if split == "test" else "", labelled=told(findings, marks[name].unboxed | never),
        )
        for name, path in images.items()
    ])  # fmt: skip


def _entries(table: Path) -> list[dict[str, Any]]:
    try:
        entries = json.loads(table.read_text(encoding="utf-8-sig"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise TableError(f"{table} is not a json file: {error}") from error
    if not isinstance(entries, list):
        raise TableError(f"{table} holds a {type(entries).__name__}, expected a list of films")
    raise_problems(table, [f"film {n}: {why}" for n, entry in enumerate(entries, 1) if (why := _wrong(entry))])
    return entries


def _wrong(entry: Any) -> str:
    """Say what is wrong with a film of the json, "" for nothing."""
    if not isinstance(entry, dict) or not {"file_name", "syms", "boxes"} <= entry.keys():
        return "expected file_name, syms and boxes"
    if len(entry["syms"]) != len(entry["boxes"]):
        return f"{len(entry['syms'])} syms for {len(entry['boxes'])} boxes, expected one a box"
    damaged = [box for box in entry["boxes"] if len(box) != 4 or not all(isinstance(v, int | float) for v in box)]
    return f"the box {damaged[0]}, expected [x1, y1, x2, y2]" if damaged else ""


def _not_looked_for(table: Path, findings: FindingVocabulary) -> set[str]:
    return set() if table.name.startswith("ChestX_Det") else {findings.canonical(label) for label in _NOT_OF_THE_TEN}


def _patient(name: str) -> str:
    original = re.fullmatch(r"(\d{8})_\d{3}\.png", name)
    return patient_name(original[1]) if original else name
