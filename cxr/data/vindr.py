"""VinDr-CXR, of Kaggle's VinBigData competition or of PhysioNet: DICOM films, each marked by three readers.

    train.csv                    image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max     (Kaggle)
    train/<image_id>.dicom       or .dcm

    annotations/annotations_train.csv   annotations/annotations_test.csv                         (PhysioNet 1.0.0)
    annotations/image_labels_train.csv  annotations/image_labels_test.csv
    train/<image_id>.dicom  test/<image_id>.dicom

Coordinates are pixels of the film, decimals included. PhysioNet's test films have the consensus of five readers.
Source: Nguyen et al. 2022, Scientific Data 9:429; doi:10.13026/3akn-b287.
"""

from collections import defaultdict
from pathlib import Path

from cxr.data.film import Film, Reading
from cxr.data.marks import Marks, find_images, marked_film, note_unusable, told, with_headers
from cxr.data.patients import without_placeholders
from cxr.data.readers import fuse, unite
from cxr.data.tables import corners, raise_problems, read_table, resolve
from cxr.findings import NORMAL, FindingVocabulary

_COLUMNS = ("image_id", "class_name", "x_min", "y_min", "x_max", "y_max")
_CONSENSUS = "consensus"

_Readers = dict[str, Marks]  # of one film, by rad_id


def read_vindr(root: Path | str, findings: FindingVocabulary, readers: str = "wbf", iou: float = 0.4) -> list[Film]:
    """Return the films of ``root`` with boxes [N, 4] xyxy in original pixels; PhysioNet's test films ``split="test"``.

    A film is normal where every reader says "No finding". Where one says so and another marks something, the film has
    what was marked. ``Film.readings`` has what each of several readers marked.

    Args:
        root: the folder of ``train.csv``, or that of ``annotations``.
        findings: in which the data set's names are known, as in ``conf/findings/vindr.yaml``.
        readers: "wbf" (``weighted_boxes_fusion``), "union" (every box of every reader), or one reader such as "R9":
            the films this one read, as marked by this one. Test films always have their consensus.
        iou: boxes of one finding that overlap by more are fused by "wbf".

    Raises ``FileNotFoundError`` without table or images, ``UnknownLabelError`` for other findings, ``TableError`` for
    damaged rows and ``ValueError`` for a reader that is none.
    """
    base = Path(root)
    read = [(table, split, _marks(table, findings)) for table, split in _tables(base)]
    if not read:
        raise FileNotFoundError(
            f"{base} holds neither train.csv with rad_id (Kaggle) nor annotations/annotations_train.csv (PhysioNet)"
        )
    known = sorted({rater for _, _, marks in read for of_film in marks.values() for rater in of_film} - {_CONSENSUS})
    if readers not in ("wbf", "union", *known):
        raise ValueError(f"{base}: readers is {readers!r}, expected 'wbf', 'union' or one of {', '.join(known)}")
    films = []
    for table, split, marks in read:
        marks = {name: _chosen(of_film, readers) for name, of_film in marks.items() if _chosen(of_film, readers)}
        images = find_images(table, marks, [base / split])
        abnormal = _abnormal(table)
        held_back = "test" if split == "test" else ""
        for name, path in images.items():
            ill = any((name, rater) in abnormal for rater in marks[name])
            films.append(_film(path, name, marks[name], ill, findings, readers, iou, held_back))
    return without_placeholders(with_headers(films))


def is_vindr(root: Path) -> bool:
    """Whether ``root`` holds a table of this data set."""
    return bool(_tables(root))


def _tables(base: Path) -> list[tuple[Path, str]]:
    """Return the tables that are there and the splits they are of."""
    kaggle = base / "train.csv"
    if kaggle.is_file() and b"rad_id" in kaggle.read_bytes().split(b"\n", 1)[0]:
        return [(kaggle, "train")]
    folders = (base / "annotations", base)
    places = [(folder / f"annotations_{split}.csv", split) for split in ("train", "test") for folder in folders]
    return [(table, split) for table, split in places if table.is_file()]


def _marks(table: Path, findings: FindingVocabulary) -> dict[str, _Readers]:
    """Return what each reader marked on each film; one who found nothing has empty marks."""
    records = read_table(table, _COLUMNS, optional=["rad_id"])
    names = resolve((record["class_name"] for record in records.values()), findings, table, records)
    marks: dict[str, _Readers] = defaultdict(lambda: defaultdict(Marks))
    problems = []
    for (line, record), name in zip(records.items(), names, strict=True):
        of_reader = marks[record["image_id"]][record["rad_id"] or _CONSENSUS]
        try:
            if name != NORMAL:
                of_reader.add(name, corners([record[column] for column in _COLUMNS[2:]]))
        except ValueError as error:
            problems.append(f"row {line}: {error}")
    raise_problems(table, problems)
    for image, rater, _ in _image_labels(table):
        marks[image].setdefault(rater, Marks())  # read by a reader who marked nothing
    note_unusable(table, {(image, rater): m for image, readers in marks.items() for rater, m in readers.items()})
    return marks


def _image_labels(annotations: Path) -> list[tuple[str, str, bool]]:
    """Return (film, reader, whether this reader found nothing) of PhysioNet's table of whole films."""
    table = annotations.with_name(annotations.name.replace("annotations_", "image_labels_"))
    if table == annotations or not table.is_file():
        return []
    records = read_table(table, ["image_id", "No finding"], optional=["rad_id"]).values()
    return [(r["image_id"], r["rad_id"] or _CONSENSUS, r["No finding"] in ("1", "1.0")) for r in records]


def _abnormal(annotations: Path) -> set[tuple[str, str]]:
    """Return (film, reader) where the reader says that the film is not without a finding."""
    return {(image, rater) for image, rater, nothing in _image_labels(annotations) if not nothing}


def _chosen(of_film: _Readers, readers: str) -> _Readers:
    """Return the readers that count."""
    if readers in ("wbf", "union"):
        return of_film
    return {rater: marks for rater, marks in of_film.items() if rater in (readers, _CONSENSUS)}


def _film(
    path: Path, name: str, of_film: _Readers, abnormal: bool, findings: FindingVocabulary, readers: str, iou: float,
    split: str,
) -> Film:  # fmt: skip
    readings = tuple(Reading(rater, marks.corners, marks.findings) for rater, marks in sorted(of_film.items()))
    boxes, names = fuse(readings, iou) if readers == "wbf" and len(readings) > 1 else unite(readings)
    together = Marks(
        [(finding, tuple(box)) for finding, box in zip(names, boxes.tolist(), strict=True)],
        set[str]().union(*(marks.unboxed for marks in of_film.values())),
    )
    # a suspected disease of the whole film (PhysioNet's six global labels) has no box, and is not nothing
    labelled = told(findings, together.unboxed)
    if abnormal and not names and labelled is None:
        labelled = frozenset(findings.names)
    rater = readings[0].rater if len(readings) == 1 else ""
    several = readings if len(readings) > 1 else ()
    return marked_film(
        path, name, name, together, findings, split=split, rater=rater, readings=several, labelled=labelled
    )
