"""Loads a COCO JSON and checks that every entry is valid: invalid entries are counted and named."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cxr.data.item import SPLITS
from cxr.data.sources.boxes import LARGEST_SIDE
from cxr.data.sources.documents import is_key, is_number, read_json
from cxr.data.sources.root import wrong_name
from cxr.data.sources.tables import TableError, raise_problems, shown

_Entry = dict[str, Any]

_FIELDS = {
    "images": ("id", "file_name", "width", "height"),
    "annotations": ("image_id", "category_id", "bbox"),
    "categories": ("id", "name"),
}


@dataclass(frozen=True)
class Coco:
    """The three lists of a JSON, in its order. Ids of images and of categories are unique."""

    images: list[_Entry]
    annotations: list[_Entry]
    categories: list[_Entry]


def load_coco(table: Path) -> Coco:
    """Return the content of the JSON. Annotations are not checked yet: ``check_annotations`` does that.

    Raises ``TableError``, which counts and names the damaged entries.
    """
    lists = read_json(table)
    if missing := [key for key in _FIELDS if not isinstance(lists, dict) or key not in lists]:
        raise TableError(f"{table} has no {', '.join(missing)}, expected a COCO data set")
    if wrong := [key for key in _FIELDS if not isinstance(lists[key], list)]:
        raise TableError(f"{table}: {wrong[0]} is {shown(lists[wrong[0]])}, expected a list")
    coco = Coco(**{key: lists[key] for key in _FIELDS})
    if not coco.images:
        raise TableError(f"{table}: images is an empty list, expected one entry a film")
    _raise("images", table, coco.images, _wrong_image, unique=("id", "file_name"))
    _raise("categories", table, coco.categories, _wrong_category, unique=("id",))
    return coco


def check_annotations(table: Path, coco: Coco) -> None:
    """Raise ``TableError`` for invalid annotations, and for those of images or categories that are not listed.

    ``bbox`` may be any four numbers, an empty list or null.
    """
    known = {"image_id": {image["id"] for image in coco.images}, "category_id": {c["id"] for c in coco.categories}}
    _raise("annotations", table, coco.annotations, lambda entry: _wrong_annotation(entry, known))


def _raise(key: str, table: Path, entries: list[Any], wrong: Callable[[Any], str], unique: Iterable[str] = ()) -> None:
    """Raise one ``TableError`` for all entries of a list that lack a field or for which ``wrong`` returns a text."""
    problems = []
    for number, entry in enumerate(entries, start=1):
        if type(entry) is not dict:
            problems.append(f"{key}, number {number} is {shown(entry)}, expected an object")
        elif missing := [field for field in _FIELDS[key] if field not in entry]:
            problems.append(f"{key}, number {number} has no {', '.join(missing)}")
        elif problem := wrong(entry):
            problems.append(f"{key}, number {number} {problem}")
    raise_problems(table, problems)
    for field in unique:
        # compared as texts, because the ID of a film is a text
        values = (entry[field] for entry in entries)
        counts = Counter(value if isinstance(value, str) else str(int(value)) for value in values)
        raise_problems(table, [
            f"{key}: the {field} {shown(value)} stands there {count} times, expected once"
            for value, count in counts.items() if count > 1
        ])  # fmt: skip


def _wrong_image(image: _Entry) -> str:
    """Return what is wrong with an image, "" if nothing is."""
    if not is_key(image["id"]):
        return f"has the id {shown(image['id'])}, expected a number or a text"
    if problem := wrong_name(image["file_name"]):
        return f"has a file_name that is none: {problem}"
    for side in ("width", "height"):
        if not is_number(image[side]) or not 1 <= image[side] <= LARGEST_SIDE or image[side] % 1:
            return f"has the {side} {shown(image[side])}, expected whole pixels, 1 to {LARGEST_SIDE}"
    for name in ("patient", "study"):
        if image.get(name) is not None and not is_key(image[name]):
            return f"has the {name} {shown(image[name])}, expected a number, a text or null"
    if image.get("split") not in (None, *SPLITS):
        return f"has the split {shown(image['split'])}, expected {', '.join(SPLITS)} or null"
    return ""


def _wrong_category(category: _Entry) -> str:
    if not is_key(category["id"]):
        return f"has the id {shown(category['id'])}, expected a number or a text"
    return "" if isinstance(category["name"], str) else f"has the name {shown(category['name'])}, expected a text"


def _wrong_annotation(annotation: _Entry, known: Mapping[str, Collection[Any]]) -> str:
    for field, ids in known.items():
        if not is_key(annotation[field]):
            return f"has the {field} {shown(annotation[field])}, expected a number or a text"
        if annotation[field] not in ids:
            return f"has the {field} {shown(annotation[field])}, expected one of {_some(ids)}"
    # A crowd is left out, so a box with a wrong value here would be lost without notice
    if annotation.get("iscrowd") not in (0, 1, None):
        return f"has the iscrowd {shown(annotation['iscrowd'])}, expected 0 or 1"
    box = annotation["bbox"]
    if box is None or (type(box) is list and (not box or (len(box) == 4 and all(map(is_number, box))))):
        return ""
    return f"has the bbox {shown(box)}, expected [x, y, width, height]"


def _some(ids: Collection[Any], most: int = 10) -> str:
    listed = ", ".join(shown(value) for value in list(ids)[:most])
    return f"{listed} and {len(ids) - most} more" if len(ids) > most else listed or "none, since there is none"
