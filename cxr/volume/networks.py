"""Networks that classify volumes by their findings: torchvision's 3D ResNet, and a small one for two cores.

Both consist of a trunk, which gives feature maps [B, F, d, h, w], pooling, and one linear layer.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models.video.resnet import BasicBlock, Conv3DSimple

from cxr.learn import torch_file
from cxr.learn.torch_archive import TorchFileError
from cxr.learn.weights import State, WeightsError, group_norm

_KINETICS_MEAN, _KINETICS_STD = 0.401, 0.222  # over all colours of the videos from which torchvision's weights come
_PREFIX = "network."  # before the names of the network's weights in a checkpoint of StudyTask


class VolumeClassifier(nn.Module):
    """A trunk whose maps are pooled over the volume, and a linear layer that gives one logit for each finding.

    Mean and maximum are pooled: a nodule of 10 mm fills one cell in a thousand, which hardly changes a mean.

    Args:
        trunk: turns volumes [B, C, D, H, W] in 0..1 into maps [B, ``trunk.out_channels``, d, h, w].
        num_findings: number of logits.
        dropout: share of the pooled values that is left out in training.
    """

    def __init__(self, trunk: "R3d | Cnn3d", num_findings: int, dropout: float) -> None:
        super().__init__()
        self.trunk = trunk
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(2 * trunk.out_channels, num_findings)

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return ``study``, logits [B, K] of ``batch["volume"]``, which is float32 [B, C, D, H, W] in 0..1."""
        return {"study": self.head(self.dropout(pool(self.trunk(batch["volume"]))))}


class R3d(nn.Module):
    """torchvision's ResNet-18 of 3D convolutions (Tran 2018) without its classifier, for a cube in place of a video.

    Its layers have torchvision's names, so with ``width`` 64 the weights of ``r3d_18`` fit. torchvision's stem halves
    height and width of a video and keeps every frame. A cube has no time axis, so here the stem halves all three axes.

    Args:
        in_channels: channels of the volumes.
        width: channels of the stem and the first layer; the next have 2, 4 and 8 times as many. torchvision has 64.
        stem_stride: stride of the stem along depth, height, width. torchvision has 1, 2, 2.
        strides: stride of each of the four layers, along all axes. torchvision has 1, 2, 2, 2. With a last one of 1 the
            maps have twice the detail.
        normalised: True for BatchNorm, whose statistics come with weights; else GroupNorm, as batches are small.
    """

    def __init__(
        self,
        in_channels: int = 1,
        width: int = 64,
        stem_stride: Sequence[int] = (2, 2, 2),
        strides: Sequence[int] = (1, 2, 2, 2),
        normalised: bool = False,
    ) -> None:
        super().__init__()
        depth, height, across = stem_stride
        stem = nn.Conv3d(in_channels, width, (3, 7, 7), (depth, height, across), (1, 3, 3), bias=False)
        self.stem = nn.Sequential(stem, nn.BatchNorm3d(width), nn.ReLU(inplace=True))
        planes = [width * times for times in (1, 2, 4, 8)]
        befores = [width, *planes]
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            _residual(*sizes) for sizes in zip(befores, planes, strides, strict=False)
        )
        self.out_channels = planes[-1]
        if not normalised:
            _use_group_norm(self)

    def forward(self, volumes: Tensor) -> Tensor:
        """Return maps [B, 8 × width, d, h, w] of volumes [B, C, D, H, W] of 0..1."""
        maps = self.stem((volumes - _KINETICS_MEAN) / _KINETICS_STD)
        maps = self.layer4(self.layer3(self.layer2(self.layer1(maps))))
        return torch.as_tensor(maps)


class Cnn3d(nn.Sequential):
    """A convolution that halves the cube, and blocks of two 3×3×3 convolutions with GroupNorm.

    Args:
        in_channels: channels of the volumes.
        channels: channels of the stem and of each block.
        strides: stride of each block, along all axes.
    """

    def __init__(
        self,
        in_channels: int = 1,
        channels: Sequence[int] = (16, 32, 64, 96),
        strides: Sequence[int] = (2, 2, 1),
    ) -> None:
        blocks = [
            nn.Sequential(_conv(before, after, stride), _conv(after, after, 1))
            for before, after, stride in zip(channels[:-1], channels[1:], strides, strict=True)
        ]
        super().__init__(_conv(in_channels, channels[0], 2), *blocks)
        self.out_channels = channels[-1]


