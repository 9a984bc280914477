"""Films listed in a COCO json, or in one a split: boxes as xywh, paths beside the json or in a folder of their own."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cxr.data.film import Film
from cxr.data.patients import without_placeholders
from cxr.data.sources.boxes import Box, corner_and_size, rounded
from cxr.data.sources.coco_files import Coco, check_annotations, load_coco
from cxr.data.sources.coco_listings import ANNOTATIONS as ANNOTATIONS
from cxr.data.sources.coco_listings import Listing, listed, refuse_two_places
from cxr.data.sources.coco_pictures import read_corrected
from cxr.data.sources.marks import FilmFile, Marks, fit_marks, marked_film, read_files
from cxr.data.sources.root import Root
from cxr.data.sources.tables import raise_problems
from cxr.findings import NORMAL, FindingVocabulary
from cxr.read.dicom import pseudonym


def read_coco(
    root: Path | str,
    findings: FindingVocabulary,
    train: str | None = None,
    val: str | None = None,
    test: str | None = None,
    train_images: str | None = None,
    val_images: str | None = None,
    test_images: str | None = None,
    key: str | None = None,
) -> list[Film]:
    """Return one film an image of the json, boxes xyxy in original pixels; an image without annotations is normal.

    ``root`` is the json file or the folder that holds ``annotations.coco.json``. Categories may be spelt in any way
    ``findings`` knows; an annotation of "No finding" needs no box. An image's own field ``patient`` says which films
    belong together, else the PatientID of a DICOM file does, else each stands for itself. Its own field ``split`` says
    where it stands: train, val or test. Crowd annotations (``iscrowd``) outline no single lesion and are left out. An
    annotation that stands there twice counts once.

    With ``train`` the data set has a json for each split, and its images are for that split.

    Args:
        root: the json, or the folder of the data set.
        findings: the vocabulary.
        train: json of the training images, below ``root``.
        val: of the validation images.
        test: of the test images.
        train_images: folder below ``root`` that the ``file_name`` of ``train`` start from; None: that of the json.
        val_images: of ``val``.
        test_images: of ``test``.
        key: ``key.json`` that ``cxr annotate`` left, or its folder: the json is what annotators made of these pictures,
            and the films behind them are returned (``cxr.data.sources.coco_pictures``). It goes without the six above.

    Raises ``FileNotFoundError`` without a json or for listed images that are not there, ``UnknownLabelError`` for
    unknown categories, and ``TableError`` for a json that is no COCO data set, for boxes that are none or are not on
    their film, for images outside the data set, in two files, or of another split than their file's.
    """
    tables = {"train": train, "val": val, "test": test}
    folders = {"train": train_images, "val": val_images, "test": test_images}
    if key is not None:
        if any(name is not None for name in (*tables.values(), *folders.values())):
            raise ValueError("data.read.key joins one json to its films: leave data.read.train, val and test out")
        return [one.film for one in read_corrected(Path(root), findings, key)]
    place, listings = listed(Path(root), tables, folders)
    cocos = [(listing, load_coco(listing.table)) for listing in listings]
    refuse_two_places(cocos)
    films = [film for listing, coco in cocos for film in _films(listing, coco, findings, place)]
    return without_placeholders(films, [image.get("patient") is not None for _, coco in cocos for image in coco.images])


def is_coco(root: Path) -> bool:
    """Return whether ``root`` is a json, or holds the json of a data set in this format."""
    return root.is_file() or (root / ANNOTATIONS).is_file()


def _paths(listing: Listing, coco: Coco, place: Root) -> dict[str, Path]:
    """Return the path of each image by its ``file_name``."""
    paths = {image["file_name"]: listing.path(image) for image in coco.images}
    place.check_images(listing.table, paths)
    if missing := [path for path in paths.values() if not path.is_file()]:
        raise FileNotFoundError(
            f"{listing.table}: {len(missing)} of {len(paths)} images are missing, first {missing[0]}"
        )
    return paths


def _marks(coco: Coco, names: Sequence[str]) -> dict[str, Marks]:
    """Return the marks of each image by its ``file_name``, not checked yet; ``names`` are those of the categories."""
    findings = {category["id"]: name for category, name in zip(coco.categories, names, strict=True)}
    marks = {image["file_name"]: Marks() for image in coco.images}
    of_image = {image["id"]: marks[image["file_name"]] for image in coco.images}
    for number, annotation in enumerate(coco.annotations, start=1):
        finding, of_film = findings[annotation["category_id"]], of_image[annotation["image_id"]]
        if finding == NORMAL or annotation.get("iscrowd"):
            continue
        try:
            of_film.add(finding, _box(annotation["bbox"]), f"annotations, number {number}")
        except ValueError as error:
            of_film.problems.append(f"annotations, number {number} of {finding}: {error}")
    return marks


def _box(given: Sequence[float] | None) -> Box:
    """Return the corners of x, y, width and height. Raises ``ValueError`` if they are no box."""
    if not given:
        raise ValueError("has no box, expected [x, y, width, height]; only a film without a finding has none")
    corner_and_size(given)
    x, y, width, height = rounded(np.array(given, np.float64)).tolist()
    return x, y, x + width, y + height


def _films(listing: Listing, coco: Coco, findings: FindingVocabulary, place: Root) -> list[Film]:
    """Return the films of a json, their boxes cut to them.

    Raises one ``TableError`` for all boxes that are none or are not on their film.
    """
    table = listing.table
    names = findings.resolve([c["name"] for c in coco.categories], source=f"{table}, categories")
    check_annotations(table, coco)
    marks = _marks(coco, names)
    files = read_files(_paths(listing, coco, place))
    sized = {image["file_name"]: _with_size(files[image["file_name"]], image) for image in coco.images}
    raise_problems(table, _other_sizes(coco, marks, files))
    fit_marks(table, marks.items(), sized)
    together = zip(coco.images, sized.values(), marks.values(), strict=True)
    return [_film(listing, image, file, of_film, findings) for image, file, of_film in together]


def _with_size(file: FilmFile, image: Mapping[str, Any]) -> FilmFile:
    """Return the file; if its header cannot be read, with the size that the JSON gives."""
    return file if file.width else replace(file, width=int(image["width"]), height=int(image["height"]))


def _other_sizes(coco: Coco, marks: Mapping[str, Marks], files: Mapping[str, FilmFile]) -> list[str]:
    """Return a problem for each film with boxes whose size is not that of the JSON, so its boxes fit another picture.

    For a film without boxes only the numbers are wrong, and the size in its file is used.
    """
    return [
        f"the image {image['file_name']} is {file.width} × {file.height} pixels, and {image['width']} × "
        f"{image['height']} in the json, expected the film that its boxes were drawn on"
        for image in coco.images
        if (file := files[image["file_name"]]).width
        and marks[image["file_name"]].boxes
        and (file.width, file.height) != (image["width"], image["height"])
    ]


def _film(
    listing: Listing, image: Mapping[str, Any], file: FilmFile, marks: Marks, findings: FindingVocabulary
) -> Film:
    name, study, patient = listing.id(image), image.get("study"), image.get("patient")
    stated = replace(
        file,
        study=pseudonym(name if study is None else str(study)),
        patient=file.patient if patient is None else pseudonym(str(patient)),
    )
    return marked_film(stated, name, name, marks, findings, split=listing.split or image.get("split") or "")
