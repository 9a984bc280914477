"""Reads a COCO json of annotated pictures of films, joined to the films by the key of ``cxr annotate``.

COCO cannot say which pictures somebody has read: each one that the json lists counts as read, and without a box as a
normal film. Its boxes are those of one reader, for whom the file stands.
"""

from pathlib import Path

from cxr.data.corrections import Corrected
from cxr.data.sources.annotated_pictures import PictureAnnotation, corrected_pictures
from cxr.data.sources.annotations import Annotation, Drawn
from cxr.data.sources.boxes import corner_and_size
from cxr.data.sources.coco_files import Coco, check_annotations, load_coco
from cxr.data.sources.coco_listings import ANNOTATIONS
from cxr.data.sources.tables import raise_problems
from cxr.findings import NORMAL, FindingVocabulary
from cxr.read.radiograph import pseudonym


def read_corrected(root: Path, findings: FindingVocabulary, key: str) -> list[Corrected]:
    """Return the films behind the pictures of a json, each with the boxes that we drew on it before.

    Raises ``FileNotFoundError``, ``UnknownLabelError`` and ``TableError`` as ``read_coco`` does.
    """
    table = root if root.is_file() else root / ANNOTATIONS
    if not table.is_file():
        raise FileNotFoundError(f"{root} is neither a COCO json nor a folder that holds {ANNOTATIONS}")
    coco = load_coco(table)
    names = findings.resolve([c["name"] for c in coco.categories], source=f"{table}, categories")
    check_annotations(table, coco)
    drawn = _drawn(table, coco, {c["id"]: name for c, name in zip(coco.categories, names, strict=True)})
    reader = pseudonym(table.name)
    annotations = [
        PictureAnnotation(image["file_name"], n, Annotation(reader, drawn=tuple(drawn[image["id"]])))
        for n, image in enumerate(coco.images, start=1)
    ]
    return corrected_pictures(table, annotations, key, findings, readers="union", iou=0.0)


def _drawn(table: Path, coco: Coco, names: dict[object, str]) -> dict[object, list[Drawn]]:
    """Return the boxes of each image as shares of its size, by its id."""
    drawn: dict[object, list[Drawn]] = {image["id"]: [] for image in coco.images}
    sizes = {image["id"]: (image["width"], image["height"]) for image in coco.images}
    problems = []
    for number, one in enumerate(coco.annotations, start=1):
        row, finding = f"annotations, number {number}", names[one["category_id"]]
        if finding == NORMAL or one.get("iscrowd"):
            continue
        try:
            x0, y0, x1, y1 = corner_and_size(one["bbox"] or ())
        except ValueError as error:
            problems.append(f"{row} of {finding}: {error}")
            continue
        width, height = sizes[one["image_id"]]
        drawn[one["image_id"]].append(Drawn(finding, (x0 / width, y0 / height, x1 / width, y1 / height), row))
    raise_problems(table, problems)
    return drawn
