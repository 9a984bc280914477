"""Gradient checkpointing: a backbone that computes its stages a second time instead of keeping what is inside them.

Backpropagation needs the output of every layer. Nearly half of the memory of a training step at 1024 px holds the
outputs inside a ResNet's stages (``benchmarks/memory.py``). Here only what passes from one stage to the next is kept.
A stage is run again when its gradient is computed (Chen 2016, arXiv 1604.06174). Weights keep their names, losses and
gradients their values. The backbones of this project have GroupNorm or frozen statistics and no dropout, so a second
run gives the same as the first and changes no state. In eval mode and without gradients nothing is run twice.
"""
# torchvision types only a part of itself
# mypy: disable-error-code="no-untyped-call"

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.detection.ssdlite import SSDLiteFeatureExtractorMobileNet
from typing_extensions import override


def recompute_stages(backbone: nn.Module) -> None:
    """Make the backbone of a detector recompute its stages in the backward pass of training.

    Raises ``ValueError`` for a backbone whose stages are not known here.
    """
    body: Any = getattr(backbone, "body", None)
    if isinstance(backbone, SSDLiteFeatureExtractorMobileNet):
        backbone.features = nn.Sequential(*map(_sequential, backbone.features.children()))
        backbone.extra = nn.ModuleList(map(_sequential, backbone.extra.children()))
    elif isinstance(body, IntermediateLayerGetter):  # of a ResNet, a MobileNet or the tiny network
        backbone.body = RecomputedBody(body, body.return_layers)
    elif hasattr(body, "set_grad_checkpointing"):  # timm's networks recompute in their own way
        body.set_grad_checkpointing(True)
    else:
        raise ValueError("model.checkpoint_backbone: the stages of this backbone are not known; type false")


class RecomputedSequential(nn.Sequential):
    """Stages in a row; the outputs inside each are computed again in the backward pass."""

    @override
    def forward(self, batch: Tensor) -> Tensor:
        for stage in self:
            batch = _recomputed([stage], batch, self.training)
        return batch


class RecomputedBody(IntermediateLayerGetter):
    """The stages whose maps a feature pyramid reads; outputs inside each are computed again in the backward pass."""

    @override
    def forward(self, batch: Tensor) -> "OrderedDict[str, Tensor]":
        maps: OrderedDict[str, Tensor] = OrderedDict()
        stage: list[nn.Module] = []
        for name, layer in self.items():
            stage.append(layer)
            # A ResNet's stem is four bare layers. They are run again with the stage behind them, because the
            # activation overwrites its input.
            if next(layer.children(), None) is None:
                continue
            batch = _recomputed(stage, batch, self.training)
            stage = []
            if name in self.return_layers:
                maps[self.return_layers[name]] = batch
        return maps


def _sequential(stages: nn.Module) -> RecomputedSequential:
    return RecomputedSequential(*stages.children())


def _recomputed(stage: Sequence[nn.Module], batch: Tensor, training: bool) -> Tensor:
    def compute(batch: Tensor) -> Tensor:
        for layer in stage:
            batch = layer(batch)
        return batch

    if not (training and torch.is_grad_enabled()):
        return compute(batch)
    output: Tensor = checkpoint(compute, batch, use_reentrant=False, preserve_rng_state=False)
    return output
