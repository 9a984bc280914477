"""Reads what doctors drew in a viewer: DICOM measurement reports (TID 1500) beside the films that they refer to.

A folder of any depth holds films and reports, as a study comes from a PACS. Their content decides, not their names.
Which report says what of a film:

- A measurement report (126000, DCM) is a doctor's where a person observed it (TID 1003), or verified it: Verification
  Flag (0040,A493) is VERIFIED, and the Verifying Observer Sequence names the person (PS3.3 C.17.2). Reports of software
  alone, ours too, mark nothing, nor does a report of any other kind, such as a dictated text. A film that no doctor's
  report refers to is left out: nobody looked at it. Nor did anybody look at a film that the report's evidence lists
  beside those that its groups are about, or at one of which we said that it is not assessed, although a person has
  verified that.
- A report that another doctor's report names in its Predecessor Documents Sequence (0040,A360) is replaced by it. So is
  an earlier report of the same person on the film.
- The doctor looked for every finding of the vocabulary, so a finding without a region is absent, unless the report says
  otherwise: Completion Flag (0040,A491) is not COMPLETE; a group names the finding without a region that has an area;
  or something is drawn whose finding is not known: a region without a finding, a ruler. In these cases the film is
  labelled for what the doctor did say.
- Our boxes that the doctor saw and the doctor's report lacks were rejected: the findings were looked for there and are
  absent; not so where the doctor drew a region there without a finding, as it may be the same one. The doctor saw the
  report that the doctor's one names as predecessor, else one with the same Tracking Unique Identifiers, else our newest
  from before. Which boxes are the same: ``cxr.data.corrections``.

A viewer that edits a report writes a new one (PS3.3 C.17.2: a report is not changed once it is stored), so nothing says
"this box was deleted" in words, but a group whose evaluation "Presence" is "absent". That is read as such, too.
"""

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from cxr.data.corrections import SAME_PLACE, Corrected, rejected
from cxr.data.film import Film, Reading
from cxr.data.patients import without_placeholders
from cxr.data.sources.annotations import Annotation, Drawn, annotated_films
from cxr.data.sources.boxes import Box
from cxr.data.sources.marks import read_files
from cxr.data.sources.root import Root
from cxr.data.sources.sr_document import MAKER, Report, Statement, read_report
from cxr.data.sources.tables import shown
from cxr.data.weighted_boxes import box_iou
from cxr.findings import NORMAL, Code, FindingVocabulary, UnknownLabelError
from cxr.read.dicom import find_dicoms
from cxr.read.radiograph import ReadError
from cxr.read.tags import open_tags

_log = logging.getLogger(__name__)

_FREE_TEXT = "CORNERSTONEJS"  # the scheme under which OHIF stores a label that a user has typed, as the code's meaning


def read_sr(root: Path | str, findings: FindingVocabulary, readers: str = "wbf", iou: float = 0.4) -> list[Film]:
    """Return the films below ``root`` that doctors reported on, boxes [N, 4] xyxy in original pixels.

    Polylines, ellipses and circles become the boxes around them. Codes of findings are those of the vocabulary
    (``Finding.codes``), and the private codes of our own reports. ``Film.readings`` has each doctor, under a pseudonym
    and with the time of the report.

    Args:
        root: the folder.
        findings: the vocabulary, as in ``conf/findings/eda.yaml``.
        readers: "wbf" (boxes of several doctors are fused), "union" (every box), or one doctor's pseudonym.
        iou: "wbf" fuses boxes of one finding that overlap by more than this.

    Raises ``FileNotFoundError`` without a doctor's report on a film, ``UnknownLabelError`` for regions with codes that
    no finding has, and ``TableError`` for regions that are not on their film.
    """
    return [one.film for one in read_corrected(Path(root), findings, readers, iou)]


def read_corrected(root: Path, findings: FindingVocabulary, readers: str = "wbf", iou: float = 0.4) -> list[Corrected]:
    """Return the films as ``read_sr`` does, each with the boxes of ours that its doctors saw."""
    place = Root(root)
    paths = find_dicoms(root)
    place.check_images(root, {str(path.relative_to(root)): path for path in paths})
    return corrected_films(root, paths, findings, readers, iou)


