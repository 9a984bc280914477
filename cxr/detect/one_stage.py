"""torchvision's single-stage detectors: every cell of a pyramid is classified."""
# torchvision types only a part of itself, and its classes have another forward and transform than ours
# mypy: disable-error-code="no-untyped-call, misc"

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torchvision.models.detection import (
    FCOS,
    FCOS_ResNet50_FPN_Weights,
    RetinaNet,
    RetinaNet_ResNet50_FPN_Weights,
    SSDLite320_MobileNet_V3_Large_Weights,
)
from torchvision.models.detection._utils import overwrite_eps
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.ssd import SSD
from torchvision.models.detection.ssdlite import SSDLiteHead, _mobilenet_extractor
from torchvision.models.mobilenetv3 import mobilenet_v3_large
from torchvision.ops import box_iou

from cxr.detect.anchors import Anchors
from cxr.detect.backbones import Backbone, FeaturePyramid, fit_channels
from cxr.detect.detector import Boxes, Detector, Pyramid, Targets, finish
from cxr.detect.heads import FcosHeads, Heads, RetinaHeads, SsdHeads
from cxr.detect.labelled import labelled_logits
from cxr.learn.weights import norm_for, read_weights

MOBILENET_LAYERS = 6
_FRESH = ("head.classification_head.", "head.regression_head.")


class DenseDetector(Detector):
    """The part that RetinaNet and FCOS share: a head that reads each level, and anchors on its cells."""

    fresh: ClassVar[tuple[str, ...]] = _FRESH

    def boxes_of(self, pyramid: Pyramid) -> list[Boxes]:
        """Return the boxes of each film."""
        parts: Any = self  # subclasses inherit from a class of torchvision, too
        maps = list(pyramid.maps.values())
        outputs, anchors = parts.head(maps), parts.anchor_generator(pyramid.images, maps)
        cells = [level.shape[2] * level.shape[3] for level in maps]
        each = outputs["cls_logits"].shape[1] // sum(cells)
        counts = [each * count for count in cells]
        by_level = {name: list(values.split(counts, dim=1)) for name, values in outputs.items()}
        of_film = [list(some.split(counts)) for some in anchors]
        boxes: list[Boxes] = parts.postprocess_detections(by_level, of_film, pyramid.images.image_sizes)
        return boxes


class Retina(DenseDetector, RetinaNet):
    """RetinaNet (Lin 2017): every anchor counts in the loss."""

    def heads(self) -> Heads:
        """Return what stands behind the pyramid."""
        return RetinaHeads(self)

    def losses_of(self, pyramid: Pyramid, targets: Targets) -> dict[str, Tensor]:
        """Return classification and bbox_regression."""
        outputs, anchors = _read(self, pyramid, targets)
        losses: dict[str, Tensor] = self.compute_loss(targets, outputs, anchors)
        return losses


class Fcos(DenseDetector, FCOS):
    """FCOS (Tian 2019): it has no anchors, so there are no sizes and ratios to choose."""

    def heads(self) -> Heads:
        """Return what stands behind the pyramid."""
        return FcosHeads(self)

    def losses_of(self, pyramid: Pyramid, targets: Targets) -> dict[str, Tensor]:
        """Return classification, bbox_regression and bbox_ctrness."""
        outputs, anchors = _read(self, pyramid, targets)
        cells = [level.shape[2] * level.shape[3] for level in pyramid.maps.values()]
        losses: dict[str, Tensor] = self.compute_loss(targets, outputs, anchors, cells)
        return losses


class Ssd(Detector, SSD):
    """SSD (Liu 2016) with the light head of SSDlite."""

    fresh: ClassVar[tuple[str, ...]] = _FRESH

    def heads(self) -> Heads:
        """Return what stands behind the pyramid."""
        return SsdHeads(self)

    def losses_of(self, pyramid: Pyramid, targets: Targets) -> dict[str, Tensor]:
        """Return classification and bbox_regression."""
        outputs, anchors = _read(self, pyramid, targets)
        matched = [self._matched(boxes, target["boxes"]) for boxes, target in zip(anchors, targets, strict=True)]
        losses: dict[str, Tensor] = self.compute_loss(targets, outputs, anchors, matched)
        return losses

    def boxes_of(self, pyramid: Pyramid) -> list[Boxes]:
        """Return the boxes of each film."""
        maps = list(pyramid.maps.values())
        anchors = self.anchor_generator(pyramid.images, maps)
        boxes: list[Boxes] = self.postprocess_detections(self.head(maps), anchors, pyramid.images.image_sizes)
        return boxes

    def _matched(self, anchors: Tensor, boxes: Tensor) -> Tensor:
        """Return the index int64 [A] of the film's box that each anchor learns, -1 for none."""
        if not len(boxes):
            return anchors.new_full((len(anchors),), -1, dtype=torch.int64)
        matched: Tensor = self.proposal_matcher(box_iou(boxes, anchors))
        return matched


def _read(detector: Any, pyramid: Pyramid, targets: Targets) -> tuple[dict[str, Tensor], list[Tensor]]:
    """Return the head's output for each anchor, and the anchors. Class scores of unknown findings are hidden."""
    maps = list(pyramid.maps.values())
    outputs = detector.head(maps)
    outputs["cls_logits"] = labelled_logits(outputs["cls_logits"], targets)
    return outputs, detector.anchor_generator(pyramid.images, maps)


