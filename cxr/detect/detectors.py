"""Builders of detectors in torchvision's contract.

In train mode a detector takes images and targets and returns a dict of losses; in eval mode it takes images and returns
a list of {boxes [M, 4], labels int64 [M], scores [M]}. Images are a list of [1, h, w] float in 0..1 of any sizes, air
dark; boxes are absolute xyxy in the frame of their image, on the way in and on the way out. Nothing is resized, and
only ``mean`` and ``std`` normalise (``PadAndNormalize``).

A target's ``labelled``, bool [K + 1], says which findings its film tells of, class c at c - 1; of others it teaches
nothing: no loss of a class sees them. What proposes regions knows no classes: what is unmarked is background to it.

Arguments the builders share:
    num_classes: findings + background.
    weights: "DEFAULT" (torchvision's COCO weights), the path of a .pth or .ckpt, or None. See ``cxr.learn.weights``.
    trainable_layers: stages of the backbone that learn, counted from the last. Without weights all of them do.
    mean, std: of each channel of the stem, for films in 0..1.
    image_size: longest side in pixels of the films the data set gives, at least 32. It scales the anchors and nothing
        else; the default is the size the anchors were chosen at.
    anchor_sizes: sides (square root of the area) as fractions of ``image_size``, in (0, 2]: a list for each level of
        the pyramid. Fractions, because a finding fills the same part of a film at any size.
    anchor_ratios: height / width. Findings go from flat apical caps (0.2) to tall spines (5).
    rpn_batch_size_per_image, box_batch_size_per_image: anchors and regions a film that the losses are computed on.
    rpn_pre_nms_top_n (a level), rpn_post_nms_top_n (a film): proposals kept before and after suppression.
    score_thresh: detections below are dropped. Low, because AP and FROC read the tail.
    detections_per_img: the best so many are kept.
    focal_gamma: of the classification loss in the box head of Faster R-CNN (``cxr.detect.region_heads``).
    image_head: a classifier of the whole film beside the boxes (``cxr.detect.image_head``).
    checkpoint_backbone: recompute the backbone's stages in the backward pass instead of keeping what is inside them:
        half the memory of a training step at 1024 px, the same gradients (``cxr.detect.recompute``).
"""
# torchvision types a part of itself
# mypy: disable-error-code="no-untyped-call"

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torchvision.models.detection import (
    FCOS,
    FasterRCNN,
    FasterRCNN_MobileNet_V3_Large_FPN_Weights,
    FasterRCNN_ResNet50_FPN_V2_Weights,
    FasterRCNN_ResNet50_FPN_Weights,
    FCOS_ResNet50_FPN_Weights,
    RetinaNet,
    RetinaNet_ResNet50_FPN_Weights,
    SSDLite320_MobileNet_V3_Large_Weights,
)
from torchvision.models.detection._utils import overwrite_eps
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.backbone_utils import _mobilenet_extractor, _resnet_fpn_extractor
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RPNHead
from torchvision.models.detection.ssd import SSD
from torchvision.models.detection.ssdlite import SSDLiteHead
from torchvision.models.detection.ssdlite import _mobilenet_extractor as _ssdlite_extractor
from torchvision.models.mobilenetv3 import mobilenet_v3_large
from torchvision.models.resnet import resnet50
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from cxr.detect.image_head import attach_image_head
from cxr.detect.recompute import recompute_stages
from cxr.detect.region_heads import RegionHeads
from cxr.detect.roi_pool import SeparableRoIAlign, region_pool
from cxr.detect.tiny import TinyFPN
from cxr.detect.told import told_logits
from cxr.detect.transform import PadAndNormalize
from cxr.learn.weights import Norm, State, load_weights, norm_for, read_weights

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
RATIOS = (0.25, 0.5, 1.0, 2.0, 4.0)
THIRDS = (  # of an octave, rounded down to pixels as torchvision does
    (0.03125, 0.0390625, 0.048828125),  # 32, 40, 50 px of 1024
    (0.0625, 0.078125, 0.0986328125),  # 64, 80, 101
    (0.125, 0.1572265625, 0.1982421875),  # 128, 161, 203
    (0.25, 0.314453125, 0.396484375),  # 256, 322, 406
    (0.5, 0.6298828125, 0.79296875),  # 512, 645, 812
)
RESNET_LAYERS = 5
MOBILENET_LAYERS = 6
RESNET_STRIDES = (4, 8, 16, 32)  # of the maps that regions are pooled from
MOBILENET_STRIDES = (32, 32)

Sizes = Sequence[Sequence[float]]
Targets = list[dict[str, Tensor]]
Outputs = dict[str, Tensor]


