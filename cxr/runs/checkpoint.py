"""A checkpoint as plain data.

A checkpoint is a file from anywhere. Its tensors and its config are read as plain data.
"""

import re
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cxr.config.errors import ConfigError
from cxr.data.groups import checked
from cxr.files import DamagedFileError, check_digest
from cxr.findings import FindingVocabulary
from cxr.learn.torch_archive import TorchFileError
from cxr.learn.torch_file import read_torch_file, refuse_not_finite
from cxr.measure.promises import Promises
from cxr.measure.shift import Reference
from cxr.measure.shift import from_fields as read_reference
from cxr.read.known_films import KnownFilms, from_fields
from cxr.runs.counted_splits import counted_splits
from cxr.runs.finding_codes import with_codes

LEAST_SIZE, MOST_SIZE = 32, 8192
"""Of films that a checkpoint may ask for, pixels along the longest side."""

_MOST_FINDINGS = 200  # PadChest, the largest vocabulary published for chest films, has 174
_NAME = r"[^\x00-\x1f\x7f/\\]{1,100}"  # of a finding: it may become part of a file's name


@dataclass(frozen=True)
class Checkpoint:
    """What ``train.py`` keeps of a run, read as plain data.

    Args:
        path: the file.
        config: the resolved config it was trained with, plain containers. Not to be trusted: show it, do not call it.
        findings: the vocabulary behind the detector's class indices.
        fingerprint: of the films it was trained and chosen on (``FilmDataModule.fingerprint``).
        versions: of the packages it was trained with, by name.
        state: the weights of ``DetectionTask``, on the CPU; the averaged ones where a run averages.
        kind: of the films it was trained on (``Preprocessing.kind``); None where it does not tell.
        operating_point: of screening, chosen on the validation films (``OperatingPoint.as_dict``); None where the run
            chose none.
        films: int64 [films], a digest of the pixels of each film, by split (``film_digests``), and of those that its
            backbone was pretrained on as "pretrained"; empty for networks of studies.
        known: what its training films look like, for the gate in front of it, of an ensemble that of each member; none
            where it does not tell.
        trust: modules and packages of the user's own that the config may name (``cxr.runs.rebuild``).
        groups: how many of its training films are of which sex, age, machine and so on (``cxr.data.groups.counted``);
            None where it does not tell.
        reference: what its validation films were like (``cxr.measure.shift``); None where it does not tell.
        promises: chosen on the validation films; None where the run chose none.
        splits: how many items, patients and marks each split holds (``cxr.data.split_counts``); empty where it does not
            tell.
        thresholds: of a network for studies, finding → the score from which up a study has it.
    """

    path: Path
    config: Mapping[str, Any] = field(repr=False)
    findings: FindingVocabulary
    fingerprint: str
    versions: Mapping[str, str]
    state: Mapping[str, Tensor] = field(repr=False)
    kind: str | None = None
    operating_point: Mapping[str, Any] | None = None
    films: Mapping[str, NDArray[np.int64]] = field(default_factory=dict, repr=False)
    known: tuple[KnownFilms, ...] = field(default=(), repr=False)
    trust: tuple[str, ...] = ()
    groups: Mapping[str, Any] | None = field(default=None, repr=False)
    reference: Reference | None = field(default=None, repr=False)
    promises: Promises | None = None
    splits: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, repr=False)
    thresholds: Mapping[str, float] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Longest side in pixels of the films the detector takes. Raises ``ConfigError`` for one that cannot be."""
        size = int(entry_at(self, "data.size", int))
        if not LEAST_SIZE <= size <= MOST_SIZE:
            raise wrong(self, f"data.size is {size}, expected {LEAST_SIZE} to {MOST_SIZE} pixels")
        return size


def read_checkpoint(path: Path | str, trust: str | Sequence[str] = ()) -> Checkpoint:
    """Return what the checkpoint at ``path`` holds; ``trust`` are modules of the user's own that it may name.

    Raises ``ConfigError``: there is no such file, it is no checkpoint or one of another program, it holds code, unpacks
    to more than is allowed, or a weight of it is not finite.
    """
    path = Path(path)
    try:
        check_digest(path)
    except DamagedFileError as error:
        raise ConfigError(str(error)) from error
    content = _load(path)
    card = content.get("cxr") if isinstance(content, dict) else None
    if not isinstance(card, dict) or not isinstance(content.get("state_dict"), dict):
        raise ConfigError(
            f"{path}: not a checkpoint of this project: expected 'state_dict' and 'cxr', as train.py writes"
        )
    for name, kinds in _CARD.items():
        if not isinstance(card.get(name), kinds):
            given, expected = type(card.get(name)).__name__, kinds[0].__name__
            raise ConfigError(f"{path}: cxr.{name} is {given}, expected {expected}, as train.py writes")
    for name, value in (card.get("thresholds") or {}).items():  # of a network for studies
        if not isinstance(value, float) or not 0 <= value <= 1:
            raise ConfigError(f"{path}: cxr.thresholds.{short(name)} is {short(value)}, expected 0 to 1")
    findings, state = _findings(path, card["findings"]), _state(path, content["state_dict"])
    versions = {str(name): str(version) for name, version in card["versions"].items()}
    modules = (trust,) if isinstance(trust, str) else tuple(trust)
    point, kind, films = card.get("operating_point"), card.get("kind"), _films(path, card.get("films") or {})
    known = _known_films(path, card.get("known_films"))
    groups, reference = _groups(path, card.get("groups")), _reference(path, card.get("reference"))
    about = (path, card["config"], findings, card["data"], versions, state, kind, point, films, known, modules)
    counted: dict[str, Any] = {
        "splits": counted_splits(path, card.get("splits") or {}, findings),
        "thresholds": dict(card.get("thresholds") or {}),
    }
    return Checkpoint(*about, groups, reference, _promises(path, card.get("promises"), findings), **counted)


_CARD: dict[str, tuple[type, ...]] = {  # what stands under "cxr"; None: may be left out
    "config": (dict,),
    "findings": (dict,),
    "data": (str,),
    "versions": (dict,),
    "kind": (str, type(None)),
    "operating_point": (dict, type(None)),
    "promises": (dict, type(None)),
    "thresholds": (dict, type(None)),
    "films": (dict, type(None)),
    "known_films": (dict, type(None)),
    "splits": (dict, type(None)),
    "groups": (dict, type(None)),
    "reference": (dict, type(None)),
}
_SPLITS = ("train", "val", "test")
_PRETRAINED = "pretrained"


def _findings(path: Path, fields: dict[str, Any]) -> FindingVocabulary:
    listed = fields.get("findings")
    if isinstance(listed, list) and len(listed) > _MOST_FINDINGS:
        raise ConfigError(f"{path}: cxr.findings has {len(listed):,} findings, allowed are {_MOST_FINDINGS}")
    try:
        findings = FindingVocabulary(**with_codes(fields))
    except (TypeError, ValueError, AttributeError) as error:
        raise ConfigError(f"{path}: cxr.findings is no vocabulary: {str(error)[:300]}") from error
    if wrong := [name for name in findings.names if not re.fullmatch(_NAME, name) or name.startswith(".")]:
        raise ConfigError(
            f"{path}: cxr.findings has the name {short(wrong[0])}, expected up to 100 letters without / and \\"
        )
    return findings


def _films(path: Path, digests: dict[Any, Any]) -> dict[str, NDArray[np.int64]]:
    if not digests:
        return {}
    if set(digests) - {_PRETRAINED} != set(_SPLITS):
        raise ConfigError(f"{path}: cxr.films has {short(list(digests))}, expected the splits {', '.join(_SPLITS)}")
    digests = {_PRETRAINED: torch.zeros(0, dtype=torch.int64), **digests}  # checkpoints of before do not tell
    for split, values in digests.items():
        if not isinstance(values, Tensor) or values.dtype != torch.int64 or values.ndim != 1:
            kind = f"{values.dtype} {list(values.shape)}" if isinstance(values, Tensor) else type(values).__name__
            raise ConfigError(f"{path}: cxr.films.{split} is {kind}, expected int64 [films], a digest for each film")
    return {split: values.numpy() for split, values in digests.items()}


def _known_films(path: Path, fields: dict[str, Any] | None) -> tuple[KnownFilms, ...]:
    try:
        return () if fields is None else (from_fields(fields),)
    except ValueError as error:
        raise ConfigError(f"{path}: cxr.known_films is no model of training films: {error}") from error


def _groups(path: Path, fields: dict[str, Any] | None) -> dict[str, Any] | None:
    try:
        return None if fields is None else checked(fields)
    except ValueError as error:
        raise ConfigError(f"{path}: cxr.groups does not count the groups of films: {error}") from error


def _reference(path: Path, fields: dict[str, Any] | None) -> Reference | None:
    try:
        return None if fields is None else read_reference(fields)
    except ValueError as error:
        raise ConfigError(f"{path}: cxr.reference does not describe films: {error}") from error


def _promises(path: Path, fields: dict[str, Any] | None, findings: FindingVocabulary) -> Promises | None:
    try:
        return None if fields is None else Promises.from_dict(fields, findings.names)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{path}: cxr.promises does not fit this version: {error}") from error


def _state(path: Path, state: dict[Any, Any]) -> dict[str, Tensor]:
    if wrong := [name for name, value in state.items() if not (isinstance(name, str) and isinstance(value, Tensor))]:
        given = type(state[wrong[0]]).__name__
        raise ConfigError(
            f"{path}: state_dict.{short(wrong[0])} is {given}, expected the name of a tensor, and a tensor"
        )
    try:
        refuse_not_finite(state)
    except TorchFileError as error:
        raise ConfigError(f"{path}: damaged, it can say nothing of a film: {error}") from error
    return state


def entry_at(checkpoint: Checkpoint, key: str, kind: type) -> Any:
    """Return the value at a dotted ``key`` of the config. Raises ``ConfigError`` where it is not of ``kind``."""
    node: Any = checkpoint.config
    for name in key.split("."):
        if isinstance(node, list) and name.isdecimal():
            node = node[int(name)] if int(name) < len(node) else None
        else:
            node = node.get(name) if isinstance(node, Mapping) else None
    if not isinstance(node, kind) or isinstance(node, bool):
        raise wrong(checkpoint, f"{key} is {short(node)}, expected {kind.__name__}")
    return node


def wrong(checkpoint: Checkpoint, problem: str) -> ConfigError:
    """Return the error of a problem with the checkpoint's config."""
    return ConfigError(f"{checkpoint.path}: its config's {problem}")


def short(value: Any) -> str:
    """Return ``value`` as Python writes it, in a few words where it is long."""
    return _SHORT.repr(value)


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 200


def _load(path: Path) -> Any:
    if not path.is_file():
        what = "a folder; " if path.is_dir() else ""
        raise ConfigError(
            f"ckpt={path}: {what}there is no such file, expected a checkpoint of train.py (…/checkpoints/best.ckpt);"
            " ls -d outputs/*/*/checkpoints/best.ckpt lists them"
        )
    try:
        return read_torch_file(path)
    except (TorchFileError, OSError) as error:
        raise ConfigError(f"{path}: not a checkpoint: {error}. Nothing of it was run") from error
