"""Reads what annotators drew in CVAT: its export "CVAT for images 1.1", joined to the films of ``cxr annotate``.

<annotations><meta><task><assignee><username>…</username></assignee></task></meta>
  <image name="0001-p….png" width="…" height="…">
    <tag label="read"/>
    <box label="scoliosis" xtl="…" ytl="…" xbr="…" ybr="…" rotation="…"/>
    <polygon label="…" points="x,y;x,y;…"/>  <ellipse label="…" cx="…" cy="…" rx="…" ry="…" rotation="…"/>
  </image></annotations>

Coordinates are pixels of the picture. Turned shapes are turned clockwise about their centers. Polygons, ellipses and
turned boxes become the boxes around them. The export lists every picture of a task, also those that nobody has
opened, with the boxes that we drew in it before. So a picture counts only where an annotator set the tag ``read`` on
it; without a box it is then a normal film.
"""

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from xml.etree import ElementTree  # no entity is resolved: a file with a DOCTYPE is refused

from cxr.data.corrections import Corrected
from cxr.data.film import Film
from cxr.data.sources.annotated_pictures import PictureAnnotation, corrected_pictures, exports
from cxr.data.sources.annotations import Annotation, Drawn
from cxr.data.sources.boxes import Box, corners, number
from cxr.data.sources.tables import TableError, raise_problems, read_text, shown
from cxr.data.sources.turned import around, turned_ellipse, turned_rectangle
from cxr.findings import FindingVocabulary
from cxr.read.radiograph import pseudonym

_log = logging.getLogger(__name__)

READ = "read"
"""Label of the tag that an annotator sets on a picture once it is read."""

_SHAPES = ("box", "polygon", "ellipse")


def read_cvat(
    root: Path | str, findings: FindingVocabulary, key: str, readers: str = "wbf", iou: float = 0.4
) -> list[Film]:
    """Return the films that annotators read, boxes [N, 4] xyxy in pixels of the film.

    The reader of a film is the assignee of its task or job; where there is none, the file stands for a reader.

    Args:
        root: the export, ``annotations.xml``, or a folder of exports.
        findings: the vocabulary; labels may be spelt in any way that it knows.
        key: ``key.json`` that ``cxr annotate`` left, or its folder.
        readers: "wbf" (boxes of several annotators are fused), "union" (every box), or one annotator's pseudonym.
        iou: "wbf" fuses boxes of one finding that overlap by more than this.

    Raises ``FileNotFoundError``, ``UnknownLabelError``, and ``TableError`` for what is no such export.
    """
    return [one.film for one in read_corrected(Path(root), findings, key, readers, iou)]


def read_corrected(
    root: Path, findings: FindingVocabulary, key: str, readers: str = "wbf", iou: float = 0.4
) -> list[Corrected]:
    """Return the films as ``read_cvat`` does, each with the boxes that we drew on it before."""
    annotations = [one for table in exports(root, ".xml") for one in _annotations(table)]
    if not annotations:
        raise TableError(f"{root}: no picture has the tag {READ!r}; annotators set it on each film that they have read")
    return corrected_pictures(root, annotations, key, findings, readers, iou)


def _annotations(table: Path) -> list[PictureAnnotation]:
    root = _parsed(table)
    images = root.findall("image")
    read = {n: image for n, image in enumerate(images, start=1) if _is_read(image)}
    if unread := len(images) - len(read):
        _log.warning("%s: %d of %d films do not have the tag %r and are left out.", table, unread, len(images), READ)
    annotators, time = _annotators(root), (root.findtext("meta/dumped") or "").strip()
    made: list[PictureAnnotation] = []
    problems: list[str] = []
    for count, image in read.items():
        person = annotators.get(image.get("task_id") or "") or annotators.get("") or table.name
        try:
            drawn = tuple(_drawn(image, f"{table.name}, image {count}"))
        except ValueError as error:
            problems.append(f"image {count}: {error}")
            continue
        annotation = Annotation(pseudonym(person), time, drawn)
        made.append(PictureAnnotation(image.get("name") or "", count, annotation))
    raise_problems(table, problems)
    return made


def _is_read(image: ElementTree.Element) -> bool:
    return any(tag.get("label") == READ for tag in image.findall("tag"))


def _parsed(table: Path) -> ElementTree.Element:
    content = read_text(table)
    expected = "expected CVAT's export as CVAT for images 1.1"
    if "<!DOCTYPE" in content or "<!ENTITY" in content:
        raise TableError(f"{table} has a document type, which may hold entities; {expected}")
    try:
        root = ElementTree.fromstring(content)  # noqa: S314  # see above
    except (ElementTree.ParseError, ValueError, LookupError, RecursionError) as error:
        raise TableError(f"{table} is no XML that can be read ({error}); {expected}") from error
    if root.tag != "annotations" or root.find("track") is not None:
        raise TableError(f"{table} is no list of images; {expected}")
    return root


def _annotators(root: ElementTree.Element) -> dict[str, str]:
    """Return the assignee of each task by its id, and under "" that of the only task or job."""
    tasks = [*root.iterfind("meta/task"), *root.iterfind("meta/job"), *root.iterfind("meta/project/tasks/task")]
    named = {task.findtext("id") or "": task.findtext("assignee/username") or "" for task in tasks}
    return {**named, "": next(iter(named.values()))} if len(named) == 1 else named


def _drawn(image: ElementTree.Element, row: str) -> Iterator[Drawn]:
    width, height = (number(image.get(side) or "") for side in ("width", "height"))
    if width < 1 or height < 1:
        raise ValueError(f"the picture has {width:g} x {height:g} pixels, expected 1 or more")
    for count, shape in enumerate((one for one in image if one.tag != "tag"), start=1):
        if shape.tag not in _SHAPES:
            raise ValueError(f"shape {count} is a {shown(shape.tag)}, expected {', '.join(_SHAPES)}")
        x0, y0, x1, y1 = corners(_box(shape.tag, shape.attrib))
        shares = (x0 / width, y0 / height, x1 / width, y1 / height)
        yield Drawn(shape.get("label") or "", shares, f"{row}, shape {count}")


def _box(kind: str, given: Mapping[str, str]) -> Box:
    """Return the box around a shape, in pixels of the picture."""
    degrees = number(given.get("rotation") or "0")
    if kind == "polygon":
        points = [tuple(map(number, point.split(","))) for point in given.get("points", "").split(";")]
        if len(points) < 3 or any(len(point) != 2 for point in points):
            raise ValueError(f"the polygon {shown(given.get('points'))} is none, expected three points or more")
        return around((x, y) for x, y in points)
    if kind == "ellipse":
        x, y, across, down = (number(given.get(name) or "") for name in ("cx", "cy", "rx", "ry"))
        return turned_ellipse((x, y), (across, down), degrees)
    x0, y0, x1, y1 = (number(given.get(name) or "") for name in ("xtl", "ytl", "xbr", "ybr"))
    return turned_rectangle((x0, y0, x1, y1), degrees, ((x0 + x1) / 2, (y0 + y1) / 2))
