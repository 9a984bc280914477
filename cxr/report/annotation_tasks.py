"""Pictures of films with our boxes, as the tools of annotators take them: Label Studio, CVAT, or a COCO json.

Labels are the canonical names of findings, so that what comes back is read without a table. Boxes are in the frame of
the picture, which may be smaller than the film.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from cxr.data.annotation_key import KeyEntry
from cxr.data.sources.cvat import READ
from cxr.files import write_json, write_whole
from cxr.findings import FindingVocabulary
from cxr.palette import colour
from cxr.report.film_files import PICTURES

TASKS, LABELS = "tasks.json", "labels.xml"
_FILM, _FINDING = "film", "finding"  # names of Label Studio's controls


def write_labelstudio(
    folder: Path, films: Mapping[str, KeyEntry], findings: FindingVocabulary, model: str, address: str
) -> None:
    """Write ``tasks.json`` with our boxes as predictions, and ``labels.xml``, the project's labelling interface.

    ``films`` are in the order in which they are to be read. ``address`` stands before the name of a picture: where
    Label Studio finds it.
    """
    tasks = [
        {
            "data": {"image": f"{address}{name}", "picture": name, "study": film.study},
            "predictions": [{"model_version": model, "result": _regions(film)}],
        }
        for name, film in films.items()
    ]
    write_json(folder / TASKS, tasks)
    view = ElementTree.Element("View")
    ElementTree.SubElement(
        view, "Image", name=_FILM, value="$image", zoom="true", zoomControl="true", brightnessControl="true",
        contrastControl="true",
    )  # fmt: skip
    labels = ElementTree.SubElement(view, "RectangleLabels", name=_FINDING, toName=_FILM, canRotate="false")
    for one in findings.findings:
        hint = " ".join(dict.fromkeys((one.label("en"), one.label("zh"))))
        ElementTree.SubElement(labels, "Label", value=one.name, hint=hint, background=colour(findings, one.name))
    write_whole(folder / LABELS, _xml(view))


def write_cvat(folder: Path, films: Mapping[str, KeyEntry], findings: FindingVocabulary, model: str) -> None:
    """Write ``annotations.xml`` (CVAT for images 1.1) with our boxes, and ``labels.json``, the labels of the project.

    A picture is read once it has the tag ``read``, because CVAT exports pictures that nobody has opened, too.
    """
    root = ElementTree.Element("annotations")
    ElementTree.SubElement(root, "version").text = "1.1"
    root.append(ElementTree.Comment(f" boxes of {model}, to be corrected "))
    for number, (name, film) in enumerate(films.items()):
        image = ElementTree.SubElement(
            root, "image", id=str(number), name=name, width=str(film.picture_width), height=str(film.picture_height)
        )
        for box, finding in zip(_in_picture(film), film.findings, strict=True):
            sides = dict(zip(("xtl", "ytl", "xbr", "ybr"), (f"{side:.2f}" for side in box), strict=True))
            about = {"label": finding, "source": "auto", "occluded": "0", **sides, "z_order": "0"}
            ElementTree.SubElement(image, "box", about)
    write_whole(folder / "annotations.xml", _xml(root))
    labels: list[dict[str, Any]] = [
        {"name": name, "color": colour(findings, name), "type": "rectangle", "attributes": []}
        for name in findings.names
    ]
    write_json(folder / "labels.json", [*labels, {"name": READ, "color": "#ffffff", "type": "tag", "attributes": []}])


def write_coco(folder: Path, films: Mapping[str, KeyEntry], findings: FindingVocabulary, model: str) -> None:
    """Write ``annotations.coco.json``, whose images lie in ``pictures/`` beside it."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, (name, film) in enumerate(films.items(), start=1):
        size = {"width": film.picture_width, "height": film.picture_height}
        images.append({"id": number, "file_name": f"{PICTURES}/{name}", **size, "study": film.study})
        for (x0, y0, x1, y1), finding, score in zip(_in_picture(film), film.findings, film.scores, strict=True):
            bbox = [round(value, 3) for value in (x0, y0, x1 - x0, y1 - y0)]
            about = {"id": len(annotations) + 1, "image_id": number, "category_id": findings.index(finding)}
            area = {"bbox": bbox, "area": round(bbox[2] * bbox[3], 3), "iscrowd": 0, "score": score}
            annotations.append({**about, **area})
    categories = [{"id": findings.index(name), "name": name} for name in findings.names]
    info = {"description": f"boxes of {model}, to be corrected"}
    content = {"info": info, "images": images, "annotations": annotations, "categories": categories}
    write_json(folder / "annotations.coco.json", content)


def _regions(film: KeyEntry) -> list[dict[str, Any]]:
    """Return our boxes as Label Studio's regions: corner and size in per cent of the picture."""
    regions = []
    for box, finding, score, identifier in zip(film.boxes, film.findings, film.scores, film.ids, strict=True):
        x0, y0, x1, y1 = (100 * side / of for side, of in zip(box, 2 * (film.width, film.height), strict=True))
        value = {"x": x0, "y": y0, "width": x1 - x0, "height": y1 - y0, "rotation": 0, "rectanglelabels": [finding]}
        size = {"original_width": film.picture_width, "original_height": film.picture_height, "image_rotation": 0}
        named = {"id": identifier, "type": "rectanglelabels", "from_name": _FINDING, "to_name": _FILM}
        regions.append({**named, **size, "value": value, "score": score})
    return regions


def _in_picture(film: KeyEntry) -> list[tuple[float, ...]]:
    """Return our boxes in pixels of the picture."""
    across, down = film.scale
    return [(x0 / across, y0 / down, x1 / across, y1 / down) for x0, y0, x1, y1 in film.boxes]


def _xml(root: ElementTree.Element) -> str:
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode") + "\n"
