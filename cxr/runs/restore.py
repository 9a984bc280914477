"""A checkpoint back to its detector and its data, without running anything that the checkpoint names.

A checkpoint is a file from anywhere. Its tensors and its config are read as plain data, and of the config nothing is
called but what this project defines for that very place: a detector's builder, a data set's reader, the steps of an
intensity. Not by Hydra, whose ``instantiate`` refuses what it knows to do harm and calls everything else, such as
``torch.save`` over any file.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, cast

import hydra
import torch
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cxr.config.errors import ConfigError
from cxr.data.film_data import FilmDataModule
from cxr.data.sources.merge import Source
from cxr.detect.task import DetectionTask
from cxr.findings import FindingVocabulary
from cxr.installation import command
from cxr.read.intensity import Intensity, Step
from cxr.read.modality import ByModality, OneKind, Row
from cxr.read.preprocessing import Preprocessing
from cxr.runs.checkpoint import Checkpoint, arguments_at, callable_at, entry_at, wrong
from cxr.runs.checkpoint_settings import checked_arguments
from cxr.runs.restored_network import (
    STUDY_TASK,
    filled,
    first_words,
    model_builder,
    refuse_damaged,
    refuse_no_shares,
)
from cxr.runs.restored_network import of_studies as of_studies  # handed on

if TYPE_CHECKING:
    from cxr.volume.task import StudyTask

# What a checkpoint may name, by place; the name must also be defined in that module, not imported into it.
_TASK = r"cxr\.detect\.task\.DetectionTask"
_DETECTOR = r"cxr\.detect\.(?:detectors|yolo|detr)\.[a-z]\w*"
_DATA = r"cxr\.data\.film_data\.FilmDataModule"
_READER = r"cxr\.data\.sources\.([a-z]\w*)\.read_\1"
_VOCABULARY = r"cxr\.findings\.FindingVocabulary"
_INTENSITY = r"cxr\.read\.intensity\.Intensity|cxr\.read\.modality\.ByModality"
_STEP = r"cxr\.read\.intensity\.(?!Intensity)[A-Z]\w*|cxr\.suppress\.step\.Suppressed"

_NETWORK = r"cxr\.volume\.(?:networks\.(?:r3d|cnn3d)|fusion\.fusion)"
_STUDY_DATA = r"cxr\.data\.(?:series_data\.SeriesDataModule|pair_data\.PairDataModule)"
_STUDY_READER = _READER

_OF_THE_DETECTOR = ("findings", "intensity", "size")  # it was trained on films of these; other ones it cannot read
_OF_THE_MACHINE = ("cache", "workers")  # it was trained on; a checkpoint does not choose where this one writes


def load_task(checkpoint: Checkpoint) -> DetectionTask:
    """Return the trained task in eval mode on the CPU; it detects, and has no optimizer to train with.

    Raises ``ConfigError`` where the config names anything but a detector of this project, or the weights do not fit.
    """
    _refuse_studies(checkpoint)
    refuse_damaged(checkpoint)
    callable_at(checkpoint, "task", _TASK)
    model = model_builder(checkpoint, _DETECTOR)
    task = filled(checkpoint, lambda: DetectionTask(checkpoint.findings, model, _no_optimizer))
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
    _refuse_studies(checkpoint)
    refuse_damaged(checkpoint)
    chosen = _unresolved(overrides or {})
    try:
        if "_target_" in chosen:
            return _chosen_data(checkpoint, chosen)
        return _own_data(checkpoint, chosen)
    except (TypeError, ValueError, OSError) as error:
        raise error if isinstance(error, ConfigError) else ConfigError(f"data: {first_words(error)}") from error


def _refuse_studies(checkpoint: Checkpoint) -> None:
    if of_studies(checkpoint):
        raise ConfigError(
            f"{checkpoint.path}: of a network for whole studies, not of a detector; {command('explain')} ckpt=… shows"
            " what it looked at, and its run's result.json holds the test figures"
        )


def load_study_task(checkpoint: Checkpoint) -> "StudyTask":
    """Return the trained classifier of studies in eval mode on the CPU. Raises ``ConfigError`` as ``load_task``."""
    refuse_damaged(checkpoint)
    task = callable_at(checkpoint, "task", STUDY_TASK)
    model = model_builder(checkpoint, _NETWORK)
    built = filled(checkpoint, lambda: task(checkpoint.findings, model, _no_optimizer))
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
    build = callable_at(changed, "data", _STUDY_DATA)
    read = _reader(changed, "data.read", _STUDY_READER, _asks_to_draw(chosen))
    _check_root(entry_at(changed, "data.root", str), drawn="read_phantom" in settings["read"]["_target_"])
    intensities = {k: restored_intensity(changed, f"data.{k}") for k in settings if k.endswith("intensity")}
    called = ("findings", "augment", "read", *intensities)
    plain = checked_arguments(changed, "data", build, without=called)
    try:
        return build(**plain, **intensities, read=read, findings=checkpoint.findings)
    except (TypeError, ValueError, OSError) as error:
        raise ConfigError(f"data: {first_words(error)}") from error


def restored_intensity(checkpoint: Checkpoint, key: str = "data.intensity") -> Preprocessing:
    """Return what films must go through before the detector sees them. Raises ``ConfigError`` as ``load_data``."""
    build = callable_at(checkpoint, key, _INTENSITY)
    try:
        if build is Intensity:
            return Intensity(_steps(checkpoint, f"{key}.steps"))
        rows = [f"{key}.rows.{i}" for i in range(len(entry_at(checkpoint, f"{key}.rows", list)))]
        return ByModality(
            [
                checked_arguments(checkpoint, row, Row, without=("steps",))
                | {"steps": _steps(checkpoint, f"{row}.steps")}
                for row in rows
            ]
        )
    except (TypeError, ValueError) as error:
        raise error if isinstance(error, ConfigError) else wrong(checkpoint, f"{key}: {error}") from error


def intensity_of_films(checkpoint: Checkpoint) -> Preprocessing:
    """Return ``restored_intensity`` for films that the user names: one of another kind is refused as unreadable."""
    intensity = restored_intensity(checkpoint)
    return intensity if checkpoint.kind is None else OneKind(intensity, checkpoint.kind)


def _steps(checkpoint: Checkpoint, key: str) -> list[Step]:
    keys = [f"{key}.{i}" for i in range(len(entry_at(checkpoint, key, list)))]
    steps = ((step, callable_at(checkpoint, step, _STEP)) for step in keys)
    return [build(**checked_arguments(checkpoint, step, build)) for step, build in steps]


def _reader(checkpoint: Checkpoint, key: str, allowed: str = _READER, draw: bool = False) -> Callable[..., Any]:
    """Return the reader at ``key``; one that joins several data sets with the readers of its ``sources``.

    A reader that draws the films which it does not find has an argument ``draw``. It is the user's: a checkpoint has
    no films drawn.
    """
    build = callable_at(checkpoint, key, allowed)
    arguments = checked_arguments(checkpoint, key, build, without=("sources", "draw"))
    if "draw" in inspect.signature(build).parameters:
        arguments["draw"] = draw
    if "sources" not in entry_at(checkpoint, key, dict):
        return partial(build, **arguments)
    sources = [f"{key}.sources.{name}" for name in entry_at(checkpoint, f"{key}.sources", dict)]
    return partial(build, **arguments, sources={s.rpartition(".")[2]: _source(checkpoint, s) for s in sources})


def _source(checkpoint: Checkpoint, key: str) -> dict[str, Any]:
    vocabulary = callable_at(checkpoint, f"{key}.findings", _VOCABULARY)
    return checked_arguments(checkpoint, key, Source, without=("read", "findings")) | {
        "read": _reader(checkpoint, f"{key}.read"),
        "findings": vocabulary(**checked_arguments(checkpoint, f"{key}.findings", FindingVocabulary)),
    }


def same_films(checkpoint: Checkpoint, data: FilmDataModule) -> bool:
    """Whether the films of ``data``, which is set up, are those the checkpoint was trained on, in the same splits."""
    return data.fingerprint() == checkpoint.fingerprint


def _own_data(checkpoint: Checkpoint, given: Mapping[str, Any]) -> FilmDataModule:
    trained = entry_at(checkpoint, "data", dict)
    if other := [key for key in (*_OF_THE_DETECTOR, "augment") if given.get(key) not in (None, trained.get(key))]:
        raise ConfigError(
            f"data.{other[0]}={given[other[0]]}: films come as {checkpoint.path} was trained; leave it out"
        )
    own = {key: value for key, value in trained.items() if key not in _OF_THE_MACHINE}
    untouched = {key: value for key, value in own.items() if given.get(key) is None}  # what is typed was looked at
    called = ("findings", "intensity", "augment", "read")
    checked_arguments(_with_data(checkpoint, untouched), "data", FilmDataModule, without=called)
    settings = _merged(own, given)
    changed = _with_data(checkpoint, settings)
    callable_at(changed, "data", _DATA)
    read = _reader(changed, "data.read", draw=_asks_to_draw(given))
    _check_root(entry_at(changed, "data.root", str), drawn=settings["read"]["_target_"].endswith("read_phantom"))
    plain = arguments_at(changed, "data", without=called)
    intensity = restored_intensity(checkpoint)
    return FilmDataModule(**plain, read=read, findings=checkpoint.findings, intensity=intensity)


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


def _no_optimizer(parameters: list[torch.nn.Parameter]) -> NoReturn:
    raise RuntimeError("a restored task has no optimizer; train.py trains")