def r3d(
    num_classes: int,
    *,
    in_channels: int = 1,
    width: int = 64,
    stem_stride: Sequence[int] = (2, 2, 2),
    strides: Sequence[int] = (1, 2, 2, 2),
    dropout: float = 0.0,
    weights: str | None = None,
) -> VolumeClassifier:
    """Return the 3D ResNet for K = ``num_classes`` - 1 findings; the background has no logit.

    ``dropout`` is that of ``VolumeClassifier``, ``in_channels`` to ``strides`` are those of ``R3d``. ``weights`` is a
    file of torchvision's ``r3d_18`` (.pth), whose stem is summed over the colours, or a checkpoint of this project;
    None starts from random numbers.

    Raises ``WeightsError`` where the file is missing or unreadable, or its weights are of another network.
    """
    state = None if weights is None else read_state(weights)
    normalised = any(key.endswith("running_mean") for key in state or ())
    network = VolumeClassifier(R3d(in_channels, width, stem_stride, strides, normalised), num_classes - 1, dropout)
    if state is not None:
        trunk_state = {key: value for key, value in state.items() if key.startswith("trunk.")}
        load_part(network.trunk, trunk_state or _of_torchvision(state, in_channels), "trunk.", str(weights))
        _load_head(network, state)
    return network


def cnn3d(
    num_classes: int,
    *,
    in_channels: int = 1,
    channels: Sequence[int] = (16, 32, 64, 96),
    strides: Sequence[int] = (2, 2, 1),
    dropout: float = 0.0,
    weights: str | None = None,
) -> VolumeClassifier:
    """Return the small 3D CNN for K = ``num_classes`` - 1 findings. From random numbers it learns in minutes.

    ``dropout`` is that of ``VolumeClassifier``, ``in_channels`` to ``strides`` are those of ``Cnn3d``. ``weights`` is a
    checkpoint of this project; None starts from random numbers.

    Raises ``WeightsError`` where the file is missing or unreadable, or its weights are of another network.
    """
    network = VolumeClassifier(Cnn3d(in_channels, channels, strides), num_classes - 1, dropout)
    if weights is not None:
        state = read_state(weights)
        load_part(network.trunk, state, "trunk.", weights)
        _load_head(network, state)
    return network


def pool(maps: Tensor) -> Tensor:
    """Return mean and maximum of maps [B, F, …] over space, [B, 2 F]."""
    cells = maps.flatten(2)
    return torch.cat([cells.mean(2), cells.amax(2)], 1)


def read_state(path: str) -> State:
    """Return the weights in a file, without running any code in it.

    Raises ``WeightsError`` where the file does not exist or cannot be read safely.
    """
    if not Path(path).is_file():
        raise WeightsError(f"model.weights={path}: no such file; expected null, a .pth or a .ckpt")
    try:
        state = torch_file.read_state(path)
    except (TorchFileError, OSError) as error:
        raise WeightsError(f"{path}: not a file of weights that can be read safely: {error}") from error
    return {key.removeprefix(_PREFIX): value for key, value in state.items()}


def load_part(part: nn.Module, state: State, prefix: str, source: str) -> None:
    """Copy the weights in ``state`` whose names begin with ``prefix``.

    Raises ``WeightsError`` where they are not the weights of such a part.
    """
    weights = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    try:
        part.load_state_dict(weights)
    except RuntimeError as error:  # its text lists every layer that is missing, unknown or of another shape
        raise WeightsError(f"weights {source}: made for another network. {error}") from error


def _load_head(network: VolumeClassifier, state: State) -> None:
    """Copy the last layer if it has the same number of findings; else the network keeps its random numbers."""
    head = {key.removeprefix("head."): value for key, value in state.items() if key.startswith("head.")}
    if head and head["weight"].shape == network.head.weight.shape:
        network.head.load_state_dict(head)


def _of_torchvision(state: State, in_channels: int) -> State:
    """Return torchvision's weights by our names; the three colours of the stem become ``in_channels`` grey channels.

    If all channels are alike, the maps are the same as those of a grey video.
    """
    kept = {f"trunk.{key}": value for key, value in state.items() if not key.startswith("fc.")}
    stem = "trunk.stem.0.weight"
    if stem in kept:
        kept[stem] = kept[stem].sum(1, keepdim=True).repeat(1, in_channels, 1, 1, 1) / in_channels
    return kept


def _residual(before: int, planes: int, stride: int) -> nn.Sequential:
    shortcut = None
    if stride != 1 or before != planes:
        shortcut = nn.Sequential(nn.Conv3d(before, planes, 1, stride, bias=False), nn.BatchNorm3d(planes))
    first = BasicBlock(before, planes, Conv3DSimple, stride, shortcut)
    return nn.Sequential(first, BasicBlock(planes, planes, Conv3DSimple))


def _use_group_norm(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm3d):
            setattr(module, name, group_norm(child.num_features))
        _use_group_norm(child)


def _conv(before: int, after: int, stride: int) -> nn.Sequential:
    convolution = nn.Conv3d(before, after, 3, stride, padding=1, bias=False)
    return nn.Sequential(convolution, group_norm(after), nn.ReLU(inplace=True))