def fasterrcnn(
    num_classes: int,
    *,
    weights: str | None = None,
    trainable_layers: int = 3,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
    image_size: int = 1024,
    anchor_sizes: Sizes = ((0.03125,), (0.0625,), (0.125,), (0.25,), (0.5,)),
    anchor_ratios: Sequence[float] = RATIOS,
    rpn_batch_size_per_image: int = 256,
    rpn_pre_nms_top_n: int = 1000,
    rpn_post_nms_top_n: int = 300,
    box_batch_size_per_image: int = 64,
    score_thresh: float = 0.01,
    detections_per_img: int = 100,
    focal_gamma: float | None = None,
    image_head: bool = False,
    checkpoint_backbone: bool = False,
) -> nn.Module:
    """Faster R-CNN with a ResNet-50 and a feature pyramid (Ren 2015, Lin 2017)."""
    state = read_weights(weights, FasterRCNN_ResNet50_FPN_Weights.DEFAULT)
    backbone = _resnet_fpn_extractor(resnet50(norm_layer=norm_for(state)), trainable_layers if state else RESNET_LAYERS)
    detector = FasterRCNN(
        backbone,
        num_classes,
        rpn_anchor_generator=_anchors(anchor_sizes, anchor_ratios, image_size),
        box_roi_pool=region_pool(RESNET_STRIDES),
        **_sampling(rpn_batch_size_per_image, rpn_pre_nms_top_n, rpn_post_nms_top_n, box_batch_size_per_image),
        box_score_thresh=score_thresh,
        box_detections_per_img=detections_per_img,
    )
    detector.roi_heads = RegionHeads(cast(RoIHeads, detector.roi_heads), num_classes, focal_gamma)
    return _finished(detector, mean, std, num_classes if image_head else None, checkpoint_backbone, state, weights)


def fasterrcnn_v2(
    num_classes: int,
    *,
    weights: str | None = None,
    trainable_layers: int = 3,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
    image_size: int = 1024,
    anchor_sizes: Sizes = ((0.03125,), (0.0625,), (0.125,), (0.25,), (0.5,)),
    anchor_ratios: Sequence[float] = RATIOS,
    rpn_batch_size_per_image: int = 256,
    rpn_pre_nms_top_n: int = 1000,
    rpn_post_nms_top_n: int = 300,
    box_batch_size_per_image: int = 64,
    score_thresh: float = 0.01,
    detections_per_img: int = 100,
    focal_gamma: float | None = None,
    image_head: bool = False,
    checkpoint_backbone: bool = False,
) -> nn.Module:
    """Faster R-CNN with a ResNet-50, and normalised convolutions in pyramid and box head (arXiv 2111.11429)."""
    state = read_weights(weights, FasterRCNN_ResNet50_FPN_V2_Weights.DEFAULT)
    norm = norm_for(state)
    backbone = _resnet_fpn_extractor(
        resnet50(norm_layer=norm), trainable_layers if state else RESNET_LAYERS, norm_layer=norm
    )
    channels = backbone.out_channels
    detector = FasterRCNN(
        backbone,
        num_classes,
        rpn_anchor_generator=_anchors(anchor_sizes, anchor_ratios, image_size),
        box_roi_pool=region_pool(RESNET_STRIDES),
        rpn_head=RPNHead(channels, len(anchor_sizes[0]) * len(anchor_ratios), conv_depth=2),
        box_head=FastRCNNConvFCHead((channels, 7, 7), [channels] * 4, [1024], norm_layer=norm),
        **_sampling(rpn_batch_size_per_image, rpn_pre_nms_top_n, rpn_post_nms_top_n, box_batch_size_per_image),
        box_score_thresh=score_thresh,
        box_detections_per_img=detections_per_img,
    )
    detector.roi_heads = RegionHeads(cast(RoIHeads, detector.roi_heads), num_classes, focal_gamma)
    return _finished(detector, mean, std, num_classes if image_head else None, checkpoint_backbone, state, weights)


def fasterrcnn_mobilenet(
    num_classes: int,
    *,
    weights: str | None = None,
    trainable_layers: int = 3,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
    image_size: int = 1024,
    anchor_sizes: Sizes = ((0.03125, 0.0625, 0.125, 0.25, 0.5),) * 3,
    anchor_ratios: Sequence[float] = RATIOS,
    rpn_batch_size_per_image: int = 256,
    rpn_pre_nms_top_n: int = 500,
    rpn_post_nms_top_n: int = 200,
    box_batch_size_per_image: int = 64,
    score_thresh: float = 0.01,
    detections_per_img: int = 100,
    focal_gamma: float | None = None,
    image_head: bool = False,
    checkpoint_backbone: bool = False,
) -> nn.Module:
    """Faster R-CNN with a MobileNetV3-Large and a feature pyramid on strides 32, 32 and 64 (Howard 2019)."""
    state = read_weights(weights, FasterRCNN_MobileNet_V3_Large_FPN_Weights.DEFAULT)
    network = mobilenet_v3_large(norm_layer=norm_for(state))
    detector = FasterRCNN(
        _mobilenet_extractor(network, True, trainable_layers if state else MOBILENET_LAYERS),
        num_classes,
        rpn_anchor_generator=_anchors(anchor_sizes, anchor_ratios, image_size),
        box_roi_pool=region_pool(MOBILENET_STRIDES),
        **_sampling(rpn_batch_size_per_image, rpn_pre_nms_top_n, rpn_post_nms_top_n, box_batch_size_per_image),
        box_score_thresh=score_thresh,
        box_detections_per_img=detections_per_img,
    )
    detector.roi_heads = RegionHeads(cast(RoIHeads, detector.roi_heads), num_classes, focal_gamma)
    return _finished(detector, mean, std, num_classes if image_head else None, checkpoint_backbone, state, weights)


