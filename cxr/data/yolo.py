"""Films with labels as Ultralytics' YOLO has them: a txt for each image, sizes as fractions.

data.yaml                        path: .   train: images/train   val: images/val   test: images/test   names: [a, b]
images/train/<film>.png          png, jpg, tif or DICOM
labels/train/<film>.txt          class x_center y_center width height     one row a box, fractions of the film
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from cxr.data.film import Film
from cxr.data.marks import Marks, marked_film, note_unusable, with_headers
from cxr.data.patients import without_placeholders
from cxr.data.tables import TableError, corner_and_size, raise_problems
from cxr.findings import FindingVocabulary

_log = logging.getLogger(__name__)

_SETTINGS = "data.yaml"
_IMAGES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".dcm", ".dicom", "")


def read_yolo(root: Path | str, findings: FindingVocabulary) -> list[Film]:
    """Return the films that ``data.yaml`` names, boxes [N, 4] xyxy in original pixels; its ``test`` films held back.

    ``train`` and ``val`` are one pool: the project splits by patient. An image whose txt is empty or missing is normal,
    as the format has it; the missing ones are counted in a warning. Patients are known of DICOM files only.

    Raises ``FileNotFoundError``, ``UnknownLabelError`` for names outside ``findings`` and ``TableError``.
    """
    settings = _settings(Path(root) / _SETTINGS)
    names = findings.resolve(list(settings["names"].values()), str(Path(root) / _SETTINGS))
    classes = dict(zip(settings["names"], names, strict=True))
    films = [
        film for split in ("train", "val", "test") for film in _read(Path(root), settings, split, classes, findings)
    ]
    films = list({film.path: film for film in films}.values())  # a folder named for two splits: once, as the last says
    if not films:
        raise FileNotFoundError(f"{Path(root) / _SETTINGS}: no image lies in its train, val and test folders")
    return without_placeholders(films)


def is_yolo(root: Path) -> bool:
    """Whether ``root`` holds the settings of a data set in this format."""
    return (root / _SETTINGS).is_file()


def yolo_vocabulary(root: Path) -> FindingVocabulary:
    """Return the findings that ``data.yaml`` itself names, in its order."""
    return FindingVocabulary([{"name": name} for name in _settings(root / _SETTINGS)["names"].values()])


def _settings(table: Path) -> dict[str, Any]:
    """Return the settings with ``names`` by class number."""
    if not table.is_file():
        raise FileNotFoundError(f"{table} is missing, expected the settings of a YOLO data set (names, train, val)")
    settings = yaml.safe_load(table.read_text(encoding="utf-8-sig"))
    names = settings.get("names") if isinstance(settings, dict) else None
    if not isinstance(names, list | dict) or not names:
        raise TableError(f"{table} has no `names`, expected the list of its classes")
    by_number = names if isinstance(names, dict) else dict(enumerate(names))
    return {**settings, "names": {int(number): str(name) for number, name in by_number.items()}}


def _read(
    root: Path, settings: Mapping[str, Any], split: str, classes: Mapping[int, str], findings: FindingVocabulary
) -> list[Film]:
    images = _images(root, settings, split)
    marks = {image: _marks(_label_file(image), classes) for image in images}
    note_unusable(root / _SETTINGS, marks)
    if missing := sum(not _label_file(image).is_file() for image in images):
        _log.warning("%s: %d of %d images of %s have no txt and are normal.", root, missing, len(images), split)
    held_back = "test" if split == "test" else ""
    films = with_headers([
        marked_film(image, name := _name(image, root), name, found, findings, split=held_back)
        for image, found in marks.items()
    ])  # fmt: skip
    return [_in_pixels(film) for film in films]


def _images(root: Path, settings: Mapping[str, Any], split: str) -> list[Path]:
    """Return the images of a split: those of a folder, of several, or of a txt that lists them."""
    given = settings.get(split) or []
    base = root / str(settings.get("path") or ".")
    images = []
    for entry in given if isinstance(given, list) else [given]:
        # exports of Roboflow say ../train/images of folders that lie beside data.yaml
        place = next((p for p in (base / entry, root / entry, root / entry.removeprefix("../")) if p.exists()), None)
        if place is None:
            raise FileNotFoundError(f"{root / _SETTINGS}: {split} is {entry!r}, which is not in {base}")
        files = _listed(place, base) if place.is_file() else sorted(place.rglob("*"))
        images += [file for file in files if file.suffix.lower() in _IMAGES and not file.name.startswith(".")]
    return [image for image in dict.fromkeys(images) if image.is_file()]


def _listed(table: Path, base: Path) -> list[Path]:
    """Return the images that a txt lists, one a line; names may hold blanks. Those that are missing are told."""
    lines = [line.strip() for line in table.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    files = [base / line if (base / line).is_file() else table.parent / line for line in lines]
    if lost := sum(not file.is_file() for file in files):
        _log.warning("%s: %d of %d images of it are missing and left out.", table, lost, len(files))
    return files


def _label_file(image: Path) -> Path:
    """Return …/labels/x.txt of …/images/x.png, of the last folder called images."""
    parts = list(image.parts)
    if "images" in parts[:-1]:
        last = len(parts) - 2 - parts[-2::-1].index("images")
        parts[last] = "labels"
    return Path(*parts).with_suffix(".txt")


def _marks(table: Path, classes: Mapping[int, str]) -> Marks:
    """Return the boxes of a txt, still as fractions of width and height."""
    marks, problems = Marks(), []
    for line, row in enumerate(table.read_text(encoding="utf-8-sig").splitlines() if table.is_file() else (), start=1):
        try:
            number, x, y, width, height = row.split() or ("", *"0000")
            if number:
                corner = (float(x) - float(width) / 2, float(y) - float(height) / 2)
                marks.add(classes[int(number)], corner_and_size([*map(repr, corner), width, height]))
        except (ValueError, KeyError):
            expected = f"class x y width height, class one of {', '.join(map(str, classes))}"
            problems.append(f"row {line}: {row!r}, expected {expected}")
    raise_problems(table, problems)
    return marks


def _in_pixels(film: Film) -> Film:
    film.boxes[:] = (film.boxes * np.tile([film.width, film.height], 2)).astype(np.float32)
    return film


def _name(image: Path, root: Path) -> str:
    return str(image.relative_to(root)) if image.is_relative_to(root) else image.name