def retinanet(
    num_classes: int,
    *,
    backbone: Callable[..., Backbone],
    pyramid: Callable[..., FeaturePyramid],
    anchors: Anchors,
    weights: str | None = None,
    score_thresh: float = 0.05,
    detections_per_img: int = 100,
    image_head: bool = False,
    checkpoint_backbone: bool = False,
) -> Retina:
    """Return a RetinaNet of these parts; the arguments are those of ``cxr.detect.faster_rcnn.faster_rcnn``.

    ``weights="DEFAULT"`` are torchvision's COCO weights with a ResNet-50.
    """
    state = read_weights(weights, RetinaNet_ResNet50_FPN_Weights.DEFAULT)
    joined = pyramid(backbone, state)
    generator = anchors.generator(joined.levels)
    kept = {"score_thresh": score_thresh, "detections_per_img": detections_per_img}
    detector = Retina(joined, num_classes, anchor_generator=generator, **kept)
    finish(detector, num_classes, joined.mean, joined.std, image_head, checkpoint_backbone, state, weights)
    return detector


def fcos(
    num_classes: int,
    *,
    backbone: Callable[..., Backbone],
    pyramid: Callable[..., FeaturePyramid],
    weights: str | None = None,
    center_sampling_radius: float = 1.5,
    score_thresh: float = 0.01,
    detections_per_img: int = 100,
    image_head: bool = False,
    checkpoint_backbone: bool = False,
) -> Fcos:
    """Return an FCOS of these parts; the arguments are those of ``cxr.detect.faster_rcnn.faster_rcnn``.

    A cell learns a box whose centre is at most ``center_sampling_radius`` strides away. ``weights="DEFAULT"`` are
    torchvision's COCO weights with a ResNet-50.
    """
    state = read_weights(weights, FCOS_ResNet50_FPN_Weights.DEFAULT)
    joined = pyramid(backbone, state)
    points = AnchorGenerator(tuple((level.stride,) for level in joined.levels), ((1.0,),) * len(joined.levels))
    detector = Fcos(
        joined,
        num_classes,
        anchor_generator=points,
        center_sampling_radius=center_sampling_radius,
        score_thresh=score_thresh,
        detections_per_img=detections_per_img,
    )
    finish(detector, num_classes, joined.mean, joined.std, image_head, checkpoint_backbone, state, weights)
    return detector


class _InFloat32(nn.Sequential):
    """Layers that compute in float32 always: those of SSDlite's coarsest maps, which are one cell on 256 px.

    Of such a map oneDNN's bfloat16 (torch 2.15) returns a gradient of the weights that was never computed.
    """

    def forward(self, maps: Tensor) -> Tensor:
        """Return what the layers make of a map."""
        with torch.autocast(maps.device.type, enabled=False):
            made: Tensor = super().forward(maps.float())
        return made


def ssdlite(
    num_classes: int,
    *,
    weights: str | None = None,
    trainable_layers: int = MOBILENET_LAYERS,
    mean: Sequence[float] = (0.5, 0.5, 0.5),
    std: Sequence[float] = (0.5, 0.5, 0.5),
    anchor_ratios: Sequence[int] = (2, 3, 5),
    score_thresh: float = 0.01,
    detections_per_img: int = 100,
    image_head: bool = False,
    checkpoint_backbone: bool = False,
) -> Ssd:
    """Return an SSDlite with a MobileNetV3-Large (Sandler 2018, Howard 2019) that resizes no film to 320 × 320.

    Its maps are not a pyramid, and its backbone cannot be exchanged. Its anchors are fractions (0.2 to 0.95) of the
    padded film, so they fit a film of any size. Each of its ``anchor_ratios`` stands for itself and its inverse; 1 is
    always there.

    Args:
        num_classes: findings and background.
        weights: "DEFAULT" (torchvision's COCO weights), a .pth or .ckpt, or None.
        trainable_layers: stages of the backbone that learn, counted from the last. Without weights all of them do.
        mean: of each channel of the stem, for films in 0..1.
        std: of each channel, likewise.
        anchor_ratios: height / width.
        score_thresh: detections below are dropped.
        detections_per_img: the best so many are kept.
        image_head: a classifier of the whole film beside the boxes (``cxr.detect.image_head``).
        checkpoint_backbone: recompute the backbone's stages in the backward pass (``cxr.detect.recompute``).
    """
    state = read_weights(weights, SSDLite320_MobileNet_V3_Large_Weights.DEFAULT)
    norm = norm_for(state)
    network = mobilenet_v3_large(norm_layer=norm, reduced_tail=True)
    network.features[0][0] = fit_channels(network.features[0][0], len(mean))
    # private, as in torchvision 0.21 to 0.29: there is no public way to the layers that SSDlite reads
    backbone = _mobilenet_extractor(network, trainable_layers if state else MOBILENET_LAYERS, norm)
    backbone.extra = nn.ModuleList(_InFloat32(*layers) for layers in backbone.extra)
    anchors = DefaultBoxGenerator([list(anchor_ratios)] * 6, min_ratio=0.2, max_ratio=0.95)
    channels = [672, 480, 512, 256, 256, 128]
    detector = Ssd(
        backbone,
        anchors,
        (320, 320),  # torchvision's resize, which PadAndNormalize replaces
        num_classes,
        head=SSDLiteHead(channels, anchors.num_anchors_per_location(), num_classes, norm),
        score_thresh=score_thresh,
        nms_thresh=0.55,
        detections_per_img=detections_per_img,
        topk_candidates=300,
    )
    overwrite_eps(detector, 0.001)  # as the COCO weights were trained with; changes frozen layers only
    finish(detector, num_classes, mean, std, image_head, checkpoint_backbone, state, weights)
    return detector
