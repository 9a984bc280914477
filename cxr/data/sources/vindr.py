"""Reads VinDr-CXR, from Kaggle's VinBigData competition or from PhysioNet: DICOM films, each marked by three readers.

    train.csv                    image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max     (Kaggle)
    train/<image_id>.dicom       or .dcm

    annotations/annotations_train.csv   annotations/annotations_test.csv                         (PhysioNet 1.0.0)
    annotations/image_labels_train.csv  annotations/image_labels_test.csv
    train/<image_id>.dicom  test/<image_id>.dicom

Coordinates are pixels of the film, decimals included. PhysioNet's test films have the consensus of five readers.
Source: Nguyen et al. 2022, Scientific Data 9:429; doi:10.13026/3akn-b287.
"""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from cxr.data.film import Film, Reading
from cxr.data.patients import without_placeholders
from cxr.data.sources.boxes import corners, numbers
from cxr.data.sources.marks import (
    FilmFile,
    Marks,
    find_images,
    fit_marks,
    labelled_for,
    marked_film,
    note_unboxed,
    read_files,
)
from cxr.data.sources.readers import fuse, unite
from cxr.data.sources.root import Root
from cxr.data.sources.tables import raise_problems, read_table, shown
from cxr.findings import NORMAL, FindingVocabulary

_COLUMNS = ("image_id", "class_name", "x_min", "y_min", "x_max", "y_max")
_CONSENSUS = "consensus"

_Readers = dict[str, Marks]  # rad_id of a reader → the marks of this reader on one film


def read_vindr(root: Path | str, findings: FindingVocabulary, readers: str = "wbf", iou: float = 0.4) -> list[Film]:
    """Return the films of ``root``, boxes [N, 4] xyxy in original pixels. PhysioNet's test films have ``split="test"``.

    A film is normal if every reader says "No finding". If only some say so, the film has the marks of the others.
    ``Film.readings`` has the marks of each of several readers. A row whose corners are all empty means that the film
    has the finding without a box.

    Args:
        root: the folder of ``train.csv``, or that of ``annotations``.
        findings: vocabulary with the names of the data set, as in ``conf/findings/vindr.yaml``.
        readers: "wbf" (``weighted_boxes_fusion``), "union" (every box of every reader), or one reader such as "R9",
            which returns only the films that this reader read. Test films always have the consensus of their readers.
        iou: "wbf" fuses boxes of one finding that overlap by more than this.

    Raises ``FileNotFoundError`` without table or images, ``UnknownLabelError`` for other findings, ``TableError`` for
    damaged rows, and ``ValueError`` for an unknown reader.
    """
    base, place = Path(root), Root(Path(root))
    read = [(table, split, _marks(place, table, findings)) for table, split in _tables(base)]
    if not read:
        raise FileNotFoundError(
            f"{base} holds neither train.csv with rad_id (Kaggle) nor annotations/annotations_train.csv (PhysioNet)"
        )
    known = sorted({rater for _, _, marks in read for of_film in marks.values() for rater in of_film} - {_CONSENSUS})
    if readers not in ("wbf", "union", *known):
        raise ValueError(f"{base}: readers is {readers!r}, expected 'wbf', 'union' or one of {', '.join(known)}")
    films = []
    for table, split, marks in read:
        chosen = {name: of_film for name, every in marks.items() if (of_film := _chosen(every, readers))}
        files = read_files(find_images(place, table, chosen, [base / split]))
        fit_marks(table, ((name, one) for name, every in marks.items() for one in every.values()), files)
        abnormal = _abnormal(place, table)
        held_back = "test" if split == "test" else ""
        for name, file in files.items():
            ill = any((name, rater) in abnormal for rater in chosen[name])
            films.append(_film(file, name, chosen[name], ill, findings, readers, iou, held_back))
    return without_placeholders(films)


def is_vindr(root: Path) -> bool:
    """Return whether ``root`` has a table of this data set."""
    return bool(_tables(root))


def _tables(base: Path) -> list[tuple[Path, str]]:
    """Return the tables that exist, each with its split."""
    kaggle = base / "train.csv"
    if kaggle.is_file() and b"rad_id" in kaggle.read_bytes().split(b"\n", 1)[0]:
        return [(kaggle, "train")]
    folders = (base / "annotations", base)
    places = [(folder / f"annotations_{split}.csv", split) for split in ("train", "test") for folder in folders]
    return [(table, split) for table, split in places if table.is_file()]


