"""Detectors of other packages in torchvision's contract, made into a ``Detector``."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList

from cxr.detect.detector import Boxes, Detector, Images, Pyramid, Targets, finish
from cxr.learn.weights import read_weights


class Foreign(Detector):
    """A detector of another package.

    In train mode it takes images and targets and returns a dict of losses; in eval mode it takes images and returns a
    list of boxes, labels and scores: torchvision's contract. Its ``transform``, if it has one, is replaced by ours, so
    that films are not resized unseen. Its heads are not known here. So it has no image head, and explain.py can only
    make maps from outside (``cam=drise``).

    Args:
        network: the detector.
        num_classes: findings and background.
    """

    def __init__(self, network: nn.Module, num_classes: int) -> None:
        super().__init__()
        self.network = network
        self.backbone = nn.Identity()
        self.findings = num_classes - 1
        self.image_head = None

    def pyramid(self, images: Images) -> Pyramid:
        """Return the films alone: the network makes its own canvas."""
        return Pyramid(images, ImageList(torch.zeros(0), []), {})

    def losses_of(self, pyramid: Pyramid, targets: Targets) -> dict[str, Tensor]:
        """Return the network's losses.

        Raises ``ValueError`` for a film whose readers did not look for every finding: the network's losses would take
        those findings as absent.
        """
        for target in targets:
            if "labelled" in target and not bool(target["labelled"].all()):
                raise ValueError(
                    "films whose readers did not look for every finding cannot be learnt by a detector of another"
                    " package: its losses would take those findings as absent. Take a model of conf/model/, or leave"
                    " such films out"
                )
        with _choosing_losses(self.network):
            losses: dict[str, Tensor] = self.network(list(pyramid.films), targets)
        return losses

    def boxes_of(self, pyramid: Pyramid) -> list[Boxes]:
        """Return the network's boxes of each film."""
        if self.network.training:
            raise RuntimeError("a detector of another package finds boxes in eval mode only")
        boxes: list[Boxes] = self.network(list(pyramid.films))
        return boxes


def torchvision_detector(
    num_classes: int,
    *,
    builder: Callable[..., nn.Module],
    weights: str | None = None,
    mean: Sequence[float] = (0.485, 0.456, 0.406),
    std: Sequence[float] = (0.229, 0.224, 0.225),
) -> Foreign:
    """Return a detector that ``builder`` makes, called with ``num_classes`` by keyword.

    Args:
        num_classes: findings and background.
        builder: of torchvision or of your own, such as torchvision.models.detection.fasterrcnn_resnet50_fpn. It
            gets the number of classes by keyword: by position it would be taken for weights.
        weights: of the whole detector: a .pth or .ckpt, or None. The builder's arguments may name weights, too.
        mean: of each channel, for films in 0..1.
        std: of each channel, likewise.
    """
    network: Any = builder(num_classes=num_classes)
    detector = Foreign(network, num_classes)
    state = read_weights(weights, None, "")
    finish(detector, num_classes, mean, std, image_head=False, checkpoint_backbone=False, state=state, weights=weights)
    if hasattr(network, "transform"):
        network.transform = detector.transform
    return detector


@contextmanager
def _choosing_losses(network: nn.Module) -> Iterator[None]:
    """Let a network in eval mode take the branch that computes losses, while its layers stay in eval mode.

    torchvision's detectors choose by the ``training`` flag of the modules that hold others. Only those are flipped:
    norm and dropout layers hold no others, so batch statistics are neither used nor updated.
    """
    if network.training:
        yield
        return
    modes = {module: module.training for module in network.modules()}
    for module in modes:
        module.training = next(module.children(), None) is not None
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
