"""A checkpoint back to its detector and its data, without running anything that the checkpoint names.

A checkpoint is a file from anywhere. Its tensors and its config are read as plain data, and of the config nothing is
called but what this project defines for that very place: a detector's builder, a data set's reader, the steps of an
intensity. Not by Hydra, whose ``instantiate`` refuses what it knows to do harm and calls everything else, such as
``torch.save`` over any file.
"""

import importlib
import inspect
import pickle
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, cast

import hydra
import torch
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor

from cxr.config import ConfigError
from cxr.data.datamodule import RadiographDataModule
from cxr.detect.task import DetectionTask
from cxr.detect.weights import WeightsError
from cxr.findings import FindingVocabulary
from cxr.read.intensity import Intensity

# What a checkpoint may name, by place; the name must also be defined in that module, not imported into it.
_TASK = r"cxr\.detect\.task\.DetectionTask"
_DETECTOR = r"cxr\.detect\.detectors\.[a-z]\w*"
_DATA = r"cxr\.data\.datamodule\.RadiographDataModule"
_READER = r"cxr\.data\.([a-z]\w*)\.read_\1"
_INTENSITY = r"cxr\.read\.intensity\.Intensity"
_STEP = r"cxr\.read\.intensity\.(?!Intensity)[A-Z]\w*"

