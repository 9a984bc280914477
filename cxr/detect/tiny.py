"""A small backbone that learns from random numbers within minutes on two cores."""

from collections import OrderedDict

from torch import Tensor, nn
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.ops import Conv2dNormActivation, FeaturePyramidNetwork

from cxr.learn.weights import group_norm


class TinyFPN(nn.Module):
    """A stem and four stages of two 3×3 convolutions with GroupNorm, and a feature pyramid on the last three.

    GroupNorm learns from a batch of any size, down to one film. The layers carry ResNet's names (``body.layer4``), so
    that whoever looks for a target layer finds it where the larger detectors have it.

    Args:
        in_channels: of the images.
        channels: of the stem (stride 2) and the stages (strides 4, 8, 16, 32).
        out_channels: of every map of the pyramid.
    """

    def __init__(
        self,
        in_channels: int = 1,
        channels: tuple[int, int, int, int, int] = (32, 32, 64, 96, 128),
        out_channels: int = 64,
    ) -> None:
        super().__init__()
        stem, *stages = channels
        layers: OrderedDict[str, nn.Module] = OrderedDict([("stem", _conv(in_channels, stem, stride=2))])
        for i, (before, after) in enumerate(zip(channels, stages, strict=False), start=1):
            layers[f"layer{i}"] = nn.Sequential(_conv(before, after, stride=2), _conv(after, after, stride=1))
        self.body = IntermediateLayerGetter(nn.Sequential(layers), {"layer2": "0", "layer3": "1", "layer4": "2"})
        self.fpn = FeaturePyramidNetwork(stages[1:], out_channels)
        self.out_channels = out_channels

    def forward(self, batch: Tensor) -> dict[str, Tensor]:
        """Return the maps "0", "1", "2" (strides 8, 16, 32) of a batch [B, C, H, W], each [B, out_channels, ...]."""
        features: dict[str, Tensor] = self.fpn(self.body(batch))
        return features


def _conv(before: int, after: int, stride: int) -> nn.Sequential:
    layer: nn.Sequential = Conv2dNormActivation(before, after, 3, stride, norm_layer=group_norm)
    return layer