def fasterrcnn_tiny(
    num_classes: int,
    *,
    weights: str | None = None,
    mean: Sequence[float] = (0.5,),
    std: Sequence[float] = (0.25,),
    image_size: int = 256,
    anchor_sizes: Sizes = ((0.0625, 0.09375), (0.15625, 0.25), (0.40625, 0.65625)),
    anchor_ratios: Sequence[float] = RATIOS,
    rpn_batch_size_per_image: int = 128,
    rpn_pre_nms_top_n: int = 200,
    rpn_post_nms_top_n: int = 100,
    box_batch_size_per_image: int = 64,
    box_head_size: int = 256,
    score_thresh: float = 0.01,
    detections_per_img: int = 100,
    focal_gamma: float | None = None,
    image_head: bool = False,
    checkpoint_backbone: bool = False,
) -> nn.Module:
    """Faster R-CNN with a compact GroupNorm backbone that learns from random numbers in minutes on two cores.

    torchvision has no ``"DEFAULT"`` weights for it. ``box_head_size`` is the width of the two layers between a pooled
    region and its class and box.
    """
    state = read_weights(weights, None)
    backbone = TinyFPN(in_channels=len(mean))
    pool = SeparableRoIAlign(strides=(8, 16, 32))
    detector = FasterRCNN(
        backbone,
        rpn_anchor_generator=_anchors(anchor_sizes, anchor_ratios, image_size),
        box_roi_pool=pool,
        box_head=TwoMLPHead(backbone.out_channels * pool.output_size[0] ** 2, box_head_size),
        box_predictor=FastRCNNPredictor(box_head_size, num_classes),
        **_sampling(rpn_batch_size_per_image, rpn_pre_nms_top_n, rpn_post_nms_top_n, box_batch_size_per_image),
        box_score_thresh=score_thresh,
        box_detections_per_img=detections_per_img,
    )
    detector.roi_heads = RegionHeads(cast(RoIHeads, detector.roi_heads), num_classes, focal_gamma)
    return _finished(detector, mean, std, num_classes if image_head else None, checkpoint_backbone, state, weights)


def retinanet(
    num_classes: int,
    *,
    weights: str | None = None,
    trainable_layers: int = 3,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
    image_size: int = 1024,
    anchor_sizes: Sizes = THIRDS,
    anchor_ratios: Sequence[float] = RATIOS,
    score_thresh: float = 0.05,
    detections_per_img: int = 100,
    image_head: bool = False,
    checkpoint_backbone: bool = False,
) -> nn.Module:
    """RetinaNet with a ResNet-50 and a feature pyramid on strides 8 to 128: every anchor, focal loss (Lin 2017)."""
    state = read_weights(weights, RetinaNet_ResNet50_FPN_Weights.DEFAULT)
    detector = _RetinaNet(
        _resnet_fpn_p3_p7(norm_for(state), trainable_layers if state else RESNET_LAYERS),
        num_classes,
        anchor_generator=_anchors(anchor_sizes, anchor_ratios, image_size),
        score_thresh=score_thresh,
        detections_per_img=detections_per_img,
    )
    return _finished(detector, mean, std, num_classes if image_head else None, checkpoint_backbone, state, weights)