_OF_THE_DETECTOR = ("findings", "intensity", "size")  # it was trained on films of these; other ones it cannot read
_OF_THE_MACHINE = ("cache", "workers")  # it was trained on; a checkpoint does not choose where this one writes


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
        operating_point: of screening, chosen on the validation films (``OperatingPoint.as_dict``); None where the run
            chose none.
    """

    path: Path
    config: Mapping[str, Any] = field(repr=False)
    findings: FindingVocabulary
    fingerprint: str
    versions: Mapping[str, str]
    state: Mapping[str, Tensor] = field(repr=False)
    operating_point: Mapping[str, Any] | None = None

    @property
    def size(self) -> int:
        """Longest side in pixels of the films the detector takes."""
        return int(_entry(self, "data.size", int))


def read_checkpoint(path: Path | str) -> Checkpoint:
    """Return what the checkpoint at ``path`` holds.

    Raises ``ConfigError``: there is no such file, it is no checkpoint or one of another program, or it holds code.
    """
    path = Path(path)
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
    return Checkpoint(path, card["config"], findings, card["data"], card["versions"], content["state_dict"], point)


def load_task(checkpoint: Checkpoint) -> DetectionTask:
    """Return the trained task in eval mode on the CPU; it detects, and has no optimizer to train with.

    Raises ``ConfigError`` where the config names anything but a detector of this project, or the weights do not fit.
    """
    _callable(checkpoint, "task", _TASK)
    builder = _callable(checkpoint, "model", _DETECTOR)
    # The weights it was trained from may be gone, and are in the checkpoint by now. They are given to the builder, not
    # only to the task, because it builds with another normalisation where there are some.
    model = partial(builder, **_arguments(checkpoint, "model") | {"weights": str(checkpoint.path.absolute())})
    try:
        task = DetectionTask(checkpoint.findings, model, _no_optimizer)
        task.load_state_dict(dict(checkpoint.state))
    except (TypeError, ValueError, RuntimeError, WeightsError) as error:
        raise _wrong(checkpoint, f"model does not fit its weights or this version: {error}") from error
    return task.eval()


def load_data(checkpoint: Checkpoint, overrides: Mapping[str, Any] | None = None) -> RadiographDataModule:
    """Return the data the checkpoint was trained on, not yet set up: the same films in the same splits.

    Films come as the detector was trained on them (findings, intensity, size), but not augmented, whatever the split.

    Args:
        checkpoint: its config's ``data`` says where the films are and how they are split.
        overrides: settings over these, of which None says nothing: ``{"root": "elsewhere"}``. With a ``_target_`` of
            its own (``data=course data.root=…``) it takes their place whole, and may name any reader: it comes from
            the user, not from a checkpoint. ``${seed}`` in it is the checkpoint's.

    Raises ``ConfigError`` for a setting that is the detector's, that does not exist or that a checkpoint may not make.
    """
    chosen = _unresolved(overrides or {})
    try:
        if "_target_" in chosen:
            return _chosen_data(checkpoint, chosen)
        return _own_data(checkpoint, chosen)
    except (TypeError, ValueError) as error:
        raise error if isinstance(error, ConfigError) else ConfigError(f"data: {error}") from error


def restored_intensity(checkpoint: Checkpoint) -> Intensity:
    """Return what films must go through before the detector sees them. Raises ``ConfigError`` as ``load_data``."""
    _callable(checkpoint, "data.intensity", _INTENSITY)
    count = len(_entry(checkpoint, "data.intensity.steps", list))
    keys = [f"data.intensity.steps.{i}" for i in range(count)]
    try:
        return Intensity([_callable(checkpoint, key, _STEP)(**_arguments(checkpoint, key)) for key in keys])
    except (TypeError, ValueError) as error:
        raise error if isinstance(error, ConfigError) else _wrong(checkpoint, f"data.intensity: {error}") from error


def same_films(checkpoint: Checkpoint, data: RadiographDataModule) -> bool:
    """Whether the films of ``data``, which is set up, are those the checkpoint was trained on, in the same splits."""
    return data.fingerprint() == checkpoint.fingerprint


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


def _own_data(checkpoint: Checkpoint, given: Mapping[str, Any]) -> RadiographDataModule:
    trained = _entry(checkpoint, "data", dict)
    if other := [key for key in (*_OF_THE_DETECTOR, "augment") if given.get(key) not in (None, trained.get(key))]:
        raise ConfigError(
            f"data.{other[0]}={given[other[0]]}: films come as {checkpoint.path} was trained; leave it out"
        )
    settings = _merged({key: value for key, value in trained.items() if key not in _OF_THE_MACHINE}, given)
    changed = replace(checkpoint, config={**checkpoint.config, "data": settings})
    _callable(changed, "data", _DATA)
    read = partial(_callable(changed, "data.read", _READER), **_arguments(changed, "data.read"))
    _check_root(_entry(changed, "data.root", str), drawn=settings["read"]["_target_"].endswith("read_phantom"))
    plain = _arguments(changed, "data", without=("findings", "intensity", "augment", "read"))
    intensity = restored_intensity(checkpoint)
    return RadiographDataModule(**plain, read=read, findings=checkpoint.findings, intensity=intensity)


def _chosen_data(checkpoint: Checkpoint, chosen: Mapping[str, Any]) -> RadiographDataModule:
    node = {key: value for key, value in chosen.items() if key not in (*_OF_THE_DETECTOR, "augment")}
    cfg = OmegaConf.create({"data": node, "seed": _entry(checkpoint, "seed", int)})
    if missing := sorted(OmegaConf.missing_keys(cfg)):
        raise ConfigError(f"{missing[0]} has no value yet: type {missing[0]}=…")
    try:
        OmegaConf.resolve(cfg)
        build = hydra.utils.instantiate(cfg.data, _partial_=True, _convert_="all")
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(f"data: {error.__cause__ or error}") from error
    data = build(findings=checkpoint.findings, intensity=restored_intensity(checkpoint), size=checkpoint.size)
    if not isinstance(data, RadiographDataModule):
        raise ConfigError(f"data._target_ is {node['_target_']}, expected cxr.data.datamodule.RadiographDataModule")
    return data


def _check_root(root: str, drawn: bool) -> None:
    """Raise ``ConfigError`` unless films are there, or are phantoms to be drawn below the folder we stand in."""
    below = not Path(root).is_absolute() and ".." not in Path(root).parts
    if not Path(root).exists() and not (drawn and below):
        raise ConfigError(f"data.root={root}: there is no such folder; type data.root=FOLDER, where the films are now")


def _callable(checkpoint: Checkpoint, key: str, allowed: str) -> Callable[..., Any]:
    """Return what the config names at ``key``: a public function or class that the module it names defines itself."""
    target = _entry(checkpoint, f"{key}._target_", str)
    if re.fullmatch(allowed, target):
        module, _, name = target.rpartition(".")
        try:
            found = vars(importlib.import_module(module)).get(name)
        except ModuleNotFoundError:
            found = None
        if (inspect.isfunction(found) or inspect.isclass(found)) and found.__module__ == module:
            return cast(Callable[..., Any], found)
    raise _wrong(checkpoint, f"{key}._target_ is {target!r}, which a checkpoint may not call there")


def _arguments(checkpoint: Checkpoint, key: str, without: Sequence[str] = ()) -> dict[str, Any]:
    """Return the arguments of the node at ``key``. Raises ``ConfigError`` where one of them is a call itself."""
    node = _entry(checkpoint, key, dict)
    arguments = {name: value for name, value in node.items() if name not in ("_target_", "_partial_", *without)}
    for name, value in _flat(arguments, key):
        if name.rpartition(".")[2].startswith("_"):
            raise _wrong(checkpoint, f"{name} is {value!r}, expected plain values only in {key}")
    return arguments


def _flat(node: Any, key: str) -> Iterator[tuple[str, Any]]:
    """Yield every key below ``node`` with its value, mappings and lists before what they hold."""
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for name, child in children:
        yield f"{key}.{name}", child
        yield from _flat(child, f"{key}.{name}")


def _entry(checkpoint: Checkpoint, key: str, kind: type) -> Any:
    """Return the value at a dotted ``key`` of the config. Raises ``ConfigError`` where it is not of ``kind``."""
    node: Any = checkpoint.config
    for name in key.split("."):
        if isinstance(node, list) and name.isdecimal():
            node = node[int(name)] if int(name) < len(node) else None
        else:
            node = node.get(name) if isinstance(node, Mapping) else None
    if not isinstance(node, kind) or isinstance(node, bool):
        raise _wrong(checkpoint, f"{key} is {node!r}, expected {kind.__name__}")
    return node


def _wrong(checkpoint: Checkpoint, problem: str) -> ConfigError:
    return ConfigError(f"{checkpoint.path}: its config's {problem}")


def _unresolved(overrides: Mapping[str, Any]) -> dict[str, Any]:
    plain = OmegaConf.to_container(overrides, resolve=False) if OmegaConf.is_config(overrides) else overrides
    return {str(key): value for key, value in cast(Mapping[Any, Any], plain).items()}


def _merged(before: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``before`` with the values of ``over`` that are not None, mappings merged alike."""
    merged = dict(before)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        if value is not None:
            merged[key] = _merged(merged[key], value) if both else value
    return merged


def _no_optimizer(parameters: list[torch.nn.Parameter]) -> NoReturn:
    raise RuntimeError("a restored task has no optimizer; train.py trains")
