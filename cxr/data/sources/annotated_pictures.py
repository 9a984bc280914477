"""Joins what annotators drew on pictures of films to the films themselves, in pixels of the films."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from cxr.data.annotation_key import KeyEntry, read_key
from cxr.data.corrections import Corrected
from cxr.data.patients import without_placeholders
from cxr.data.sources.annotations import Annotation, annotated_films
from cxr.data.sources.marks import FilmFile
from cxr.data.sources.tables import TableError, raise_problems, shown
from cxr.findings import NORMAL, FindingVocabulary


@dataclass(frozen=True)
class PictureAnnotation:
    """What one annotator says of one picture.

    Args:
        picture: its file name, as the tool has it.
        number: of the picture in its file, from 1, for messages.
        annotation: what was drawn: boxes are in shares of the picture's width and height, findings as they were typed.
    """

    picture: str
    number: int
    annotation: Annotation


def corrected_pictures(
    table: Path,
    annotations: Sequence[PictureAnnotation],
    key: Path | str,
    findings: FindingVocabulary,
    readers: str,
    iou: float,
) -> list[Corrected]:
    """Return the films behind annotated pictures, each with the boxes of ours that were drawn on it before.

    Raises ``TableError`` for pictures that the key does not have, and ``FileNotFoundError`` for films that are gone.
    """
    films = read_key(Path(key))
    names = [_known(one.picture, films) for one in annotations]
    raise_problems(table, [
        f"number {one.number}: the picture {shown(one.picture)} is not in {key}, expected one that `cxr annotate` wrote"
        for one, name in zip(annotations, names, strict=True) if not name
    ])  # fmt: skip
    if not annotations:
        raise TableError(f"{table} holds no film that anybody has read")
    by_picture: dict[str, list[Annotation]] = {}
    for one, name in zip(_named(table, annotations, findings), names, strict=True):
        by_picture.setdefault(name, []).append(_in_pixels(one, films[name]))
    files = {name: _file(films[name]) for name in by_picture}
    if gone := [file.path for file in files.values() if not file.path.is_file()]:
        raise FileNotFoundError(f"{key}: {len(gone)} of {len(files)} films are not where they were, first {gone[0]}")
    made = without_placeholders(annotated_films(table, by_picture, files, findings, readers, iou))
    return [Corrected(film, dict.fromkeys((one.rater for one in film.readings), films[film.id].ours)) for film in made]


def exports(root: Path, suffix: str) -> list[Path]:
    """Return ``root`` if it is a file, else the files with that suffix in it, sorted. Raises ``FileNotFoundError``."""
    if root.is_file():
        return [root]
    found = sorted(path for path in root.glob(f"*{suffix}") if path.is_file())
    if not found:
        raise FileNotFoundError(f"{root} holds no {suffix}, expected the exports of the annotators' tool")
    return found


def _known(picture: str, films: Mapping[str, KeyEntry]) -> str:
    """Return the name in the key of a picture that a tool may have put into a folder, "" where there is none.

    Label Studio puts eight characters and a hyphen before the name of a picture that was uploaded.
    """
    name = PurePosixPath(picture.replace("\\", "/")).name.rpartition("=")[2]
    return next((one for one in (name, name[9:]) if one in films), "")


def _named(table: Path, annotations: Sequence[PictureAnnotation], findings: FindingVocabulary) -> list[Annotation]:
    """Return the annotations with canonical names. Raises one ``UnknownLabelError`` for all unknown labels."""
    typed = [(drawn.finding, one.number) for one in annotations for drawn in one.annotation.drawn]
    names = iter(findings.resolve([label for label, _ in typed], str(table), [number for _, number in typed]))
    every = [[replace(drawn, finding=next(names)) for drawn in one.annotation.drawn] for one in annotations]
    return [
        replace(one.annotation, drawn=tuple(box for box in drawn if box.finding != NORMAL))
        for one, drawn in zip(annotations, every, strict=True)
    ]


def _in_pixels(annotation: Annotation, film: KeyEntry) -> Annotation:
    """Return an annotation whose boxes are shares of the picture with boxes in pixels of the film."""
    width, height = film.width, film.height
    boxes = [(x0 * width, y0 * height, x1 * width, y1 * height) for x0, y0, x1, y1 in (d.box for d in annotation.drawn)]
    drawn = [replace(one, box=box) for one, box in zip(annotation.drawn, boxes, strict=True)]
    return replace(annotation, drawn=tuple(drawn))


def _file(film: KeyEntry) -> FilmFile:
    return FilmFile(Path(film.path), film.width, film.height, film.study, film.patient)
