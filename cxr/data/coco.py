"""Films listed in a COCO json: boxes as xywh, paths beside the json."""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from cxr.data.film import Film
from cxr.findings import NORMAL, FindingVocabulary
from cxr.read.dicom import pseudonym

ANNOTATIONS = "annotations.coco.json"


def read_coco(root: Path | str, findings: FindingVocabulary) -> list[Film]:
    """Return one film an image of the json, boxes xyxy in original pixels; an image without annotations is normal.

    ``root`` is the json file or the folder that holds ``annotations.coco.json``. Categories may be spelt in any way
    ``findings`` knows. An image's own field ``patient`` says which films belong together, else each stands for itself.
    Crowd annotations (``iscrowd``) outline no single lesion and are left out.

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
    return films


def _load(table: Path) -> dict[str, list[dict[str, Any]]]:
    try:
        coco: dict[str, list[dict[str, Any]]] = json.loads(table.read_text(encoding="utf-8-sig"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{table} is not a json file: {error}") from error
    missing = [key for key in ("images", "annotations", "categories") if not isinstance(coco, dict) or key not in coco]
    if missing:
        raise ValueError(f"{table} has no {', '.join(missing)}, expected a COCO data set")
    return coco


def _category(annotation: dict[str, Any], categories: dict[Any, str], table: Path) -> str:
    if annotation["category_id"] not in categories:
        raise ValueError(
            f"{table}: annotation {annotation['id']} has category_id {annotation['category_id']}, "
            f"expected one of {', '.join(map(str, categories))}"
        )
    return categories[annotation["category_id"]]


def _film(folder: Path, image: dict[str, Any], annotations: list[dict[str, Any]], categories: dict[Any, str]) -> Film:
    x, y, w, h = np.array([a["bbox"] for a in annotations], np.float32).reshape(-1, 4).T
    return Film(
        path=folder / image["file_name"],
        id=str(image["id"]),
        study=pseudonym(str(image.get("study", image["id"]))),
        patient=pseudonym(str(image.get("patient", image["id"]))),
        boxes=np.stack([x, y, x + w, y + h], axis=1),
        findings=tuple(categories[a["category_id"]] for a in annotations),
        width=int(image["width"]),
        height=int(image["height"]),
    )
