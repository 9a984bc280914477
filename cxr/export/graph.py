"""A detector as one graph: tensors in, tensors out, no lists of films and no loop over them."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import FCOS, RetinaNet
from torchvision.models.detection.ssd import SSD

from cxr.detect.detector import Detector
from cxr.detect.faster_rcnn import FasterRCNN
from cxr.detect.queries import RTDETR
from cxr.detect.transform import STRIDE
from cxr.detect.yolo import YOLOv8
from cxr.export.one_stage import Fcos, Queries, Retina, Ssd, Yolo
from cxr.export.two_stage import TwoStage
from cxr.findings import BACKGROUND

OUTPUTS = ("boxes", "labels", "scores")
IMAGE_OUTPUT = "image_scores"  # behind these where the detector has an image head

_ONE_STAGE: dict[type[nn.Module], Any] = {RetinaNet: Retina, FCOS: Fcos, SSD: Ssd, YOLOv8: Yolo, RTDETR: Queries}


class UnsupportedError(ValueError):
    """A detector of a kind that has no graph."""


class Graph(nn.Module):
    """What a trained detector computes, from pixels to boxes, for a batch of films on square canvases.

    The network's own layers, and around them what torchvision does film by film, written for whole batches. In
    PyTorch it gives what the detector gives, and exporters can follow it, whatever the batch and the canvas.

    Args:
        detector: in eval mode.
        side: of the canvas in pixels that the graph is made fast for; it takes any.
        channels: of a film.

    Raises ``UnsupportedError`` for a detector of another kind.
    """

    def __init__(self, detector: Detector, side: int, channels: int = 1) -> None:
        super().__init__()
        _refuse_unknown(detector)
        self.transform = detector.transform
        self.backbone = detector.backbone
        self.image_head = detector.image_head
        self.side = -(-side // STRIDE) * STRIDE
        self.channels = channels
        self.detections = _detections(detector, self.side)
        kept: Any = detector  # every kind that has a graph has these two
        self.score_thresh, self.detections_per_img = float(kept.score_thresh), int(kept.detections_per_img)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of what it returns, in order."""
        return OUTPUTS if self.image_head is None else (*OUTPUTS, IMAGE_OUTPUT)

    def forward(self, films: Tensor, sizes: Tensor) -> tuple[Tensor, ...]:
        """Return boxes [B, D, 4], labels int64 [B, D], scores [B, D] and, with an image head, image_scores [B, K + 1].

        Args:
            films: [B, C, S, S] float32 in 0..1, each film at the canvas's upper left and 0, air, around it. S is a
                multiple of 32; where C is 1 and the stem has more channels, the film is repeated.
            sizes: int64 [B, 2], height and width of each film in pixels.

        Boxes are xyxy in pixels of the canvas, within their film, the strongest first. Label 0 and score 0 stand where
        a film has fewer than D detections, and in place of what a single-stage detector calls background.
        ``image_scores`` are 0..1: of each finding in the order of its class, and of any at last. All scores of a film
        are NaN where its pixels, or what backbone and heads make of them, are not finite: boxes are chosen by
        comparisons, NaN fails each of them, and such a film would look like one without findings.
        """
        pyramid = self.backbone((films - self.transform.mean) / self.transform.std)
        boxes, labels, scores, computed = self.detections(pyramid, sizes, films.shape[2])
        image = [] if self.image_head is None else [self.image_head(pyramid)]
        present = (scores > 0) & (labels != BACKGROUND)
        labels = torch.where(present, labels, torch.zeros_like(labels))
        scores = torch.where(present, scores, torch.zeros_like(scores))
        boxes = torch.where(present[..., None], boxes, torch.zeros_like(boxes))
        finite = _finite(films, *pyramid.values(), *computed, *image)
        scores = torch.where(finite[:, None], scores, torch.full_like(scores, math.nan))
        return boxes, labels, scores, *(logits.sigmoid() for logits in image)


def _finite(*tensors: Tensor) -> Tensor:
    """Return for each film whether tensors [B, …] hold finite numbers only, bool [B]."""
    sums = [values.abs().flatten(1).sum(1) for values in tensors]
    return torch.stack(sums).sum(0) < torch.finfo(torch.float32).max


def _refuse_unknown(detector: nn.Module) -> None:
    if not isinstance(detector, (FasterRCNN, *_ONE_STAGE)):
        known = "Faster R-CNN, RetinaNet, FCOS, SSDlite, YOLOv8 and RT-DETR of this project"
        raise UnsupportedError(f"{type(detector).__name__} has no graph; those that have are {known}")


def _detections(detector: nn.Module, side: int) -> nn.Module:
    if isinstance(detector, FasterRCNN):
        return TwoStage(detector, side)
    made: nn.Module = next(graph(detector) for kind, graph in _ONE_STAGE.items() if isinstance(detector, kind))
    return made