def is_sr(root: Path) -> bool:
    """Return whether a folder holds reports and no table of a data set, which another reader knows."""
    if not root.is_dir() or any(next(root.glob(table), None) for table in ("*.csv", "*.json", "*.yaml", "*/*.csv")):
        return False
    return any(_kind(path).modality == "SR" for path in find_dicoms(root))


def corrected_films(
    table: Path, paths: Iterable[Path], findings: FindingVocabulary, readers: str = "wbf", iou: float = 0.4
) -> list[Corrected]:
    """Return the films among the DICOM files ``paths`` that doctors reported on; errors name ``table``."""
    files = _sorted(paths)
    read = _standing(files.reports)
    seen: dict[str, dict[str, Reading]] = defaultdict(dict)
    annotations: dict[str, list[Annotation]] = defaultdict(list)
    unknown: Counter[str] = Counter()
    for report in read:
        for image in sorted(report.images & files.films.keys()):
            ours = _ours(report, image, files.reports, findings)
            annotations[image].append(_annotation(report, image, ours, findings, unknown))
            if ours is not None:
                seen[image][report.author] = ours
            else:
                seen[image].pop(report.author, None)  # of an earlier report of the same person
    _refuse_unknown(table, unknown, findings)
    if not annotations:
        raise FileNotFoundError(
            f"{table}: of {len(files.films)} films none has a measurement report (DICOM SR) by a person; "
            f"{len(files.reports)} reports were read, {len(read)} of them by a person"
        )
    if left_out := len(files.films) - len(annotations):
        _log.warning("%s: %d films have no report by a doctor and are left out.", table, left_out)
    sizes = read_files({image: files.films[image][0] for image in annotations})
    films = annotated_films(table, annotations, sizes, findings, readers, iou)
    return [
        Corrected(replace(film, copies=tuple(files.films[film.id][1:])), seen[film.id])
        for film in without_placeholders(films)
    ]


@dataclass(frozen=True)
class _Kind:
    uid: str = ""
    modality: str = ""
    maker: str = ""


@dataclass(frozen=True)
class _Files:
    """The files of a folder: reports, and by SOPInstanceUID the images, each with its copies."""

    reports: list[Report] = field(default_factory=list)
    films: dict[str, list[Path]] = field(default_factory=dict)


def _kind(path: Path) -> _Kind:
    """Return what kind of object a file is; an empty one for a file that cannot be read."""
    try:
        with open_tags(path, ["SOPInstanceUID", "Modality", "Manufacturer"]) as tags:
            return _Kind(tags.text("SOPInstanceUID"), tags.text("Modality"), tags.text("Manufacturer"))
    except ReadError:
        return _Kind()


def _sorted(paths: Iterable[Path]) -> _Files:
    """Return reports and films apart. Pictures that this project made of a film are no films."""
    files = _Files()
    unreadable = []
    for path in paths:
        kind = _kind(path)
        if kind.modality == "SR":
            try:
                report = read_report(path)
                files.reports.extend([report] if report.measurements else [])
            except ReadError as error:
                unreadable.append(error)
        elif kind.uid and kind.maker != MAKER:
            files.films.setdefault(kind.uid, []).append(path)
    if unreadable:
        _log.warning("%d reports cannot be read and are left out, first %s", len(unreadable), unreadable[0])
    return files


def _standing(reports: Sequence[Report]) -> list[Report]:
    """Return the reports of persons that no other one replaces, by time. The same report may lie there twice.

    One on a film that is not assessed, in which nobody has drawn anything, is no reading of the film.
    """
    read = (report for report in reports if report.attempted or any(one.drawn for one in report.statements))
    by_person = list({report.uid: report for report in read if report.author}.values())
    replaced = frozenset().union(*(report.predecessors - {report.uid} for report in by_person))
    return sorted((report for report in by_person if report.uid not in replaced), key=lambda report: report.time)


