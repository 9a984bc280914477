"""A checkpoint back to its detector and its data, without running anything that the checkpoint names.

A checkpoint is a file from anywhere. Its tensors and its config are read as plain data, and of the config nothing is
called but what this project defines for that very place: a detector's builder, a data set's reader, the steps of an
intensity. Not by Hydra, whose ``instantiate`` refuses what it knows to do harm and calls everything else, such as
``torch.save`` over any file.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, cast, get_type_hints

import hydra
from hydra.errors import HydraException
from lightning.pytorch import LightningDataModule
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cxr.config.errors import ConfigError
from cxr.data.film_data import FilmDataModule
from cxr.detect.task import DetectionTask
from cxr.installation import command
from cxr.learn.parameter_groups import NamedParameters
from cxr.read.modality import OneKind
from cxr.read.preprocessing import Preprocessing
from cxr.runs.checkpoint import Checkpoint, entry_at, wrong
from cxr.runs.rebuild import callable_at, rebuilt
from cxr.runs.restored_network import (
    filled,
    first_words,
    model_builder,
    refuse_damaged,
    refuse_no_shares,
)
from cxr.runs.restored_network import of_studies as of_studies  # handed on

if TYPE_CHECKING:
    from cxr.volume.task import StudyTask

_PRETRAINING = "cxr.pretrain.task.PretrainingTask"
_OF_THE_DETECTOR = ("findings", "intensity", "size")  # it was trained on films of these; other ones it cannot read
_OF_THE_MACHINE = ("cache", "workers")  # it was trained on; a checkpoint does not choose where this one writes


def load_task(checkpoint: Checkpoint) -> DetectionTask:
    """Return the trained task in eval mode on the CPU; it detects, and has no optimizer to train with.

    Raises ``ConfigError`` where the config names anything but a detector of this project, or the weights do not fit.
    """
    _refuse_no_detector(checkpoint)
    refuse_damaged(checkpoint)
    kind = callable_at(checkpoint, "task", DetectionTask)
    model = model_builder(checkpoint, get_type_hints(kind.__init__)["model"], "cxr.detect")
    task: DetectionTask = filled(checkpoint, lambda: kind(checkpoint.findings, model, _no_optimizer))
    if task.image_head is not None:
        weights = {name: getattr(task.image_head, name) for name in ("box_weight", "film_weight")}
        refuse_no_shares(checkpoint, {f"the image head's {name}": value for name, value in weights.items()})
    return task.eval()


def load_data(checkpoint: Checkpoint, overrides: Mapping[str, Any] | None = None) -> FilmDataModule:
    """Return the data the checkpoint was trained on, not yet set up: the same films in the same splits.

    Films come as the detector was trained on them (findings, intensity, size), but not augmented, whatever the split.

    Args:
        checkpoint: its config's ``data`` says where the films are and how they are split.
        overrides: settings over these, of which None says nothing: ``{"root": "elsewhere"}``. With a ``_target_`` of
            its own (``data=course data.root=…``) it takes their place whole, and may name any reader: it comes from
            the user, not from a checkpoint. ``${seed}`` in it is the checkpoint's. ``{"read": {"draw": True}}`` lets
            phantoms be drawn that are not there; a checkpoint cannot.

    Raises ``ConfigError`` for a setting that is the detector's, that does not exist or that a checkpoint may not make.
    """
    _refuse_no_detector(checkpoint)
    refuse_damaged(checkpoint)
    chosen = _unresolved(overrides or {})
    try:
        if "_target_" in chosen:
            return _chosen_data(checkpoint, chosen)
        return _checkpoints_data(checkpoint, chosen)
    except (TypeError, ValueError, OSError) as error:
        raise error if isinstance(error, ConfigError) else ConfigError(f"data: {first_words(error)}") from error


def _refuse_no_detector(checkpoint: Checkpoint) -> None:
    if of_studies(checkpoint):
        raise ConfigError(
            f"{checkpoint.path}: of a network for whole studies, not of a detector; {command('explain')} ckpt=… shows"
            " what it looked at, and its run's result.json holds the test figures"
        )
    if entry_at(checkpoint, "task._target_", str) == _PRETRAINING:
        raise ConfigError(
            f"{checkpoint.path}: of a pretraining, not of a detector; train one that starts from it:"
            f" {command('train')} … model.backbone.weights={checkpoint.path}"
        )


def load_study_task(checkpoint: Checkpoint) -> "StudyTask":
    """Return the trained classifier of studies in eval mode on the CPU. Raises ``ConfigError`` as ``load_task``."""
    refuse_damaged(checkpoint)
    from cxr.volume.task import StudyTask

    kind = callable_at(checkpoint, "task", StudyTask)
    model = model_builder(checkpoint, get_type_hints(kind.__init__)["model"], "cxr.volume")
    built = filled(checkpoint, lambda: kind(checkpoint.findings, model, _no_optimizer))
    refuse_no_shares(checkpoint, {"the thresholds of its findings": built.thresholds})
    return cast("StudyTask", built.eval())


def load_study_data(checkpoint: Checkpoint, overrides: Mapping[str, Any] | None = None) -> Any:
    """Return the studies the checkpoint was trained on, not yet set up, in the same splits and not augmented.

    ``overrides`` are settings over these: ``{"root": "elsewhere"}``. Raises ``ConfigError`` as ``load_data``.
    """
    refuse_damaged(checkpoint)
    chosen = _unresolved(overrides or {})
    if "_target_" in chosen:
        raise ConfigError("data: the studies are those of the checkpoint; type data.root=FOLDER where they have moved")
    settings = _merged(
        {k: v for k, v in entry_at(checkpoint, "data", dict).items() if k not in _OF_THE_MACHINE}, chosen
    )
    changed = _with_data(checkpoint, settings)
    reader = entry_at(changed, "data.read._target_", str)
    replaced = {"draw": _asks_to_draw(chosen), "augment": None}
    try:
        data = rebuilt(changed, "data", LightningDataModule, "cxr.data", replaced, findings=checkpoint.findings)
        _check_root(entry_at(changed, "data.root", str), drawn="read_phantom" in reader)
        return data
    except (TypeError, ValueError, OSError) as error:
        raise error if isinstance(error, ConfigError) else ConfigError(f"data: {first_words(error)}") from error


def restored_intensity(checkpoint: Checkpoint, key: str = "data.intensity") -> Preprocessing:
    """Return what films must go through before the detector sees them. Raises ``ConfigError`` as ``load_data``."""
    try:
        return cast(Preprocessing, rebuilt(checkpoint, key, Preprocessing))
    except (TypeError, ValueError) as error:
        raise error if isinstance(error, ConfigError) else wrong(checkpoint, f"{key}: {error}") from error


def intensity_of_films(checkpoint: Checkpoint) -> Preprocessing:
    """Return ``restored_intensity`` for films that the user names: one of another kind is refused as unreadable."""
    intensity = restored_intensity(checkpoint)
    return intensity if checkpoint.kind is None else OneKind(intensity, checkpoint.kind)


def same_films(checkpoint: Checkpoint, data: FilmDataModule) -> bool:
    """Whether the films of ``data``, which is set up, are those the checkpoint was trained on, in the same splits."""
    return data.fingerprint() == checkpoint.fingerprint


def _checkpoints_data(checkpoint: Checkpoint, given: Mapping[str, Any]) -> FilmDataModule:
    trained = entry_at(checkpoint, "data", dict)
    if other := [key for key in (*_OF_THE_DETECTOR, "augment") if given.get(key) not in (None, trained.get(key))]:
        raise ConfigError(
            f"data.{other[0]}={given[other[0]]}: films come as {checkpoint.path} was trained; leave it out"
        )
    kept = {key: value for key, value in trained.items() if key not in _OF_THE_MACHINE}
    settings = _merged(kept, given)
    changed = _with_data(checkpoint, settings)
    reader = entry_at(changed, "data.read._target_", str)
    replaced = {"draw": _asks_to_draw(given), "augment": None}
    shared = {"findings": checkpoint.findings, "intensity": restored_intensity(checkpoint)}
    data = rebuilt(changed, "data", FilmDataModule, "cxr.data", replaced, **shared)
    _check_root(entry_at(changed, "data.root", str), drawn="read_phantom" in reader)
    return cast(FilmDataModule, data)


def _asks_to_draw(typed: Mapping[str, Any]) -> bool:
    read = typed.get("read")
    return isinstance(read, Mapping) and read.get("draw") is True


def _with_data(checkpoint: Checkpoint, settings: Mapping[str, Any]) -> Checkpoint:
    """Return the checkpoint with other settings of its data."""
    return replace(checkpoint, config={**checkpoint.config, "data": settings})


def _chosen_data(checkpoint: Checkpoint, chosen: Mapping[str, Any]) -> FilmDataModule:
    node = {key: value for key, value in chosen.items() if key not in (*_OF_THE_DETECTOR, "augment")}
    cfg = OmegaConf.create({"data": node, "seed": entry_at(checkpoint, "seed", int)})
    if missing := sorted(OmegaConf.missing_keys(cfg)):
        raise ConfigError(f"{missing[0]} has no value yet: type {missing[0]}=…")
    try:
        OmegaConf.resolve(cfg)
        build = hydra.utils.instantiate(cfg.data, _partial_=True, _convert_="all")
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(f"data: {error.__cause__ or error}") from error
    data = build(findings=checkpoint.findings, intensity=restored_intensity(checkpoint), size=checkpoint.size)
    if not isinstance(data, FilmDataModule):
        raise ConfigError(f"data._target_ is {node['_target_']}, expected cxr.data.film_data.FilmDataModule")
    return data


def _check_root(root: str, drawn: bool) -> None:
    """Raise ``ConfigError`` unless films are there, or are phantoms to be drawn below the folder we stand in."""
    below = not Path(root).is_absolute() and ".." not in Path(root).parts
    if not Path(root).exists() and not (drawn and below):
        raise ConfigError(f"data.root={root}: there is no such folder; type data.root=FOLDER, where the films are now")


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


def _no_optimizer(parameters: NamedParameters) -> NoReturn:
    raise RuntimeError("a restored task has no optimizer; train.py trains")
