"""Reads what annotators drew in Label Studio: its export "JSON", joined to the films by the key of ``cxr annotate``.

[{"data": {"image": …, "picture": "0001-p….png"},
  "annotations": [{"completed_by": 1, "was_cancelled": false, "updated_at": …,
                   "result": [{"type": "rectanglelabels", "original_width": …, "original_height": …,
                               "value": {"x": …, "y": …, "width": …, "height": …, "rotation": 0,
                                         "rectanglelabels": ["scoliosis"]}}]}]}]

x, y, width and height are per cent of the picture. A turned rectangle is turned clockwise about its corner x, y, and
becomes the box around it. An annotation without a region is a normal film. One that was skipped (``was_cancelled``)
says nothing, and so does a task without annotations: what we drew in it before (``predictions``) is no annotation.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cxr.data.corrections import Corrected
from cxr.data.film import Film
from cxr.data.sources.annotated_pictures import PictureAnnotation, corrected_pictures, exports
from cxr.data.sources.annotations import Annotation, Drawn
from cxr.data.sources.boxes import Box, corner_and_size
from cxr.data.sources.documents import is_number, read_json
from cxr.data.sources.tables import TableError, raise_problems, shown
from cxr.data.sources.turned import turned_rectangle
from cxr.findings import FindingVocabulary
from cxr.read.radiograph import pseudonym

_REGION = "rectanglelabels"
_WORDS = ("choices", "textarea", "rating", "number", "datetime", "taxonomy", "pairwise", "relation")
"""Types of results that are no regions: what a project asks beside the boxes is left out."""


def read_labelstudio(
    root: Path | str, findings: FindingVocabulary, key: str, readers: str = "wbf", iou: float = 0.4
) -> list[Film]:
    """Return the films that annotators read, boxes [N, 4] xyxy in pixels of the film.

    ``root`` is the export, or a folder of exports. The other arguments, and what is raised, are those of ``read_cvat``.
    """
    return [one.film for one in read_corrected(Path(root), findings, key, readers, iou)]


def read_corrected(
    root: Path, findings: FindingVocabulary, key: str, readers: str = "wbf", iou: float = 0.4
) -> list[Corrected]:
    """Return the films as ``read_labelstudio`` does, each with the boxes that we drew on it before."""
    annotations = [one for table in exports(root, ".json") for one in _annotations(table)]
    return corrected_pictures(root, annotations, key, findings, readers, iou)


def _annotations(table: Path) -> list[PictureAnnotation]:
    tasks = read_json(table)
    if not isinstance(tasks, list) or not all(isinstance(task, dict) and "annotations" in task for task in tasks):
        raise TableError(f"{table} is no list of tasks with annotations, expected Label Studio's export as JSON")
    read: list[PictureAnnotation] = []
    problems: list[str] = []
    for number, task in enumerate(tasks, start=1):
        try:
            kept = [one for one in task["annotations"] if not one.get("was_cancelled")]
            row = f"{table.name}, task {number}"
            read += [PictureAnnotation(_picture(task), number, _annotation(one, row)) for one in kept]
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            told = str(error) if isinstance(error, ValueError) else f"is damaged ({type(error).__name__} on reading it)"
            problems.append(f"task {number}: {told}")
    raise_problems(table, problems)
    return read


def _picture(task: Mapping[str, Any]) -> str:
    data = task["data"]
    picture = data.get("picture") or data.get("image")
    if not isinstance(picture, str):
        raise ValueError(f"its picture is {shown(picture)}, expected the name of a file")
    return picture


def _annotation(one: Mapping[str, Any], row: str) -> Annotation:
    by = one.get("completed_by")
    name = by.get("email") or by.get("id") if isinstance(by, dict) else by
    time = str(one.get("updated_at") or one.get("created_at") or "")
    return Annotation(pseudonym(str(name)), time, tuple(_drawn(one["result"], row)))


def _drawn(results: list[dict[str, Any]], row: str) -> Iterator[Drawn]:
    for number, result in enumerate(results, start=1):
        kind = result.get("type")
        if kind in _WORDS:
            continue
        if kind != _REGION:
            raise ValueError(f"region {number} is of the type {shown(kind)}, expected {_REGION}")
        for label in _labels(result, number):
            yield Drawn(label, _box(result, number), f"{row}, region {number}", str(result.get("id") or ""))


def _labels(result: Mapping[str, Any], number: int) -> list[str]:
    labels = result["value"].get(_REGION)
    if not isinstance(labels, list) or not labels or not all(isinstance(label, str) for label in labels):
        raise ValueError(f"region {number} has the labels {shown(labels)}, expected the name of a finding")
    return labels


def _box(result: dict[str, Any], number: int) -> Box:
    """Return a rectangle as shares of the picture's width and height."""
    value = result["value"]
    given = [value.get(name) for name in ("x", "y", "width", "height")]
    degrees = value.get("rotation") or 0
    if not all(map(is_number, (*given, degrees))):
        raise ValueError(
            f"region {number} has the rectangle {shown(given)} turned by {shown(degrees)}, expected numbers"
        )
    if result.get("image_rotation"):
        raise ValueError(f"region {number} was drawn on a picture that had been turned; turn it back and draw it anew")
    x0, y0, x1, y1 = corner_and_size([number / 100 for number in given])
    if not degrees:
        return x0, y0, x1, y1
    width: Any = result.get("original_width")
    height: Any = result.get("original_height")
    if not all(is_number(side) and side > 0 for side in (width, height)):
        raise ValueError(f"region {number} is turned and has no original_width and original_height")
    pixels = (x0 * width, y0 * height, x1 * width, y1 * height)
    left, top, right, bottom = turned_rectangle(pixels, degrees, pixels[:2])
    return left / width, top / height, right / width, bottom / height
