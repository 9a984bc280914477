"""What a measurement report says (DICOM SR, TID 1500 of PS3.16): who, when, and which findings on which images.

Reports come from any viewer, so the tree is searched for what is needed, and nothing else of a template is demanded:

- Measurement Groups (125007, DCM) wherever they stand: a region of one image (TID 1410), of several (TID 1411), or
  measurements and evaluations alone (TID 1501).
- In a group its Finding (121071, DCM), its Tracking Unique Identifier (112040, DCM), and all regions in it, which may
  stand in the group itself or below a measurement ("inferred from", TID 300). A region is an SCOORD item (PS3.3
  C.18.6) with the image it was selected from. SCOORD3D items are in millimetres of a patient and are not read.
- A finding without a region that has an area, or whose region cannot be read, is one without a box; where its group
  refers to no image, on each image of the report.
- A group says that its finding is absent by an evaluation named Presence (705057003, SCT, or 121052, DCM) whose value
  is one of "absent".
- A report whose Summary of Detections (111064, DCM) is Not Attempted or Failed is about a film that nobody assessed: we
  write such ones.
- The images that a report is about are those of its groups. Where these name none, they are those of its evidence,
  which lists all images of the study.
- The observers (TID 1002): a person (121008, DCM) or a device (121007, DCM).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.charset import convert_encodings
from pydicom.dataset import Dataset

from cxr.data.sources.boxes import Box
from cxr.findings import Code
from cxr.read.radiograph import pseudonym
from cxr.read.tags import Tags, open_tags

MAKER = "cxr"
"""Manufacturer of our own reports, as ``cxr.report.dicom_origin`` writes it."""

_MEASUREMENT_REPORT = ("DCM", "126000")
_GROUP, _FINDING, _TRACKING = ("DCM", "125007"), ("DCM", "121071"), ("DCM", "112040")
_PERSON, _CERTAINTY = ("DCM", "121008"), ("DCM", "111012")
_DETECTIONS, _NONE_MADE = ("DCM", "111064"), {("DCM", "111224"), ("DCM", "111225")}
_PRESENCE = {("SCT", "705057003"), ("DCM", "121052")}
_ABSENT = {("SCT", "272519000"), ("SCT", "2667000"), ("SCT", "373572006"), ("SCT", "410516002"), ("DCM", "121054")}
_NAMES = [
    *(
        "SOPInstanceUID",
        "Modality",
        "Manufacturer",
        "SpecificCharacterSet",
        "ConceptNameCodeSequence",
        "ContentDate",
        "ContentTime",
    ),
    *("CompletionFlag", "VerificationFlag", "VerifyingObserverSequence", "AuthorObserverSequence"),
    *("PredecessorDocumentsSequence", "CurrentRequestedProcedureEvidenceSequence", "ContentSequence"),
]
_MOST_ITEMS = 100_000  # of one report; a film has some hundred


@dataclass(frozen=True)
class Statement:
    """What a measurement group says of one image.

    Args:
        image: its SOPInstanceUID.
        code: of the finding; None where the group names none.
        boxes: of its regions that have an area, xyxy in pixels of the image.
        drawn: whether it has any region there, points and rulers too.
        absent: whether the group says that the finding is not there.
        id: its Tracking Unique Identifier, "" where it has none.
        certainty: of the finding, 0..1, as software reports it; None where it does not.
    """

    image: str
    code: Code | None
    boxes: tuple[Box, ...]
    drawn: bool
    absent: bool
    id: str
    certainty: float | None


@dataclass(frozen=True)
class Report:
    """A measurement report.

    Args:
        path: its file.
        uid: its SOPInstanceUID.
        images: SOPInstanceUIDs of the images that it is about. Its evidence may list more: all of the study.
        author: pseudonym of the person behind it; "" for a report of software that no person has verified.
        ours: whether this project wrote it, and no person has verified it.
        time: date and time of its content, YYYYMMDDHHMMSS with fractions.
        complete: whether it says that its content is complete (Completion Flag, PS3.3 C.17.2).
        attempted: whether somebody looked for findings at all; false for our report on a film that is not assessed.
        predecessors: SOPInstanceUIDs of the reports whose content it takes up (Predecessor Documents Sequence).
        statements: what its groups say.
        measurements: whether it is a measurement report at all, and no text of a dictation or list of key images.
    """

    path: Path
    uid: str
    images: frozenset[str]
    author: str
    ours: bool
    time: str
    complete: bool
    attempted: bool
    predecessors: frozenset[str]
    statements: tuple[Statement, ...]
    measurements: bool


def read_report(path: Path) -> Report:
    """Return what the report in a file says. Raises ``ReadError`` for a damaged one, without a word of its content."""
    with open_tags(path, _NAMES) as tags:
        root = tags.dataset
        encodings = convert_encodings(root.get("SpecificCharacterSet") or "ISO_IR 6")
        items = list(_below(root, encodings))
        evidence = frozenset(_referenced(root, "CurrentRequestedProcedureEvidenceSequence"))
        groups = [item for item in items if _concept(item) == _GROUP]
        statements = tuple(statement for group in groups for statement in _said(group, evidence))
        author = _author(root, items)
        return Report(
            path=path,
            uid=tags.text("SOPInstanceUID"),
            images=frozenset(statement.image for statement in statements) or evidence,
            author=author,
            ours=not author and tags.text("Manufacturer") == MAKER,
            time=_time(tags),
            complete=tags.text("CompletionFlag") == "COMPLETE",
            attempted=not any(_concept(item) == _DETECTIONS and _value(item) in _NONE_MADE for item in items),
            predecessors=frozenset(_referenced(root, "PredecessorDocumentsSequence")),
            statements=statements,
            measurements=_concept(root) == _MEASUREMENT_REPORT,
        )


def region_box(kind: str, data: Sequence[float]) -> Box | None:
    """Return the box around the region of an SCOORD item (PS3.3 C.18.6.1.2); None for points and lines.

    Its points are (column, row) with 0, 0 at the outer corner of the first pixel, as our boxes have it. A polyline of
    two points is a ruler and has no area. Raises ``ValueError`` for data that are no region.
    """
    points = np.array(data, np.float64).reshape(-1, 2)
    if not np.isfinite(points).all():
        raise ValueError("its points are not finite")
    if kind == "CIRCLE" and len(points) == 2:  # the center, and a point on it
        radius = math.dist(*points)
        low, high = points[0] - radius, points[0] + radius
    elif kind == "ELLIPSE" and len(points) == 4:  # the ends of its major axis, then those of its minor axis
        center, half = points.mean(axis=0), np.array([points[1] - points[0], points[3] - points[2]]) / 2
        reach = np.sqrt((half**2).sum(axis=0))
        low, high = center - reach, center + reach
    elif kind == "POLYLINE" and len(np.unique(points, axis=0)) > 2:
        low, high = points.min(axis=0), points.max(axis=0)
    elif kind in ("POINT", "MULTIPOINT", "POLYLINE"):
        return None
    else:
        raise ValueError(f"has {len(points)} points, which are no {kind}")
    (x0, y0), (x1, y1) = low.tolist(), high.tolist()
    return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None


def _below(item: Dataset, encodings: list[str] | None = None) -> Iterator[Dataset]:
    """Yield the content items below an item, each behind its parent; their texts are in ``encodings``, if given."""
    left = [item]
    for count in range(_MOST_ITEMS):
        if not left:
            return
        here = left.pop()
        if count:
            yield here
        inner = list(here.get("ContentSequence") or ())
        for one in inner if encodings else ():
            one.set_original_encoding(*one.original_encoding, encodings)
        left += reversed(inner)
    raise ValueError("too many content items")


def _said(group: Dataset, images: frozenset[str]) -> Iterator[Statement]:
    """Yield what a group says of each image that it refers to; ``images`` are those of the whole report."""
    code, identifier, absent, certainty = None, "", False, None
    for item in group.get("ContentSequence") or ():
        concept = _concept(item)
        if concept == _FINDING:
            code = _coded(item.get("ConceptCodeSequence"))
        elif concept == _TRACKING:
            identifier = str(item.get("UID") or "")
        elif concept == _CERTAINTY:
            measured = item.get("MeasuredValueSequence")
            certainty = float(measured[0].NumericValue) / 100 if measured else None  # it is in per cent
        elif concept in _PRESENCE:
            absent = _value(item) in _ABSENT
    for image, boxes in _boxes(group, images).items():
        with_area = dict.fromkeys(box for box in boxes if box is not None)
        yield Statement(image, code, tuple(with_area), bool(boxes), absent, identifier, certainty)


def _boxes(group: Dataset, images: frozenset[str]) -> dict[str, list[Box | None]]:
    """Return the boxes of a group's regions by image, None for one without an area; an empty list for no region."""
    inside = list(_below(group))
    named = dict.fromkeys(_image(item) for item in inside if item.get("ValueType") == "IMAGE")
    boxes: dict[str, list[Box | None]] = {image: [] for image in named or images}
    for item in inside:
        if item.get("ValueType") != "SCOORD":
            continue
        box = region_box(str(item.get("GraphicType")), item.get("GraphicData") or ())
        selected = [_image(one) for one in item.get("ContentSequence") or () if one.get("ValueType") == "IMAGE"]
        if not selected and len(boxes) != 1:
            raise ValueError("a region of no image")
        boxes[selected[0] if selected else next(iter(boxes))].append(box)
    return boxes


