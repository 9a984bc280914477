"""Reads films with labels in the format of Ultralytics' YOLO: a txt for each image, boxes as fractions.

data.yaml                        path: .   train: images/train   val: images/val   test: images/test   names: [a, b]
images/train/<film>.png          png, jpg, tif or DICOM
labels/train/<film>.txt          class x_center y_center width height     a row for each box, fractions of the film
"""

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cxr.data.film import Film
from cxr.data.patients import without_placeholders
from cxr.data.sources.boxes import LARGEST_SIDE, corner_and_size, number
from cxr.data.sources.documents import read_yaml
from cxr.data.sources.marks import Marks, fit_marks, marked_film, read_files
from cxr.data.sources.root import Root, wrong_name
from cxr.data.sources.tables import TableError, raise_problems, read_text, shown
from cxr.findings import FindingVocabulary

_log = logging.getLogger(__name__)

_SETTINGS = "data.yaml"
_SPLITS = ("train", "val", "test")
_IMAGES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".dcm", ".dicom", "")


def read_yolo(root: Path | str, findings: FindingVocabulary) -> list[Film]:
    """Return the films that ``data.yaml`` names, boxes [N, 4] xyxy in original pixels; ``test`` films are for testing.

    ``train`` and ``val`` are put together, because the project splits by patient. In this format an image with an empty
    or missing txt is normal; a warning counts the missing ones. Only DICOM files give the patient.

    Folders, lists and links must lead to files below ``root``, also if a list has absolute paths.

    Raises ``FileNotFoundError``, ``UnknownLabelError`` for names outside ``findings`` and ``TableError``.
    """
    base = Path(root)
    place, table = Root(base), base / _SETTINGS
    settings = _settings(place.check(table))
    names = findings.resolve(list(settings["names"].values()), str(table))
    classes = dict(zip(settings["names"], names, strict=True))
    # an image that is named in two splits is in the last one
    splits = {image: split for split in _SPLITS for image in _images(place, settings, split)}
    if not splits:
        raise FileNotFoundError(f"{table}: no image lies in its train, val and test folders")
    files = read_files({_name(image, base): image for image in splits})
    marks = _all_marks(place, splits, classes)
    for name, file in files.items():
        # without a readable header the size is unknown; reading the film later raises the error
        marks[name].stretch(file.width or LARGEST_SIDE, file.height or LARGEST_SIDE)
    fit_marks(base, marks.items(), files)
    return without_placeholders([
        marked_film(file, name, name, marks[name], findings, split="test" if splits[file.path] == "test" else "")
        for name, file in files.items()
    ])  # fmt: skip


def is_yolo(root: Path) -> bool:
    """Return whether ``root`` has the settings of a data set in this format."""
    return (root / _SETTINGS).is_file()


def yolo_vocabulary(root: Path) -> FindingVocabulary:
    """Return the findings that ``data.yaml`` names, in its order."""
    return FindingVocabulary([{"name": name} for name in _settings(root / _SETTINGS)["names"].values()])


def _settings(table: Path) -> dict[str, Any]:
    """Return the settings with ``names`` by class number, and with the list of places of each split."""
    if not table.is_file():
        raise FileNotFoundError(f"{table} is missing, expected the settings of a YOLO data set (names, train, val)")
    settings = read_yaml(table)
    names = settings.get("names") if isinstance(settings, dict) else None
    if not isinstance(names, list | dict) or not names:
        raise TableError(f"{table} has no `names`, expected the list of its classes")
    by_number = names if isinstance(names, dict) else dict(enumerate(names))
    problems = [
        f"names: {shown(key)}: {shown(name)}, expected a number and a text (yes, no and null need quotation marks)"
        for key, name in by_number.items()
        if not str(key).isdecimal() or len(str(key)) > 9 or type(name) not in (str, int) or name == ""
    ]
    places = {split: settings.get(split) or [] for split in _SPLITS}
    places = {split: given if isinstance(given, list) else [given] for split, given in places.items()}
    problems += [
        f"{split}: {problem}" for split, given in places.items() for one in given if (problem := wrong_name(one))
    ]
    path = settings.get("path") or "."
    problems += [f"path: {problem}"] if (problem := wrong_name(path)) else []
    raise_problems(table, problems)
    return places | {"path": path, "names": {int(key): str(name) for key, name in by_number.items()}}


