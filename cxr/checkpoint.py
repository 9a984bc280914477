"""A checkpoint as plain data, and what its config names: called only where this project defines it for that place.

A checkpoint is a file from anywhere. Its tensors and its config are read as plain data.
"""

import importlib
import inspect
import pickle
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from cxr.config import ConfigError
from cxr.files import DamagedFileError, check_digest
from cxr.findings import FindingVocabulary


@dataclass(frozen=True)
class Checkpoint:
    """What ``train.py`` keeps of a run, read as plain data.

    Args:
        path: the file.
        config: the resolved config it was trained with, plain containers. Not to be trusted: show it, do not call it.
        findings: the vocabulary behind the detector's class indices.
        fingerprint: of the films it was trained and chosen on (``RadiographDataModule.fingerprint``).
        versions: of the packages it was trained with, by name.
        state: the weights of ``DetectionTask``, on the CPU; the averaged ones where a run averages.
        kind: of the films it was trained on (``Preprocessing.kind``); None where it does not tell.
        operating_point: of screening, chosen on the validation films (``OperatingPoint.as_dict``); None where the run
            chose none.
    """

    path: Path
    config: Mapping[str, Any] = field(repr=False)
    findings: FindingVocabulary
    fingerprint: str
    versions: Mapping[str, str]
    state: Mapping[str, Tensor] = field(repr=False)
    kind: str | None = None
    operating_point: Mapping[str, Any] | None = None

    @property
    def size(self) -> int:
        """Longest side in pixels of the films the detector takes."""
        return int(entry_at(self, "data.size", int))


def read_checkpoint(path: Path | str) -> Checkpoint:
    """Return what the checkpoint at ``path`` holds.

    Raises ``ConfigError``: there is no such file, it is no checkpoint or one of another program, or it holds code.
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
    for name, kind in (("config", dict), ("findings", dict), ("data", str), ("versions", dict)):
        if not isinstance(card.get(name), kind):
            raise ConfigError(
                f"{path}: cxr.{name} is {type(card.get(name)).__name__}, expected {kind.__name__}, as train.py writes"
            )
    point = card.get("operating_point")
    if point is not None and not isinstance(point, dict):
        raise ConfigError(f"{path}: cxr.operating_point is {type(point).__name__}, expected dict, as train.py writes")
    try:
        findings = FindingVocabulary(**card["findings"])
    except (TypeError, ValueError, AttributeError) as error:
        raise ConfigError(f"{path}: cxr.findings is no vocabulary: {error}") from error
    of_films = None if card.get("kind") is None else str(card["kind"])
    state = content["state_dict"]
    return Checkpoint(path, card["config"], findings, card["data"], card["versions"], state, of_films, point)


def callable_at(checkpoint: Checkpoint, key: str, allowed: str) -> Callable[..., Any]:
    """Return what the config names at ``key``: a public function or class that the module it names defines itself."""
    target = entry_at(checkpoint, f"{key}._target_", str)
    if re.fullmatch(allowed, target):
        module, _, name = target.rpartition(".")
        try:
            found = vars(importlib.import_module(module)).get(name)
        except ModuleNotFoundError:
            found = None
        if (inspect.isfunction(found) or inspect.isclass(found)) and found.__module__ == module:
            return cast(Callable[..., Any], found)
    raise wrong(checkpoint, f"{key}._target_ is {target!r}, which a checkpoint may not call there")


def arguments_at(checkpoint: Checkpoint, key: str, without: Sequence[str] = ()) -> dict[str, Any]:
    """Return the arguments of the node at ``key``. Raises ``ConfigError`` where one of them is a call itself."""
    node = entry_at(checkpoint, key, dict)
    arguments = {name: value for name, value in node.items() if name not in ("_target_", "_partial_", *without)}
    for name, value in _flat(arguments, key):
        if name.rpartition(".")[2].startswith("_"):
            raise wrong(checkpoint, f"{name} is {value!r}, expected plain values only in {key}")
    return arguments


def _flat(node: Any, key: str) -> Iterator[tuple[str, Any]]:
    """Yield every key below ``node`` with its value, mappings and lists before what they hold."""
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for name, child in children:
        yield f"{key}.{name}", child
        yield from _flat(child, f"{key}.{name}")


def entry_at(checkpoint: Checkpoint, key: str, kind: type) -> Any:
    """Return the value at a dotted ``key`` of the config. Raises ``ConfigError`` where it is not of ``kind``."""
    node: Any = checkpoint.config
    for name in key.split("."):
        if isinstance(node, list) and name.isdecimal():
            node = node[int(name)] if int(name) < len(node) else None
        else:
            node = node.get(name) if isinstance(node, Mapping) else None
    if not isinstance(node, kind) or isinstance(node, bool):
        raise wrong(checkpoint, f"{key} is {node!r}, expected {kind.__name__}")
    return node


def wrong(checkpoint: Checkpoint, problem: str) -> ConfigError:
    """Return the error of a problem with the checkpoint's config."""
    return ConfigError(f"{checkpoint.path}: its config's {problem}")


def _load(path: Path) -> Any:
    if not path.is_file():
        raise ConfigError(
            f"ckpt={path}: there is no such file, expected a checkpoint of train.py (…/checkpoints/best.ckpt)"
        )
    try:
        return torch.load(path, weights_only=True, map_location="cpu")
    except pickle.UnpicklingError as error:  # its own words advise to load the file unsafely
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        why = f"it names {named[1]}, and a checkpoint holds plain data only" if named else "it is not written by torch"
        raise ConfigError(f"{path}: not a checkpoint that can be read safely: {why}. Nothing of it was run") from error
    except Exception as error:  # torch has no error of its own for files that are not its
        raise ConfigError(f"{path}: not a checkpoint: {str(error) or 'it is empty'}") from error