def fcos(
    num_classes: int,
    *,
    weights: str | None = None,
    trainable_layers: int = 3,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
    center_sampling_radius: float = 1.5,
    score_thresh: float = 0.01,
    detections_per_img: int = 100,
    image_head: bool = False,
    checkpoint_backbone: bool = False,
) -> nn.Module:
    """FCOS with a ResNet-50 and a feature pyramid on strides 8 to 128: no anchors, so no ratios to choose (Tian 2019).

    A cell learns a box whose centre is at most ``center_sampling_radius`` strides away.
    """
    state = read_weights(weights, FCOS_ResNet50_FPN_Weights.DEFAULT)
    detector = _FCOS(
        _resnet_fpn_p3_p7(norm_for(state), trainable_layers if state else RESNET_LAYERS),
        num_classes,
        center_sampling_radius=center_sampling_radius,
        score_thresh=score_thresh,
        detections_per_img=detections_per_img,
    )
    return _finished(detector, mean, std, num_classes if image_head else None, checkpoint_backbone, state, weights)


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
) -> nn.Module:
    """SSDlite with a MobileNetV3-Large (Sandler 2018, Howard 2019), without torchvision's resize to 320 × 320.

    Its anchors are fractions (0.2 to 0.95) of the padded film, so they fit a film of any size. Each of its
    ``anchor_ratios`` stands for itself and its inverse; 1 is always there.
    """
    state = read_weights(weights, SSDLite320_MobileNet_V3_Large_Weights.DEFAULT)
    norm = norm_for(state)
    network = mobilenet_v3_large(norm_layer=norm, reduced_tail=True)
    backbone = _ssdlite_extractor(network, trainable_layers if state else MOBILENET_LAYERS, norm)
    anchors = DefaultBoxGenerator([list(anchor_ratios)] * 6, min_ratio=0.2, max_ratio=0.95)
    channels = [672, 480, 512, 256, 256, 128]
    detector = _SSD(
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
    overwrite_eps(detector, 0.001)  # of the normalisation the COCO weights were trained with; touches frozen ones only
    return _finished(detector, mean, std, num_classes if image_head else None, checkpoint_backbone, state, weights)


class _RetinaNet(RetinaNet):
    """torchvision's, whose class loss sees only what a film tells of."""

    def compute_loss(self, targets: Targets, head_outputs: Outputs, anchors: list[Tensor]) -> Outputs:
        return super().compute_loss(targets, _told(targets, head_outputs), anchors)


class _FCOS(FCOS):
    """torchvision's, whose class loss sees only what a film tells of."""

    def compute_loss(
        self, targets: Targets, head_outputs: Outputs, anchors: list[Tensor], num_anchors_per_level: list[int]
    ) -> Outputs:
        return super().compute_loss(targets, _told(targets, head_outputs), anchors, num_anchors_per_level)


class _SSD(SSD):
    """torchvision's, whose class loss sees only what a film tells of."""

    def compute_loss(
        self, targets: Targets, head_outputs: Outputs, anchors: list[Tensor], matched_idxs: list[Tensor]
    ) -> Outputs:
        return super().compute_loss(targets, _told(targets, head_outputs), anchors, matched_idxs)


def _told(targets: Targets, head_outputs: Outputs) -> Outputs:
    return {**head_outputs, "cls_logits": told_logits(head_outputs["cls_logits"], targets)}


def _resnet_fpn_p3_p7(norm: Norm, trainable_layers: int) -> nn.Module:
    """Return a ResNet-50 with pyramid levels P3 to P7: P2 would give single-stage detectors too many anchors."""
    network = resnet50(norm_layer=norm)
    backbone: nn.Module = _resnet_fpn_extractor(
        network, trainable_layers, returned_layers=[2, 3, 4], extra_blocks=LastLevelP6P7(256, 256)
    )
    return backbone


def _anchors(sizes: Sizes, ratios: Sequence[float], image_size: int) -> AnchorGenerator:
    if image_size < 32:
        raise ValueError(f"image_size is {image_size}, allowed are 32 pixels and more")
    if wrong := [size for level in sizes for size in level if not 0 < size <= 2]:
        raise ValueError(f"anchor_sizes holds {wrong}, allowed are fractions of image_size in (0, 2], not pixels")
    pixels = tuple(tuple(size * image_size for size in level) for level in sizes)
    return AnchorGenerator(pixels, (tuple(ratios),) * len(sizes))


def _sampling(rpn_batch: int, pre_nms: int, post_nms: int, box_batch: int) -> dict[str, Any]:
    return {
        "rpn_batch_size_per_image": rpn_batch,
        "rpn_pre_nms_top_n_train": pre_nms,
        "rpn_pre_nms_top_n_test": pre_nms,
        "rpn_post_nms_top_n_train": post_nms,
        "rpn_post_nms_top_n_test": post_nms,
        "box_batch_size_per_image": box_batch,
    }


def _finished(
    detector: nn.Module,
    mean: Sequence[float],
    std: Sequence[float],
    image_classes: int | None,
    checkpoint_backbone: bool,
    state: State | None,
    weights: str | None,
) -> nn.Module:
    detector.transform = PadAndNormalize(mean, std)
    if image_classes is not None:
        attach_image_head(detector, image_classes)
    if checkpoint_backbone:
        recompute_stages(detector.get_submodule("backbone"))
    load_weights(detector, state, weights)
    return detector.to(memory_format=torch.channels_last)  # 1.1 to 1.3 times the speed on CPU and on tensor cores