def _images(place: Root, settings: Mapping[str, Any], split: str) -> list[Path]:
    """Return the images of a split: those of one or several folders, or of a txt that lists them.

    Raises ``FileNotFoundError`` for a missing folder, and ``TableError`` for paths outside the data set.
    """
    root, images = place.folder, []
    base = root / settings["path"]
    for entry in settings[split]:
        # Roboflow writes ../train/images for folders that are beside data.yaml
        places = [base / entry, root / entry, root / entry.removeprefix("../")]
        there = [path for path in places if path.exists()]
        inside = [path for path in there if not place.refusal(path)]
        if there and not inside:
            raise TableError(f"{root / _SETTINGS}: {split} is {shown(entry)}, which {place.refusal(there[0])}")
        if not there:
            raise FileNotFoundError(f"{root / _SETTINGS}: {split} is {entry!r}, which is not in {base}")
        files = _listed(place, inside[0], base) if inside[0].is_file() else sorted(inside[0].rglob("*"))
        images += [file for file in files if file.suffix.lower() in _IMAGES and not file.name.startswith(".")]
    images = [image for image in dict.fromkeys(images) if image.is_file()]
    place.check_images(root, {str(image): image for image in images})
    images = [place.below(image) for image in images]
    if missing := sum(not _label_file(image, root).is_file() for image in images):
        _log.warning("%s: %d of %d images of %s have no txt and are normal.", root, missing, len(images), split)
    return images


def _listed(place: Root, table: Path, base: Path) -> list[Path]:
    """Return the images that a txt lists, one in each line; names may contain spaces. A warning counts missing ones.

    A path begins at the data set's folder or at that of the list. It may be absolute if it leads into the data set.
    Raises ``TableError`` for lines that lead out of it, whether such a file exists or not.
    """
    files, problems = [], []
    for line, text in enumerate(read_text(table).splitlines(), start=1):
        if not (listed := text.strip()):
            continue
        if problem := wrong_name(listed):
            problems.append(f"row {line}: {problem}")
            continue
        places = [base / listed, table.parent / listed]
        inside = [path for path in places if not place.refusal(path)]
        if not inside:
            problems.append(f"row {line}: {shown(listed)} {place.refusal(places[0])}")
            continue
        files.append(next((path for path in inside if path.is_file()), inside[0]))
    raise_problems(table, problems)
    if lost := sum(not file.is_file() for file in files):
        _log.warning("%s: %d of %d images of it are missing and left out.", table, lost, len(files))
    return files


def _label_file(image: Path, root: Path) -> Path:
    """Return …/labels/x.txt for …/images/x.png; the last folder below ``root`` that is called images is replaced."""
    parts = list(image.relative_to(root).parts)
    if "images" in parts[:-1]:
        last = len(parts) - 2 - parts[-2::-1].index("images")
        parts[last] = "labels"
    return root.joinpath(*parts).with_suffix(".txt")


def _all_marks(place: Root, images: Iterable[Path], classes: Mapping[int, str]) -> dict[str, Marks]:
    """Return the marks of every image by its name, as fractions of width and height, not checked yet."""
    marks = {}
    for image in images:
        table = _label_file(image, place.folder)
        of_film = marks[_name(image, place.folder)] = Marks()
        if refusal := place.refusal(table):
            of_film.problems.append(f"{table} {refusal}")
        elif table.is_file():
            _add_rows(of_film, table, _name(table, place.folder), classes)
    return marks


def _add_rows(marks: Marks, table: Path, name: str, classes: Mapping[int, str]) -> None:
    """Add the boxes of a txt to the marks of a film, and the problems of its rows."""
    try:
        rows = read_text(table).splitlines()
    except TableError as error:
        marks.problems.append(str(error))
        return
    for line, row in enumerate(rows, start=1):
        try:
            if row.strip():
                label, x, y, width, height = row.split()
                finding = classes[int(label)]
                w, h = number(width), number(height)
                box = corner_and_size([number(x) - w / 2, number(y) - h / 2, w, h])
                marks.add(finding, box, f"{name}, row {line}")
        except (ValueError, KeyError):
            expected = f"class x y width height, class one of {', '.join(map(str, classes))}, sizes above 0 and finite"
            marks.problems.append(f"{name}, row {line}: {shown(row)}, expected {expected}")


def _name(file: Path, root: Path) -> str:
    return str(file.relative_to(root))
