"""Backbones: networks that turn a canvas into maps of several strides; and the pyramid that joins these maps.

A builder here is a node of a config (conf/model/backbone/) and returns a ``Backbone``. A detector calls it with
``least_stride``, the stride of the finest map it reads, and ``state``, the weights of a whole detector or None. The
config sets its other arguments:

    weights: of the backbone alone: "DEFAULT" (learnt on ImageNet, downloaded once), a file, or None. A file holds the
        state dict that the library publishes, a checkpoint of this project, of which the backbone is taken, or what
        ``task=pretrain`` leaves, of which the pyramid is taken too where it has the detector's shapes.
    trainable_layers: stages that learn, counted from the last. Without weights all of them do.
    mean, std: one number for each channel of the stem, for films in 0..1. A film of one channel is repeated for a stem
        of three.

Normalisation follows the weights. Statistics that come with weights are frozen, because a batch holds few films.
Without weights, layers normalise in groups (``norm_for``).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torchvision.models import ResNet50_Weights
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.mobilenetv3 import MobileNet_V3_Large_Weights, mobilenet_v3_large
from torchvision.models.resnet import resnet50 as torchvision_resnet50
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7

from cxr.detect.tiny import TinyBody
from cxr.learn.weights import State, load_backbone, load_pyramid, norm_for, read_backbone

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Level(NamedTuple):
    """A map of a backbone or a pyramid: its stride in canvas pixels, and its channels."""

    stride: int
    channels: int


@dataclass(frozen=True, eq=False)
class Backbone:
    """What a builder of a backbone returns.

    Args:
        body: canvas [B, C, H, W] → {"0": map, "1": map, …}, finest first.
        levels: stride and channels of each of these maps.
        mean: of each channel of the canvas.
        std: of each channel, likewise.
        read: what the file of its weights holds (``read_backbone``); None where it was not filled from a file.
    """

    body: nn.Module
    levels: tuple[Level, ...]
    mean: Sequence[float]
    std: Sequence[float]
    read: State | None = None


class _CoarserLevels(LastLevelP6P7):
    """Two coarser levels by convolutions, always in float32; they are small.

    Of a map of one row, as films of 64 px have, oneDNN's bfloat16 (torch 2.15) returns a gradient of the weights that
    was never computed: not a number, or one of 30 digits.
    """

    def forward(self, p: list[Tensor], c: list[Tensor], names: list[str]) -> tuple[list[Tensor], list[str]]:
        """Return the maps with the two levels behind them, and the names of all."""
        with torch.autocast(p[-1].device.type, enabled=False):
            added, all_names = super().forward([p[-1].float()], [c[-1].float()], names)
        return [*p, *added[1:]], all_names


class FeaturePyramid(nn.Module):
    """Maps of one width at several strides, joined from the coarsest down (Lin 2017, arXiv 1612.03144).

    Args:
        backbone: builder of the backbone.
        state: weights of a whole detector, or None.
        least_stride: of the finest map.
        channels: number of channels of every map.
        coarser: "pool" adds a level that takes every second cell of the last; "convolutions" two levels, strides 64 and
            128, made by convolutions; None adds nothing.
        normalised: whether the convolutions of the pyramid are normalised (arXiv 2111.11429).

    Attributes:
        levels: of its maps.
        mean: of each channel of the canvas.
        std: of each channel, likewise.
        body_channels: of the backbone's coarsest map.
    """

    def __init__(
        self,
        backbone: Callable[..., Backbone],
        state: State | None = None,
        least_stride: int = 4,
        channels: int = 256,
        coarser: Literal["pool", "convolutions"] | None = "pool",
        normalised: bool = False,
    ) -> None:
        super().__init__()
        built = backbone(state=state, least_stride=least_stride)
        self.body = built.body
        more: Any = {"pool": LastLevelMaxPool, "convolutions": lambda: _CoarserLevels(channels, channels), None: None}
        blocks = more[coarser]() if coarser else None
        norm = norm_for(state) if normalised else None
        widths = [level.channels for level in built.levels]
        self.fpn = FeaturePyramidNetwork(widths, channels, extra_blocks=blocks, norm_layer=norm)
        load_pyramid(self.fpn, built.read)
        strides = [level.stride for level in built.levels]
        self.joined = len(strides)
        strides += [strides[-1] * 2 ** (i + 1) for i in range({"pool": 1, "convolutions": 2, None: 0}[coarser])]
        self.levels = tuple(Level(stride, channels) for stride in strides)
        self.mean, self.std = built.mean, built.std
        self.out_channels = channels
        self.body_channels = widths[-1]

    @property
    def pooled(self) -> tuple[Level, ...]:
        """The levels that regions are pooled from: those of the backbone, without the added coarser ones."""
        return self.levels[: self.joined]

    def forward(self, canvas: Tensor) -> dict[str, Tensor]:
        """Return the maps of a canvas [B, C, H, W] by name, finest first, [B, channels, H / stride, W / stride]."""
        maps: dict[str, Tensor] = self.fpn(self.body(canvas))
        return maps


def tiny(
    state: State | None = None,
    least_stride: int = 8,
    *,
    weights: str | None = None,
    channels: Sequence[int] = (32, 32, 64, 96, 128),
    mean: Sequence[float] = (0.5,),
    std: Sequence[float] = (0.25,),
) -> Backbone:
    """Return a small network with GroupNorm that learns from random numbers in minutes on two cores.

    ``channels`` are those of the stem (stride 2) and of the four stages (strides 4, 8, 16, 32).
    """
    levels = _from(least_stride, {f"layer{i}": Level(2 * 2**i, channels[i]) for i in range(1, 5)}, "tiny")
    body = IntermediateLayerGetter(TinyBody(len(mean), tuple(channels)), _names(levels))
    read = None if state is not None or weights is None else read_backbone(weights, None)
    return _filled(body, levels, read, weights, mean, std)


def resnet50(
    state: State | None = None,
    least_stride: int = 4,
    *,
    weights: str | None = None,
    version: Literal[1, 2] = 1,
    trainable_layers: int = 3,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
) -> Backbone:
    """Return torchvision's ResNet-50 (He 2016); ``version`` says which of its two sets of weights ``DEFAULT`` means."""
    published = {1: ResNet50_Weights.IMAGENET1K_V1, 2: ResNet50_Weights.IMAGENET1K_V2}[version]
    read = None if state is not None or weights is None else read_backbone(weights, published)
    network = torchvision_resnet50(norm_layer=norm_for(state if state is not None else read))
    network.conv1 = fit_channels(network.conv1, len(mean))
    learning = ["layer4", "layer3", "layer2", "layer1", "conv1"][: _stages(trainable_layers, 5)]
    if state is not None or read is not None:
        _learn_only(network, learning + ["bn1"] * (trainable_layers == 5))
    levels = _from(least_stride, {f"layer{i}": Level(2 * 2**i, 128 * 2**i) for i in range(1, 5)}, "resnet50")
    body = IntermediateLayerGetter(network, _names(levels))
    return _filled(body, levels, read, weights, mean, std)


