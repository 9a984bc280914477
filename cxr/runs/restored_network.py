"""What every restored network shares: its builder with the checkpoint's arguments and weights, and what is refused.

A builder is given what a file from anywhere says. So its arguments are checked before, any error it raises becomes a
problem with the checkpoint, and calibrations are looked at when they are loaded.
"""

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

import torch

from cxr.config.errors import ConfigError
from cxr.measure.operating_point import OperatingPoint
from cxr.runs.checkpoint import Checkpoint, entry_at, short, wrong
from cxr.runs.rebuild import callable_at, rebuilt

STUDY_TASK = r"cxr\.volume\.task\.StudyTask"
"""What a checkpoint of a classifier of studies names as its task."""

_MOST_LETTERS = 2000  # of an error that is passed on: torch lists every layer that does not fit

_Task = TypeVar("_Task", bound=torch.nn.Module)


def of_studies(checkpoint: Checkpoint) -> bool:
    """Whether it is of a classifier of studies and not of a detector."""
    return re.fullmatch(STUDY_TASK, str(entry_at(checkpoint, "task._target_", str))) is not None


def model_builder(checkpoint: Checkpoint, kind: Any, within: str) -> Callable[..., Any]:
    """Return what builds the network for a number of classes, with the weights of the checkpoint.

    The weights that it was trained from may be gone, and are in the checkpoint by now. They are given to the builder,
    not only to the task, because it builds with another normalisation where there are some.

    Args:
        checkpoint: its config's ``model`` says which network.
        kind: annotation of the task's ``model``.
        within: package of this project that may define the builder.
    """
    parameters = inspect.signature(callable_at(checkpoint, "model", kind, within)).parameters
    gone = dict.fromkeys(("weights", "film_weights", "volume_weights"))  # of parts: those of the whole count
    whole = {"weights": str(checkpoint.path.absolute())} if "weights" in parameters else {}
    return cast(Callable[..., Any], rebuilt(checkpoint, "model", kind, within, gone, **whole))


def filled(checkpoint: Checkpoint, build: Callable[[], _Task]) -> _Task:
    """Return a task with the checkpoint's weights. Raises ``ConfigError`` where they do not fit, or extras are missing.

    Any error of a builder becomes this one, because its arguments come from a file from anywhere.
    """
    try:
        task = build()
        task.load_state_dict(dict(checkpoint.state))
    except ImportError as error:  # says what to install
        raise ConfigError(f"{checkpoint.path}: {error}") from error
    except Exception as error:
        raise wrong(checkpoint, f"model does not fit its weights or this version: {first_words(error)}") from error
    return task


def refuse_no_shares(checkpoint: Checkpoint, calibrations: Mapping[str, torch.Tensor]) -> None:
    """Raise ``ConfigError`` unless every value of the calibrations, by what they are in words, is in 0..1."""
    for name, value in calibrations.items():
        if not bool(((value >= 0) & (value <= 1)).all()):
            raise ConfigError(f"{checkpoint.path}: {name} is {short(value.tolist())}, expected 0 to 1")


def refuse_damaged(checkpoint: Checkpoint) -> None:
    """Raise ``ConfigError`` where a setting cannot be that every script reads: they would fail late, or clear films."""
    entry_at(checkpoint, "name", str)
    if not of_studies(checkpoint):
        _ = checkpoint.size  # raises
    operating_point(checkpoint)


def operating_point(checkpoint: Checkpoint) -> OperatingPoint | None:
    """Return the operating point of screening, None where there is none. Raises ``ConfigError`` for a damaged one."""
    if checkpoint.operating_point is None:
        return None
    try:
        return OperatingPoint.from_dict(checkpoint.operating_point)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{checkpoint.path}: cxr.operating_point does not fit this version: {error}") from error


def first_words(error: Exception) -> str:
    """Return what an error says, without the end of a long list; its type where it says nothing."""
    text = str(error) or type(error).__name__
    return text if len(text) <= _MOST_LETTERS else f"{text[:_MOST_LETTERS]} …"
