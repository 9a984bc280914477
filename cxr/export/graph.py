"""A detector as one graph: tensors in, tensors out, no lists of films and no loop over them."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import FCOS, FasterRCNN, RetinaNet
from torchvision.models.detection.ssd import SSD

from cxr.detect.image_head import ImageHead
from cxr.detect.queries import RTDETR
from cxr.detect.transform import STRIDE, PadAndNormalize
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
        detector: in eval mode, with a ``transform`` that pads and normalises and a ``backbone``.
        side: of the canvas in pixels that the graph is made fast for; it takes any.
        channels: of a film.

    Raises ``UnsupportedError`` for a detector of another kind.
    """

    def __init__(self, detector: nn.Module, side: int, channels: int = 1) -> None:
        super().__init__()
        _refuse_unknown(detector)
        transform = detector.get_submodule("transform")
        if not isinstance(transform, PadAndNormalize):
            raise UnsupportedError(f"its transform is {type(transform).__name__}, expected PadAndNormalize")
        self.transform = transform
        self.backbone = detector.get_submodule("backbone")
        head = getattr(detector, "image_head", None)
        self.image_head = head if isinstance(head, ImageHead) else None
        self.side = -(-side // STRIDE) * STRIDE
        self.channels = channels
        self.detections = _detections(detector, self.side)
        holder: Any = detector.roi_heads if isinstance(detector, FasterRCNN) else detector
        self.score_thresh, self.detections_per_img = float(holder.score_thresh), int(holder.detections_per_img)

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
        found = (scores > 0) & (labels != BACKGROUND)
        labels = torch.where(found, labels, torch.zeros_like(labels))
        scores = torch.where(found, scores, torch.zeros_like(scores))
        boxes = torch.where(found[..., None], boxes, torch.zeros_like(boxes))
        finite = _finite(films, *pyramid.values(), *computed, *image)
        scores = torch.where(finite[:, None], scores, torch.full_like(scores, math.nan))
        return boxes, labels, scores, *(logits.sigmoid() for logits in image)


def _finite(*tensors: Tensor) -> Tensor:
    """Return for each film whether tensors [B, …] hold finite numbers only, bool [B]."""
    sums = [values.abs().flatten(1).sum(1) for values in tensors]
    return torch.stack(sums).sum(0) < torch.finfo(torch.float32).max


def _refuse_unknown(detector: nn.Module) -> None:
    if type(detector) is not FasterRCNN and not isinstance(detector, tuple(_ONE_STAGE)):  # one with masks is no such
        known = "FasterRCNN, RetinaNet, FCOS and SSD of torchvision, YOLOv8 and RTDETR of this project"
        raise UnsupportedError(f"{type(detector).__name__} has no graph; those that have are {known}")


def _detections(detector: nn.Module, side: int) -> nn.Module:
    if isinstance(detector, FasterRCNN):
        return TwoStage(detector, _strides(detector, side), side)
    made: nn.Module = next(graph(detector) for kind, graph in _ONE_STAGE.items() if isinstance(detector, kind))
    return made


@torch.no_grad()
def _strides(detector: nn.Module, side: int) -> list[int]:
    """Return canvas pixels a cell of each map that regions are pooled from."""
    channels = len(detector.get_submodule("transform").get_buffer("mean"))
    pyramid = detector.get_submodule("backbone")(torch.zeros(1, channels, side, side))
    pool: Any = detector.get_submodule("roi_heads.box_roi_pool")
    return [side // level.shape[2] for name, level in pyramid.items() if name in pool.featmap_names]