def _concept(item: Dataset) -> tuple[str, str]:
    code = _coded(item.get("ConceptNameCodeSequence"))
    return ("", "") if code is None else (code.scheme, code.value)


def _value(item: Dataset) -> tuple[str, str]:
    """Return scheme and value of the code that a CODE item holds."""
    code = _coded(item.get("ConceptCodeSequence"))
    return ("", "") if code is None else (code.scheme, code.value)


def _coded(sequence: Sequence[Dataset] | None) -> Code | None:
    """Return the code in a code sequence; a long one or a URN stands in an element of its own (PS3.3 8.8)."""
    if not sequence:
        return None
    one = sequence[0]
    value = next((one.get(name) for name in ("CodeValue", "LongCodeValue", "URNCodeValue") if one.get(name)), "")
    return Code(str(one.get("CodingSchemeDesignator") or ""), str(value), str(one.get("CodeMeaning") or ""))


def _image(item: Dataset) -> str:
    references = item.get("ReferencedSOPSequence") or ()
    return str(references[0].get("ReferencedSOPInstanceUID") or "") if references else ""


def _referenced(root: Dataset, name: str) -> Iterator[str]:
    """Yield the SOPInstanceUIDs that a sequence of studies refers to (PS3.3 C.17.2.1)."""
    for study in root.get(name) or ():
        for series in study.get("ReferencedSeriesSequence") or ():
            for one in series.get("ReferencedSOPSequence") or ():
                yield str(one.get("ReferencedSOPInstanceUID") or "")


def _author(root: Dataset, items: Sequence[Dataset]) -> str:
    """Return the pseudonym of the person who observed (TID 1003), or verified, or is named as author; "" for none."""
    for item in items:
        if _concept(item) == _PERSON:
            return pseudonym(str(item.get("PersonName") or ""))
    if root.get("VerificationFlag") == "VERIFIED":
        for one in root.get("VerifyingObserverSequence") or ():
            return pseudonym(str(one.get("VerifyingObserverName") or ""))
    for one in root.get("AuthorObserverSequence") or ():
        if one.get("ObserverType") == "PSN":
            return pseudonym(str(one.get("PersonName") or ""))
    return ""


def _time(tags: Tags) -> str:
    return tags.text("ContentDate") + tags.text("ContentTime")