def _marks(place: Root, table: Path, findings: FindingVocabulary) -> dict[str, _Readers]:
    """Return the marks of each reader on each film, not checked yet; they are empty if the reader saw nothing."""
    records = read_table(place.check(table), _COLUMNS, optional=["rad_id"])
    names = findings.resolve([record["class_name"] for record in records.values()], str(table), list(records))
    marks: dict[str, _Readers] = defaultdict(lambda: defaultdict(Marks))
    raise_problems(table, _unnamed(records))
    for (line, record), name in zip(records.items(), names, strict=True):
        of_reader = marks[record["image_id"]][record["rad_id"] or _CONSENSUS]
        try:
            if name != NORMAL:
                values = numbers([record[column] for column in _COLUMNS[2:]])
                of_reader.add(name, None if values is None else corners(values), f"row {line}")
        except ValueError as error:
            of_reader.problems.append(f"row {line}: {error}; a finding without a box has four empty corners")
    for image, rater, _ in _image_labels(place, table):
        marks[image].setdefault(rater, Marks())  # this reader saw the film but marked nothing
    note_unboxed(table, (of_reader for readers in marks.values() for of_reader in readers.values()))
    return marks


def _unnamed(records: Mapping[int, Mapping[str, str]]) -> list[str]:
    """Return a problem for each row without a film, or without a reader if other rows have one."""
    raters = any(record["rad_id"] for record in records.values())
    return [
        f"row {line}: no {' and no '.join(lacking)}"
        for line, record in records.items()
        if (lacking := [c for c in ("image_id", "rad_id")[: 1 + raters] if not record[c]])
    ]


def _image_labels(place: Root, annotations: Path) -> list[tuple[str, str, bool]]:
    """Return (film, reader, whether the reader says "No finding") from PhysioNet's table of whole films."""
    table = annotations.with_name(annotations.name.replace("annotations_", "image_labels_"))
    if table == annotations or not table.is_file():
        return []
    records = read_table(place.check(table), ["image_id", "No finding"], optional=["rad_id"])
    known = {"0": False, "0.0": False, "1": True, "1.0": True}
    raise_problems(table, _unnamed(records) + [
        f"row {line}: No finding is {shown(record['No finding'])}, expected 0 or 1"
        for line, record in records.items() if record["No finding"] not in known
    ])  # fmt: skip
    return [(r["image_id"], r["rad_id"] or _CONSENSUS, known[r["No finding"]]) for r in records.values()]


def _abnormal(place: Root, annotations: Path) -> set[tuple[str, str]]:
    """Return (film, reader) wherever the reader does not say "No finding"."""
    return {(image, rater) for image, rater, nothing in _image_labels(place, annotations) if not nothing}


def _chosen(of_film: _Readers, readers: str) -> _Readers:
    """Return the readers whose marks are used."""
    if readers in ("wbf", "union"):
        return of_film
    return {rater: marks for rater, marks in of_film.items() if rater in (readers, _CONSENSUS)}


def _film(
    file: FilmFile, name: str, of_film: _Readers, abnormal: bool, findings: FindingVocabulary, readers: str, iou: float,
    split: str,
) -> Film:  # fmt: skip
    readings = tuple(Reading(rater, marks.corners, marks.findings) for rater, marks in sorted(of_film.items()))
    boxes, names = fuse(readings, iou) if readers == "wbf" and len(readings) > 1 else unite(readings)
    together = Marks(
        [(finding, tuple(box)) for finding, box in zip(names, boxes.tolist(), strict=True)],
        set[str]().union(*(marks.unboxed for marks in of_film.values())),
    )
    # A film with a suspected disease (PhysioNet's six global labels) may have no box, but it is not normal
    labelled = labelled_for(findings, together.unboxed)
    if abnormal and not names and labelled is None:
        labelled = frozenset(findings.names)
    rater = readings[0].rater if len(readings) == 1 else ""
    several = readings if len(readings) > 1 else ()
    return marked_film(
        file, name, name, together, findings, split=split, rater=rater, readings=several, labelled=labelled
    )
