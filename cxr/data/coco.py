"""Films listed in a COCO json: boxes as xywh, paths beside the json."""

import json
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cxr.data.film import Film
from cxr.data.patients import without_placeholders
from cxr.findings import NORMAL, FindingVocabulary
from cxr.read.dicom import ReadError, pseudonym, read_header
from cxr.read.tags import looks_like_dicom

ANNOTATIONS = "annotations.coco.json"

_FIELDS = {
    "images": ("id", "file_name", "width", "height"),
    "annotations": ("image_id", "category_id", "bbox"),
    "categories": ("id", "name"),
}


def read_coco(root: Path | str, findings: FindingVocabulary) -> list[Film]:
    """Return one film an image of the json, boxes xyxy in original pixels; an image without annotations is normal.

    ``root`` is the json file or the folder that holds ``annotations.coco.json``. Categories may be spelt in any way
    ``findings`` knows. An image's own field ``patient`` says which films belong together, else the PatientID of a DICOM
    file does, else each stands for itself. Crowd annotations (``iscrowd``) outline no single lesion and are left out.

    Raises ``FileNotFoundError`` without the json or for listed images that are not there, ``UnknownLabelError`` for
    unknown categories, and ``ValueError`` for a json that is no COCO data set.
    """
    table = Path(root) if Path(root).is_file() else Path(root) / ANNOTATIONS
    if not table.is_file():
        raise FileNotFoundError(f"{root} is neither a COCO json nor a folder that holds {ANNOTATIONS}")
    coco = _load(table)
    names = findings.resolve([c["name"] for c in coco["categories"]], source=f"{table}, categories")
    categories = {c["id"]: name for c, name in zip(coco["categories"], names, strict=True)}
    annotations: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for annotation in coco["annotations"]:
        if not annotation.get("iscrowd") and _category(annotation, categories, table) != NORMAL:
            annotations[annotation["image_id"]].append(annotation)
    if stray := sorted(str(i) for i in annotations.keys() - {image["id"] for image in coco["images"]}):
        raise ValueError(f"{table}: annotations of images that are not listed: image_id {', '.join(stray)}")
    films = [_film(table.parent, image, annotations[image["id"]], categories) for image in coco["images"]]
    if missing := [film.path for film in films if not film.path.is_file()]:
        raise FileNotFoundError(f"{table}: {len(missing)} of {len(films)} images are missing, first {missing[0]}")
    return _with_patients(films, [image.get("patient") is not None for image in coco["images"]])


def _load(table: Path) -> dict[str, list[dict[str, Any]]]:
    try:
        coco: dict[str, list[dict[str, Any]]] = json.loads(table.read_text(encoding="utf-8-sig"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{table} is not a json file: {error}") from error
    missing = [key for key in ("images", "annotations", "categories") if not isinstance(coco, dict) or key not in coco]
    if missing:
        raise ValueError(f"{table} has no {', '.join(missing)}, expected a COCO data set")
    for key, fields in _FIELDS.items():
        _check_entries(table, key, coco[key], fields)
    return coco


def _check_entries(table: Path, key: str, entries: Any, fields: tuple[str, ...]) -> None:
    """Raise ``ValueError`` for entries that lack a field, and for boxes that are not four numbers or none."""
    if not isinstance(entries, list):
        raise ValueError(f"{table}: {key} is a {type(entries).__name__}, expected a list")
    problems = []
    for number, entry in enumerate(entries, start=1):
        missing = [field for field in fields if not isinstance(entry, dict) or field not in entry]
        if missing:
            problems.append(f"number {number} has no {', '.join(missing)}")
        elif "bbox" in fields and not _is_box(entry["bbox"]):
            problems.append(f"number {number} has the bbox {entry['bbox']!r}, expected [x, y, width, height]")
    if problems:
        raise ValueError(f"{table}: {len(problems)} of {len(entries)} {key} are damaged; the first, {problems[0]}")


def _is_box(box: Any) -> bool:
    numbers = isinstance(box, list) and all(isinstance(value, int | float) for value in box)
    return numbers and len(box) in (0, 4)  # a "No finding" annotation may have no box


def _category(annotation: dict[str, Any], categories: dict[Any, str], table: Path) -> str:
    if annotation["category_id"] not in categories:
        raise ValueError(
            f"{table}: annotation {annotation.get('id')} has category_id {annotation['category_id']}, "
            f"expected one of {', '.join(map(str, categories))}"
        )
    return categories[annotation["category_id"]]


def _film(folder: Path, image: dict[str, Any], annotations: list[dict[str, Any]], categories: dict[Any, str]) -> Film:
    x, y, w, h = np.array([a["bbox"] for a in annotations], np.float32).reshape(-1, 4).T
    return Film(
        path=folder / image["file_name"],
        id=str(image["id"]),
        study=pseudonym(str(image.get("study", image["id"]))),
        patient=pseudonym(str(image["id"] if image.get("patient") is None else image["patient"])),
        boxes=np.stack([x, y, x + w, y + h], axis=1),
        findings=tuple(categories[a["category_id"]] for a in annotations),
        width=int(image["width"]),
        height=int(image["height"]),
    )


def _with_patients(films: Sequence[Film], stated: Sequence[bool]) -> list[Film]:
    """Return the films with the patients of their files' headers where the json has not ``stated`` one."""
    unstated = [film for film, known in zip(films, stated, strict=True) if not known]
    with ThreadPoolExecutor() as pool:
        found = iter(without_placeholders(list(pool.map(_with_patient, unstated))))
    return [film if known else next(found) for film, known in zip(films, stated, strict=True)]


def _with_patient(film: Film) -> Film:
    """Return the film with the patient its DICOM header names; as it is when it names none or cannot be read."""
    with film.path.open("rb") as file:
        if not looks_like_dicom(file.read(132)):
            return film
    try:
        header = read_header(film.path)
    except ReadError:  # whoever reads its pixels reports it
        return film
    # without PatientID the study stands for the patient
    return film if header.patient == header.study else replace(film, patient=header.patient)
