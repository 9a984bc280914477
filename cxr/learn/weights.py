"""Weights to start from: torchvision's, a local file, or none, and the normalisation that goes with each."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torchvision.models._api import WeightsEnum
from torchvision.ops import FrozenBatchNorm2d

from cxr.learn.torch_archive import TorchFileError
from cxr.learn.torch_file import read_state

log = logging.getLogger(__name__)

State = dict[str, Tensor]
Norm = Callable[[int], nn.Module]

DEFAULT = "DEFAULT"
_PREFIX = "detector."  # of the detector inside a DetectionTask's checkpoint
_IMAGE_HEAD = "image_head."  # published weights know none
_DETECTOR = "backbone."  # what every detector of this project has
_BODY = "backbone.body."  # of the backbone inside a detector
_PRETRAINED = "pyramid."  # of all that ``task=pretrain`` has trained: a backbone and its pyramid
_BODY_OF_PYRAMID, _FPN = "body.", "fpn."


class WeightsError(ValueError):
    """Weights that cannot be had, or do not fit the detector."""


def read_weights(weights: str | None, default: WeightsEnum | None, part: str = _DETECTOR) -> State | None:
    """Return the state dict that ``weights`` names, None for None (start from random numbers).

    Args:
        weights: ``"DEFAULT"`` (torchvision's COCO weights, downloaded once), the path of a torchvision state dict
            (.pth) or of a checkpoint of this project (.ckpt), or None.
        default: what ``"DEFAULT"`` stands for; None where torchvision has no such detector.
        part: beginning of a layer's name that a detector's weights must have.

    Raises:
        WeightsError: not to be had, not a file of weights, or no weights for this detector.
    """
    if weights is None:
        return None
    return _download(default) if weights == DEFAULT else _read_file(Path(weights), part)


def norm_for(state: Mapping[str, Tensor] | None) -> Norm:
    """Return the normalisation layer to build with: frozen statistics where the weights bring some, else GroupNorm.

    Films come a few to a batch, too few for BatchNorm; FrozenBatchNorm without statistics is a frozen random network.
    """
    frozen = any(key.endswith("running_mean") for key in state or ())
    return FrozenBatchNorm2d if frozen else group_norm


def group_norm(channels: int) -> nn.GroupNorm:
    """Return a GroupNorm of as many groups (≤ 32) as divide ``channels`` with at least 4 channels each."""
    groups = next(g for g in range(max(1, min(32, channels // 4)), 0, -1) if channels % g == 0)
    return nn.GroupNorm(groups, channels)


def renormalised(module: nn.Module, norm: Norm) -> None:
    """Replace every BatchNorm inside ``module`` by ``norm`` of its channels; frozen ones keep its epsilon."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            fresh: Any = norm(child.num_features)
            fresh.eps = child.eps
            setattr(module, name, fresh)
        else:
            renormalised(child, norm)


def fit_stem(detector: nn.Module, state: State | None) -> State | None:
    """Return ``state`` with a stem of one channel where the detector's has one and the weights' has several.

    The sum over the weights' channels is what they make of a film that is repeated for each.
    """
    if state is None:
        return None
    name, kernel = next((key, value) for key, value in detector.state_dict().items() if value.ndim == 4)
    stem = state.get(name)
    if stem is None or kernel.shape[1] != 1:
        return state
    return {**state, name: stem.sum(1, keepdim=True)}


def load_weights(detector: nn.Module, state: State | None, source: str | None, fresh: tuple[str, ...]) -> None:
    """Copy ``state`` into ``detector``; heads of another shape keep their random numbers, and a message names them.

    ``fresh`` are the beginnings of the names of these heads.

    Raises:
        WeightsError: a layer outside the heads is missing, unknown or of another shape.
    """
    if state is None:
        return
    expected = detector.state_dict()
    resized = sorted(
        key
        for key, value in state.items()
        if key.startswith(fresh) and key in expected and expected[key].shape != value.shape
    )
    try:
        missing, unknown = detector.load_state_dict({k: v for k, v in state.items() if k not in resized}, strict=False)
    except RuntimeError as error:  # torch lists every layer of another shape
        raise WeightsError(f"weights {source}: made for another network. {error}") from error
    image_head = [key for key in missing if key.startswith(_IMAGE_HEAD)]
    lost = sorted(set(missing) - set(resized) - set(image_head))
    if lost or unknown:
        raise WeightsError(
            f"weights {source}: made for another network: {_some(lost)} missing, {_some(sorted(unknown))} unknown to it"
        )
    if image_head:
        log.warning("weights %s: no image head there, it starts at random", source)
    if resized:
        shapes = ", ".join(f"{key} {list(state[key].shape)} → {list(expected[key].shape)}" for key in resized)
        log.warning("weights %s: all loaded but for heads of another shape, which start at random: %s", source, shapes)


def read_backbone(weights: str, default: WeightsEnum | None, part: str = "") -> State:
    """Return the state dict of a backbone that ``weights`` names, with the names its layers have in the library.

    Args:
        weights: "DEFAULT" (learnt on ImageNet, downloaded once), or a file: a state dict as the library publishes it,
            a checkpoint of this project, whose detector's backbone is taken, or a file of ``task=pretrain``, whose
            pyramid comes along under names that begin with "fpn.".
        default: what "DEFAULT" stands for; None where there are no such weights.
        part: of the published network that is the backbone, the beginning of its layers' names.

    Raises ``WeightsError``: not to be had, or not a file of weights.
    """
    key = "model.backbone.weights"
    state = _download(default, key) if weights == DEFAULT else _read_state(Path(weights), key)
    if any(name.startswith(_PRETRAINED) for name in state):
        parts = {name.removeprefix(_PRETRAINED): value for name, value in state.items() if name.startswith(_PRETRAINED)}
        return {name.removeprefix(_BODY_OF_PYRAMID): value for name, value in parts.items()}
    whole = [name for name in state if _BODY in name]
    if whole:
        return {name.partition(_BODY)[2]: state[name] for name in whole}
    return {name.removeprefix(part): value for name, value in state.items() if name.startswith(part)}


def load_backbone(body: nn.Module, state: State, source: str) -> None:
    """Copy a backbone's ``state`` into ``body``; what it holds beside, as a classifier, is left out.

    A stem of one channel takes the sum of the weights' channels, which is what they make of a film repeated for each.
    Raises ``WeightsError`` where a layer of ``body`` is missing in it, or of another shape.
    """
    expected = body.state_dict()
    fitting = fit_stem(body, {name: value for name, value in state.items() if name in expected}) or {}
    if missing := sorted(expected.keys() - fitting.keys()):
        raise WeightsError(f"model.backbone.weights={source}: made for another backbone: {_some(missing)} missing")
    try:
        body.load_state_dict(fitting)
    except RuntimeError as error:  # torch lists every layer of another shape
        raise WeightsError(f"model.backbone.weights={source}: made for another backbone. {error}") from error


def load_pyramid(fpn: nn.Module, read: State | None) -> None:
    """Copy the weights of a pyramid into ``fpn``, where the backbone's file holds some; see ``read_backbone``.

    A pyramid of other shapes, as of another detector, keeps its random numbers, and a message says so.
    """
    state = {name.removeprefix(_FPN): value for name, value in (read or {}).items() if name.startswith(_FPN)}
    expected = fpn.state_dict()
    if not state:
        return
    if all(name in state and state[name].shape == value.shape for name, value in expected.items()):
        fpn.load_state_dict({name: state[name] for name in expected})
    else:
        log.warning(
            "model.backbone.weights: its pyramid is of another shape than the detector's, which starts at random"
        )


def _download(default: WeightsEnum | None, setting: str = "model.weights") -> State:
    if default is None:
        raise WeightsError(f"{setting}=DEFAULT: torchvision has no weights for it; use {setting}=null")
    try:
        state: State = default.get_state_dict(progress=True, check_hash=True, weights_only=True)
    except OSError as error:
        raise WeightsError(
            f"{setting}=DEFAULT: {default.url} could not be fetched ({error}). Fetch it on another machine and say"
            f" {setting}=/path/to/the/file.pth, or {setting}=null to start from random numbers"
        ) from error
    return state


def _read_state(path: Path, setting: str) -> State:
    if not path.is_file():
        raise WeightsError(f"{setting}={path}: no such file; expected DEFAULT, null, a .pth or a .ckpt")
    try:
        return read_state(path)
    except (TorchFileError, OSError) as error:
        raise WeightsError(f"{path}: not a file of weights that can be read safely: {error}") from error


def _read_file(path: Path, part: str) -> State:
    state = _read_state(path, "model.weights")
    if any(key.startswith(_PREFIX) for key in state):
        state = {key.removeprefix(_PREFIX): value for key, value in state.items() if key.startswith(_PREFIX)}
    if not any(key.startswith(part) for key in state):
        raise WeightsError(f"{path}: holds no detector; expected its state dict, or a checkpoint of this project")
    return state


def _some(keys: list[str], most: int = 4) -> str:
    return f"{', '.join(keys[:most]) or 'nothing'}{f' and {len(keys) - most} more' if len(keys) > most else ''}"
