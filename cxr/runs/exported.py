"""The folder that ``export.py`` leaves: read as data, and held to what a checkpoint is held to.

Of what ``export.json`` names of an intensity nothing is called but what this project defines for that place
(``cxr.runs.restore``). The networks themselves are graphs of a runtime's own operators.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from cxr.config.errors import ConfigError
from cxr.export.card import CARD, FORMAT, Card
from cxr.export.runtimes import RUNNERS
from cxr.files import DamagedFileError, digest_of, read_mapping, write_json
from cxr.findings import FindingVocabulary
from cxr.installation import command
from cxr.measure import shift
from cxr.measure.promises import Promises
from cxr.read.known_films import from_fields
from cxr.runs.checkpoint import Checkpoint, short
from cxr.runs.finding_codes import with_codes

_IN_JSON: dict[Any, tuple[type, ...]] = {  # what the entries of a card are in its file
    int: (int,),
    float: (int, float),
    tuple: (list,),
    Mapping: (dict,),
}
_LEAST = {"size": 32, "channels": 1, "stride": 1, "detections_per_img": 1}
_MOST_BYTES = 16 * 2**20  # of export.json; that of a detector has some 20 KB
_LARGEST = 8192  # px, as of a checkpoint
_SHARES = ("score_thresh", "box_weight", "film_weight")  # all within 0..1


def write_card(card: Card, folder: Path) -> None:
    """Write ``card`` into ``folder``, whole or not at all."""
    write_json(folder / CARD, {"format": FORMAT, **asdict(card)})


def read_card(folder: Path) -> Card:
    """Return the card of the network in ``folder``.

    Raises ``ConfigError``: there is none, it is of another format, an entry is not what is expected there, or one of
    its files is missing or not the one that it was written for.
    """
    path = folder / CARD
    try:
        content = read_mapping(path, most_bytes=_MOST_BYTES)
    except OSError as error:
        expected = f"expected a folder of {command('export')} ckpt=… to=…, with {CARD}"
        raise ConfigError(f"ckpt={folder}: {expected}") from error
    except DamagedFileError as error:
        raise ConfigError(str(error)) from error
    if content.get("format") != FORMAT:
        raise ConfigError(f"{path}: expected an object whose format is {FORMAT}; export anew with this version")
    entries = {name: _entry(path, name, content.get(name), kinds) for name, kinds in _kinds().items()}
    card = Card(**entries | {"outputs": tuple(entries["outputs"])})
    _check_files(folder, card)
    return card


def as_checkpoint(card: Card, path: Path) -> Checkpoint:
    """Return ``card`` as what restores an intensity and what reports read: a checkpoint without weights."""
    config = {"data": {"intensity": card.intensity, "size": card.size}}
    findings = FindingVocabulary(**with_codes(card.findings))
    try:
        known = () if card.known_films is None else (from_fields(card.known_films),)
    except ValueError as error:
        raise ConfigError(f"{path / CARD}: known_films is no model of training films: {error}") from error
    try:
        reference = None if card.reference is None else shift.from_fields(card.reference)
    except ValueError as error:
        raise ConfigError(f"{path / CARD}: reference does not describe films: {error}") from error
    try:
        promises = None if card.promises is None else Promises.from_dict(card.promises, findings.names)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{path / CARD}: promises does not fit this version: {error}") from error
    about: dict[str, Any] = {"known": known, "reference": reference, "promises": promises}
    return Checkpoint(path / CARD, config, findings, "", card.versions, {}, card.kind, card.operating_point, **about)


def _kinds() -> dict[str, tuple[type, ...]]:
    """Return what each entry of a card may be in its file, as the types of ``Card`` say."""
    kinds: dict[str, tuple[type, ...]] = {}
    for name, hint in get_type_hints(Card).items():
        choices = get_args(hint) if isinstance(hint, UnionType) else (hint,)
        plain = [get_origin(choice) or choice for choice in choices]
        kinds[name] = tuple(kind for choice in plain for kind in _IN_JSON.get(choice, (choice,)))
    return kinds


def _entry(path: Path, name: str, value: Any, kinds: tuple[type, ...]) -> Any:
    fits = isinstance(value, kinds) and not isinstance(value, bool)
    if not fits:
        expected = " or ".join("null" if kind is type(None) else kind.__name__ for kind in kinds)
        raise ConfigError(f"{path}: {name} is {short(value)}, expected {expected}")
    if name in _LEAST and value < _LEAST[name]:
        raise ConfigError(f"{path}: {name} is {value}, expected {_LEAST[name]} or more")
    if name == "size" and value > _LARGEST:
        raise ConfigError(f"{path}: size is {value}, expected {_LARGEST} px or less")
    if name in _SHARES and not 0 <= value <= 1:
        raise ConfigError(f"{path}: {name} is {value}, expected 0 to 1")
    if name == "runtime" and value not in RUNNERS:
        raise ConfigError(f"{path}: runtime is {short(value)}, expected one of {', '.join(RUNNERS)}")
    if name == "model_card" and value is not None and not re.fullmatch("[0-9a-f]{16}", value):
        raise ConfigError(f"{path}: model_card is {short(value)}, expected 16 hexadecimal digits")
    if name == "findings":
        try:
            FindingVocabulary(**value)
        except (TypeError, ValueError, AttributeError) as error:
            raise ConfigError(f"{path}: findings is no vocabulary: {str(error)[:300]}") from error
    return value


def _check_files(folder: Path, card: Card) -> None:
    """Raise ``ConfigError`` unless the network's files lie in the folder itself and are those it was written for."""
    if not card.files:
        raise ConfigError(f"{folder / CARD}: files is empty, expected the network's file")
    for name, digest in card.files.items():
        path = folder / name
        if Path(name).name != name or not path.is_file():
            raise ConfigError(f"{folder / CARD}: files names {name!r}, and there is no such file in its folder")
        if digest_of(path) != digest:
            raise ConfigError(f"{path}: not the file that {CARD} was written for; export anew")
