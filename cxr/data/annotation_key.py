"""``key.json``: which film is behind a picture that left for annotation, and what was drawn on it before it left.

It names films by path, and so perhaps patients: only its owner may read it, and it stays where it was made. What comes
back from the annotators names pictures only.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from cxr.data.film import Reading
from cxr.data.sources.documents import is_number, read_json
from cxr.data.sources.tables import TableError, raise_problems, shown
from cxr.files import whole_file

KEY = "key.json"

_FORMAT = "cxr annotation key 1"
_OWNER_ALONE = 0o600
_TEXTS = ("path", "study", "patient")
_SIZES = ("width", "height", "picture_width", "picture_height")


@dataclass(frozen=True)
class KeyEntry:
    """The film behind a picture.

    Args:
        path: of the film.
        study, patient: pseudonyms.
        width, height: of the film, pixels.
        picture_width, picture_height: of the picture, which may be smaller.
        boxes: what we drew before the picture left, xyxy in pixels of the film.
        findings: their canonical names.
        scores: their scores, 0..1.
        ids: names of the boxes in the annotators' tool.
    """

    path: str
    study: str
    patient: str
    width: int
    height: int
    picture_width: int
    picture_height: int
    boxes: tuple[tuple[float, ...], ...] = ()
    findings: tuple[str, ...] = ()
    scores: tuple[float, ...] = ()
    ids: tuple[str, ...] = ()

    @property
    def scale(self) -> tuple[float, float]:
        """What a pixel of the picture is in the film, across and down: edges lie on edges."""
        return self.width / self.picture_width, self.height / self.picture_height

    @property
    def ours(self) -> Reading:
        """The boxes that we drew, as a reading."""
        boxes = np.array(self.boxes, np.float32).reshape(-1, 4)
        return Reading("cxr", boxes, self.findings, ids=self.ids, scores=self.scores)


def write_key(path: Path, model: str, films: Mapping[str, KeyEntry]) -> None:
    """Write the key of ``films``, by the name of their picture; ``model`` says who drew the boxes in it."""
    content = {"format": _FORMAT, "model": model, "films": {name: asdict(entry) for name, entry in films.items()}}
    text = json.dumps(content, indent=1, ensure_ascii=True)  # a path need not be UTF-8: its bytes come through
    with whole_file(path) as part, open(part, "w", encoding="ascii", opener=_open_for_owner) as file:
        file.write(text)


def read_key(path: Path) -> dict[str, KeyEntry]:
    """Return the films of a key by the name of their picture. Raises ``FileNotFoundError`` and ``TableError``."""
    if path.is_dir():
        path /= KEY
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing, expected the {KEY} that `cxr annotate` left beside the pictures")
    content = read_json(path)
    if not isinstance(content, dict) or content.get("format") != _FORMAT or not isinstance(content.get("films"), dict):
        raise TableError(f"{path} is no {KEY} of `cxr annotate`, expected one with the format {_FORMAT!r}")
    films = content["films"]
    raise_problems(path, [f"{shown(name)}: {why}" for name, entry in films.items() if (why := _wrong(entry))])
    return {name: _entry(entry) for name, entry in films.items()}


def _wrong(entry: object) -> str:
    """Return what is wrong with an entry of a key, "" if nothing is."""
    if not isinstance(entry, dict) or set(entry) != set(KeyEntry.__dataclass_fields__):
        return f"is {shown(entry)}, expected {', '.join(KeyEntry.__dataclass_fields__)}"
    if texts := [name for name in _TEXTS if not isinstance(entry[name], str)]:
        return f"has the {texts[0]} {shown(entry[texts[0]])}, expected a text"
    if sizes := [name for name in _SIZES if type(entry[name]) is not int or entry[name] < 1]:
        return f"has the {sizes[0]} {shown(entry[sizes[0]])}, expected whole pixels above 0"
    lists = [entry[name] for name in ("boxes", "findings", "scores", "ids")]
    if not all(isinstance(one, list) and len(one) == len(lists[0]) for one in lists):
        return "has lists of different lengths, expected a finding, a score and an id for each box"
    if not all(isinstance(box, list) and len(box) == 4 and all(map(is_number, box)) for box in entry["boxes"]):
        return "has a box that is none, expected four numbers"
    if not all(isinstance(text, str) for text in (*entry["findings"], *entry["ids"])):
        return "has a finding or an id that is no text"
    return ""


def _entry(entry: Mapping[str, object]) -> KeyEntry:
    fields = {name: tuple(value) if isinstance(value, list) else value for name, value in entry.items()}
    fields["boxes"] = tuple(tuple(box) for box in fields["boxes"])  # type: ignore[attr-defined]  # checked before
    return KeyEntry(**fields)  # type: ignore[arg-type]


def _open_for_owner(path: str, flags: int) -> int:
    return os.open(path, flags, _OWNER_ALONE)
