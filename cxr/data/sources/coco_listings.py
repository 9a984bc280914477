"""Which json files make a COCO data set: one for all images, or one for the images of each split."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cxr.data.item import SPLITS
from cxr.data.sources.coco_files import Coco
from cxr.data.sources.root import Root, wrong_name
from cxr.data.sources.tables import raise_problems

ANNOTATIONS = "annotations.coco.json"

_BySplit = Mapping[str, str | None]


@dataclass(frozen=True)
class Listing:
    """A json, the folder that its ``file_name`` start from, and the split that all its images are for, "" for none."""

    table: Path
    images: Path
    split: str = ""

    def path(self, image: Mapping[str, Any]) -> Path:
        """Return where an image lies."""
        return self.images / str(image["file_name"])

    def id(self, image: Mapping[str, Any]) -> str:
        """Return the film's id; the files of several splits may each count their images from 1."""
        return f"{self.split}/{image['id']}" if self.split else str(image["id"])


def listed(root: Path, tables: _BySplit, folders: _BySplit) -> tuple[Root, list[Listing]]:
    """Return the folder that nothing may lead out of, and the files of a data set.

    Args:
        root: the json or the folder that holds ``annotations.coco.json``; with ``tables`` the folder of the data set.
        tables: by split the json below ``root``; None where there is none, and for all of them where there is one file.
        folders: by split the folder of its images; None: that of the json.

    Raises ``FileNotFoundError`` and ``TableError``.
    """
    if not any(name is not None for name in (*tables.values(), *folders.values())):
        table = root if root.is_file() else root / ANNOTATIONS
        if not table.is_file():
            raise FileNotFoundError(f"{root} is neither a COCO json nor a folder that holds {ANNOTATIONS}")
        place = Root(table.parent)
        return place, [Listing(table if table == root else place.check(table), table.parent)]
    place = Root(root)
    raise_problems(root, _wrong_names(place, tables, folders))
    listings = []
    for split, name in tables.items():
        if name is not None:
            table, folder = root / name, folders[split]
            if not table.is_file():
                raise FileNotFoundError(f"data.read.{split}={name}: there is no such file below data.root={root}")
            listings.append(Listing(table, table.parent if folder is None else root / folder, split))
    return place, listings


def _wrong_names(place: Root, tables: _BySplit, folders: _BySplit) -> list[str]:
    """Say which of the names given for the splits do not go together, or lead nowhere in the data set."""
    root = place.folder
    problems = []
    if root.is_file():
        problems.append(f"data.root is a file, expected the folder that holds data.read.train={tables['train']}")
    if tables["train"] is None:
        problems.append("data.read.train is missing, expected the json of the training images beside the others")
    for split in SPLITS:
        if folders[split] is not None and tables[split] is None:
            problems.append(f"data.read.{split}_images is given, expected data.read.{split} beside it")
        for key, name in ((f"data.read.{split}", tables[split]), (f"data.read.{split}_images", folders[split])):
            if name is not None and (problem := wrong_name(name) or place.refusal(root / name)):
                problems.append(f"{key}={name}: {problem}")
    return problems


def refuse_two_places(cocos: Sequence[tuple[Listing, Coco]]) -> None:
    """Raise ``TableError`` for images that two files list, or that are of another split than their file."""
    firsts: dict[str, Listing] = {}
    for listing, coco in cocos if len(cocos) > 1 else ():
        problems = []
        for number, image in enumerate(coco.images, start=1):
            first = firsts.setdefault(os.path.realpath(listing.path(image)), listing)
            if first != listing:
                where = f"{first.table} ({first.split})"
                problems.append(f"images, number {number}: {image['file_name']} stands in {where} too, expected once")
        raise_problems(listing.table, problems)
    for listing, coco in cocos:
        other = [(number, split) for number, image in enumerate(coco.images, start=1)
                 if listing.split and (split := image.get("split")) not in (None, listing.split)]  # fmt: skip
        raise_problems(listing.table, [
            f"images, number {number} has the split {split!r}, expected {listing.split!r}: data.read.{listing.split} "
            "names this file" for number, split in other
        ])  # fmt: skip
