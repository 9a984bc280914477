"""A small body that learns from random numbers within minutes on two cores."""

from collections import OrderedDict

from torch import nn
from torchvision.ops import Conv2dNormActivation

from cxr.learn.weights import group_norm


class TinyBody(nn.Sequential):
    """A stem and four stages of two 3×3 convolutions with GroupNorm, which learns from a batch of any size.

    The stages have ResNet's names (``layer4``), as in the larger networks.

    Args:
        in_channels: channels of the images.
        channels: of the stem (stride 2) and the stages (strides 4, 8, 16, 32).
    """

    def __init__(self, in_channels: int = 1, channels: tuple[int, ...] = (32, 32, 64, 96, 128)) -> None:
        stem, *stages = channels
        layers: OrderedDict[str, nn.Module] = OrderedDict([("stem", _conv(in_channels, stem, stride=2))])
        for i, (before, after) in enumerate(zip(channels, stages, strict=False), start=1):
            layers[f"layer{i}"] = nn.Sequential(_conv(before, after, stride=2), _conv(after, after, stride=1))
        super().__init__(layers)


def _conv(before: int, after: int, stride: int) -> nn.Sequential:
    layer: nn.Sequential = Conv2dNormActivation(before, after, 3, stride, norm_layer=group_norm)
    return layer
