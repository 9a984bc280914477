"""What readers drew on a film with a tool of their own, and the film that is made of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cxr.data.film import Film, Reading
from cxr.data.sources.boxes import Box, fit
from cxr.data.sources.marks import FilmFile, Marks, marked_film
from cxr.data.sources.readers import fuse, unite
from cxr.data.sources.tables import raise_problems
from cxr.findings import FindingVocabulary

FUSED, UNITED = "wbf", "union"

_MOSTLY = 0.5  # of the area of a box


@dataclass(frozen=True)
class Drawn:
    """A box that a reader drew.

    Args:
        finding: canonical name.
        box: xyxy in pixels of the film.
        row: where it stands in its file, for messages.
        id: the name that it keeps when another reader corrects it, "" for none.
    """

    finding: str
    box: Box
    row: str
    id: str = ""


@dataclass(frozen=True)
class Annotation:
    """What one reader says of one film at one time.

    Args:
        rater: pseudonym of the reader.
        time: when, as text that sorts; "" where it is not known.
        drawn: the boxes.
        unboxed: findings that the reader names without a box.
        looked_for: findings that are known to be absent where they have no box; None: all of the vocabulary.
    """

    rater: str
    time: str = ""
    drawn: tuple[Drawn, ...] = ()
    unboxed: frozenset[str] = frozenset()
    looked_for: frozenset[str] | None = None


def annotated_films(
    table: Path,
    annotations: Mapping[str, Sequence[Annotation]],
    files: Mapping[str, FilmFile],
    findings: FindingVocabulary,
    readers: str,
    iou: float,
) -> list[Film]:
    """Return the films that readers annotated, by name; of several annotations of one reader the latest counts.

    A film that is labelled for no finding is left out. ``Film.readings`` has each reader.

    Args:
        table: the file or folder that errors name.
        annotations: by the name of the film.
        files: of each film.
        findings: the vocabulary.
        readers: "wbf" (boxes are fused), "union" (every box of every reader), or one reader, whose films are returned.
        iou: "wbf" fuses boxes of one finding that overlap by more than this.

    Raises ``ValueError`` for an unknown reader, and ``TableError`` for boxes that are not on their film.
    """
    latest = {name: _latest(several) for name, several in annotations.items()}
    known = sorted({one.rater for several in latest.values() for one in several})
    if readers not in (FUSED, UNITED, *known):
        raise ValueError(
            f"{table}: readers is {readers!r}, expected '{FUSED}', '{UNITED}' or one of {', '.join(known)}"
        )
    read = _readings(table, latest, files)
    films = []
    for name, several in latest.items():
        chosen = [n for n, one in enumerate(several) if readers in (FUSED, UNITED, one.rater)]
        if chosen:
            both = [several[n] for n in chosen], [read[name][n] for n in chosen]
            films.append(_film(files[name], name, *both, findings, readers, iou))
    return [film for film in films if not film.unmarked]


def _latest(annotations: Sequence[Annotation]) -> list[Annotation]:
    """Return the latest annotation of each reader, the readers in the order of their pseudonyms."""
    by_time = {one.rater: one for one in sorted(annotations, key=lambda one: one.time)}
    return [by_time[rater] for rater in sorted(by_time)]


def _readings(
    table: Path, annotations: Mapping[str, Sequence[Annotation]], files: Mapping[str, FilmFile]
) -> dict[str, list[Reading]]:
    """Return the readings of each film, their boxes cut to it. Raises ``TableError`` for boxes beside their film."""
    every = [(files[name], drawn) for name, several in annotations.items() for one in several for drawn in one.drawn]
    boxes = np.array([drawn.box for _, drawn in every], np.float64).reshape(-1, 4)
    sizes = np.array([(file.width, file.height) for file, _ in every], np.float64).reshape(-1, 2)
    fitted, misplaced = fit(_cut(boxes, sizes), sizes)
    raise_problems(table, [f"{every[n][1].row}: {problem}" for n, problem in misplaced.items()])
    rest = iter(fitted)
    return {name: [_reading(one, [next(rest) for _ in one.drawn]) for one in several]
            for name, several in annotations.items()}  # fmt: skip


def _cut(boxes: NDArray[np.float64], sizes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return boxes cut to their films where half of their area or more lies there; the others as they are.

    They were drawn on the film itself, so one that reaches over its border is not of another film. An ellipse or a
    turned rectangle at the border does so.
    """
    cut = np.clip(boxes, 0, np.concatenate([sizes, sizes], axis=1))
    areas, kept = ((b[:, 2:] - b[:, :2]).prod(axis=1) for b in (boxes, cut))
    return np.where((kept >= _MOSTLY * areas)[:, None], cut, boxes)


def _reading(annotation: Annotation, boxes: Sequence[NDArray[np.float32]]) -> Reading:
    """Return an annotation with its boxes as they are on the film. A box that stands there twice counts once."""
    unique = {(drawn.finding, tuple(box.tolist())): drawn for drawn, box in zip(annotation.drawn, boxes, strict=True)}
    return Reading(
        annotation.rater,
        np.array([box for _, box in unique], np.float32).reshape(-1, 4),
        tuple(finding for finding, _ in unique),
        annotation.time,
        tuple(drawn.id for drawn in unique.values()),
    )


def _film(
    file: FilmFile,
    name: str,
    annotations: Sequence[Annotation],
    readings: Sequence[Reading],
    findings: FindingVocabulary,
    readers: str,
    iou: float,
) -> Film:
    boxes, names = fuse(readings, iou) if readers == FUSED and len(readings) > 1 else unite(readings)
    marks = Marks([(finding, tuple(box)) for finding, box in zip(names, boxes.tolist(), strict=True)])
    rater = readings[0].rater if len(readings) == 1 else ""
    more = {"rater": rater, "readings": tuple(readings), "labelled": _labelled(annotations, findings)}
    return marked_film(file, name, name, marks, findings, **more)


def _labelled(annotations: Sequence[Annotation], findings: FindingVocabulary) -> frozenset[str] | None:
    """Return what the readers looked for, all together, without what one of them names but did not box."""
    every = frozenset(findings.names)
    looked = frozenset().union(*(every if one.looked_for is None else one.looked_for for one in annotations))
    looked -= frozenset().union(*(one.unboxed for one in annotations))
    return None if looked == every else looked