def _ours(report: Report, image: str, reports: Sequence[Report], findings: FindingVocabulary) -> Reading | None:
    """Return the boxes of ours on an image that the doctor behind a report saw; None where there are none."""
    written = [one for one in reports if one.ours and one.attempted and image in one.images]
    named = [one for one in written if one.uid in report.predecessors]
    ids = {statement.id for statement in report.statements} - {""}
    tracked = [one for one in written if ids & {statement.id for statement in one.statements}]
    before = [one for one in written if one.time <= report.time]
    candidates = named or tracked or before
    if not candidates:
        return None
    latest = max(candidates, key=lambda one: one.time)
    drawn = [
        (name, box, statement) for statement in latest.statements if statement.image == image
        for box in statement.boxes if (name := _name(statement.code, findings)) is not None
    ]  # fmt: skip
    boxes = np.array([box for _, box, _ in drawn], np.float32).reshape(-1, 4)
    names, told = tuple(name for name, _, _ in drawn), [statement for _, _, statement in drawn]
    scores = tuple(one.certainty or 0.0 for one in told)
    return Reading(MAKER, boxes, names, latest.time, tuple(one.id for one in told), scores)


def _annotation(
    report: Report, image: str, ours: Reading | None, findings: FindingVocabulary, unknown: Counter[str]
) -> Annotation:
    """Return what a doctor's report says of an image; codes of regions that no finding has are counted."""
    drawn: list[Drawn] = []
    unboxed, absent, unnamed = set[str](), set[str](), list[Box | None]()
    for number, statement in enumerate(report.statements, start=1):
        if statement.image != image:
            continue
        name = _name(statement.code, findings)
        if statement.absent:
            absent |= {name} if name is not None else set()
        elif statement.boxes and name is None and statement.code is not None:
            unknown[_shown(statement)] += 1
        elif statement.drawn and name is None:
            unnamed += statement.boxes or [None]
        elif name is not None and name != NORMAL:
            row = f"{report.path}, group {number}"
            drawn += [Drawn(name, box, row, statement.id) for box in statement.boxes]
            unboxed |= {name} if not statement.boxes else set()
    looked_for = None
    if unnamed or not report.complete or not report.attempted:
        looked_for = frozenset(absent | {one.finding for one in drawn})
        if ours is not None and report.complete:
            boxes = np.array([one.box for one in drawn], np.float32).reshape(-1, 4)
            names, ids = tuple(one.finding for one in drawn), tuple(one.id for one in drawn)
            theirs = Reading(report.author, boxes, names, report.time, ids)
            looked_for |= rejected(_elsewhere(ours, [box for box in unnamed if box is not None]), theirs)
    return Annotation(report.author, report.time, tuple(drawn), frozenset(unboxed), looked_for)


def _elsewhere(ours: Reading, regions: Sequence[Box]) -> Reading:
    """Return those of our boxes that do not mean the same place as one of some regions."""
    overlaps = box_iou(ours.boxes, np.array(regions, np.float32).reshape(-1, 4))
    kept = [n for n in range(len(ours.boxes)) if not (overlaps[n] >= SAME_PLACE).any()]
    findings, ids = (tuple(every[n] for n in kept) for every in (ours.findings, ours.ids))
    scores = tuple(ours.scores[n] for n in kept)
    return replace(ours, boxes=ours.boxes[kept], findings=findings, ids=ids, scores=scores)


def _name(code: Code | None, findings: FindingVocabulary) -> str | None:
    """Return the finding that a code means, or that was typed in place of one; None where it is not known."""
    if code is None:
        return None
    if code.scheme != _FREE_TEXT:
        return findings.coded(code)
    try:
        return findings.canonical(code.meaning)
    except UnknownLabelError:
        return None


def _shown(statement: Statement) -> str:
    code = statement.code
    return "" if code is None else f"{code.scheme} {code.value} {shown(code.meaning)}"


def _refuse_unknown(table: Path, unknown: Mapping[str, int], findings: FindingVocabulary) -> None:
    """Raise ``UnknownLabelError`` for regions with codes that no finding has."""
    if not unknown:
        return
    listed = "; ".join(f"{code} ({count} groups)" for code, count in list(unknown.items())[:20])
    known = ", ".join(f"{one.name} ({one.code.scheme} {one.code.value})" for one in findings.findings)
    raise UnknownLabelError(
        f"{table}: regions have codes that no finding of the vocabulary has: {listed}. Known: {known}. Add a code under"
        " `codes` of its finding in conf/findings/, or read them with a vocabulary of more findings and join that with"
        " data=merge (docs/corrections.md)"
    )