def mobilenet_v3(
    state: State | None = None,
    least_stride: int = 8,
    *,
    weights: str | None = None,
    trainable_layers: int = 3,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
) -> Backbone:
    """Return torchvision's MobileNetV3-Large (Howard 2019).

    With a ``least_stride`` of 32 it gives two maps of that stride, as torchvision's detectors read them: the first and
    the last of its coarsest stage.
    """
    read = None
    if state is None and weights is not None:
        read = _for_frozen_layers(read_backbone(weights, MobileNet_V3_Large_Weights.DEFAULT, "features."))
    network = mobilenet_v3_large(norm_layer=norm_for(state if state is not None else read)).features
    network[0][0] = fit_channels(network[0][0], len(mean))
    stages = (0, 2, 4, 7, 13, 16, len(network))  # the layers that halve the map, the last, and the end
    frozen = stages[-1 - _stages(trainable_layers, 6)]
    if state is not None or read is not None:
        _freeze(network[:frozen])
    every = {"2": Level(4, 24), "4": Level(8, 40), "7": Level(16, 80), "13": Level(32, 160), "16": Level(32, 960)}
    if least_stride < 32:
        del every["13"]
    levels = _from(least_stride, every, "mobilenet_v3")
    body = IntermediateLayerGetter(network, _names(levels))
    return _filled(body, levels, read, weights, mean, std)


def fit_channels(stem: nn.Conv2d, channels: int) -> nn.Conv2d:
    """Return a network's first convolution for so many channels: itself where it has as many already."""
    if stem.in_channels == channels:
        return stem
    size: Any = stem.kernel_size
    stride: Any = stem.stride
    padding: Any = stem.padding
    return nn.Conv2d(channels, stem.out_channels, size, stride, padding, bias=stem.bias is not None)


def _for_frozen_layers(state: State) -> State:
    """Return weights of MobileNet's classifier for the frozen layers of a detector.

    The classifier that torchvision publishes adds 1e-3 to a variance, the frozen layers add 1e-5. Only the classifier's
    weights have a count of batches, so that shows whose weights they are.
    """
    if not any(name.endswith("num_batches_tracked") for name in state):
        return state
    return {name: value + (1e-3 - 1e-5) if name.endswith("running_var") else value for name, value in state.items()}


def _filled(
    body: nn.Module,
    levels: Mapping[str, Level],
    read: State | None,
    weights: str | None,
    mean: Sequence[float],
    std: Sequence[float],
) -> Backbone:
    if read is not None and weights is not None:
        load_backbone(body, read, weights)
    return Backbone(body, tuple(levels.values()), mean, std, read)


def _from(least_stride: int, levels: Mapping[str, Level], name: str) -> dict[str, Level]:
    """Return the levels whose stride is ``least_stride`` or more. Raises ``ValueError`` where there are none."""
    kept = {layer: level for layer, level in levels.items() if level.stride >= least_stride}
    if not kept:
        strides = ", ".join(str(level.stride) for level in levels.values())
        raise ValueError(
            f"pyramid.least_stride is {least_stride}, expected one of {strides}: backbone {name} has these"
        )
    return kept


def _names(levels: Mapping[str, Level]) -> dict[str, str]:
    """Return the name of each layer's map: its number."""
    return {layer: str(i) for i, layer in enumerate(levels)}


def _stages(trainable_layers: int, most: int) -> int:
    """Return ``trainable_layers``. Raises ``ValueError`` for more stages than a network has."""
    if not 0 <= trainable_layers <= most:
        raise ValueError(f"model.backbone.trainable_layers is {trainable_layers}, expected 0 to {most}")
    return trainable_layers


def _learn_only(network: nn.Module, layers: Sequence[str]) -> None:
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name.startswith(tuple(layers)) if layers else False)


def _freeze(layers: nn.Module) -> None:
    for parameter in layers.parameters():
        parameter.requires_grad_(False)
