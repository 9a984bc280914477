"""Faster R-CNN (Ren 2015): a network proposes regions, and a head finds the class and the borders of each."""
# torchvision types only a part of itself
# mypy: disable-error-code="no-untyped-call"

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor, nn
from torchvision.models._api import get_weight
from torchvision.models.detection.faster_rcnn import (
    FastRCNNConvFCHead,
    FastRCNNPredictor,
    TwoMLPHead,
)
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead, concat_box_prediction_layers
from torchvision.ops import MultiScaleRoIAlign

from cxr.detect.anchors import Anchors
from cxr.detect.backbones import Backbone, FeaturePyramid
from cxr.detect.detector import Boxes, Detector, Pyramid, Targets, finish
from cxr.detect.heads import Heads, PooledHeads
from cxr.detect.region_heads import RegionHeads
from cxr.detect.roi_pool import SeparableRoIAlign, region_pool
from cxr.learn.weights import State, norm_for, read_weights


@dataclass(frozen=True)
class Proposals:
    """How regions are proposed.

    Args:
        batch_size: anchors of a film that the losses are computed on.
        pre_nms_top_n: proposals of a level that are kept before suppression.
        post_nms_top_n: proposals of a film that are kept after it.
        depth: convolutions in front of the scores.
    """

    batch_size: int = 256
    pre_nms_top_n: int = 1000
    post_nms_top_n: int = 300
    depth: int = 1


@dataclass(frozen=True)
class Regions:
    """How regions are classified.

    Args:
        batch_size: regions of a film that the losses are computed on. torchvision's 512 take most of the time and are
            too many for a few findings.
        pool: "torchvision", or "separable": the same numbers, faster on small maps (``SeparableRoIAlign``).
        head: "linear", two layers (Ren 2015), or "convolutions", four of them and a layer, normalised
            (arXiv 2111.11429).
        width: of the layers behind a pooled region.
        focal_gamma: of the focal loss of a region's class (``RegionHeads``); None: cross-entropy.
    """

    batch_size: int = 64
    pool: Literal["torchvision", "separable"] = "torchvision"
    head: Literal["linear", "convolutions"] = "linear"
    width: int = 1024
    focal_gamma: float | None = None


class FasterRCNN(Detector):
    """A detector of a pyramid, proposals and regions. Its layers have torchvision's names, so that its weights fit.

    Args:
        backbone: gives the pyramid.
        rpn: proposes regions.
        roi_heads: classify the regions.
    """

    fresh: ClassVar[tuple[str, ...]] = ("roi_heads.box_predictor.", "rpn.head.cls_logits.", "rpn.head.bbox_pred.")

    def __init__(self, backbone: FeaturePyramid, rpn: "ProposalNetwork", roi_heads: RegionHeads) -> None:
        super().__init__()
        self.backbone: FeaturePyramid = backbone
        self.rpn = rpn
        self.roi_heads = roi_heads

    @property
    def score_thresh(self) -> float:
        """Detections below it are dropped."""
        return float(self.roi_heads.score_thresh)

    @property
    def detections_per_img(self) -> int:
        """The best so many of a film are kept."""
        return int(self.roi_heads.detections_per_img)

    def heads(self) -> Heads:
        """Return the heads behind the pyramid."""
        return PooledHeads(self)

    def losses_of(self, pyramid: Pyramid, targets: Targets) -> dict[str, Tensor]:
        """Return loss_classifier, loss_box_reg, loss_objectness and loss_rpn_box_reg."""
        proposals, of_proposals = self.rpn(pyramid.images, pyramid.maps, targets)
        of_regions = self.roi_heads.losses(pyramid.maps, proposals, pyramid.images.image_sizes, targets)
        return {**of_regions, **of_proposals}

    def boxes_of(self, pyramid: Pyramid) -> list[Boxes]:
        """Return the boxes of each film."""
        proposals, _ = self.rpn(pyramid.images, pyramid.maps)
        return self.roi_heads.boxes(pyramid.maps, proposals, pyramid.images.image_sizes)


class ProposalNetwork(RegionProposalNetwork):
    """torchvision's proposal network, but targets and not the mode decide whether losses are computed."""

    def forward(
        self, images: ImageList, features: dict[str, Tensor], targets: Targets | None = None
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Return the regions [R, 4] of each film, without gradient, and {loss_objectness, loss_rpn_box_reg}."""
        maps = list(features.values())
        objectness, moves = self.head(maps)
        anchors = self.anchor_generator(images, maps)
        counts = [scores.shape[1] * scores.shape[2] * scores.shape[3] for scores in objectness]
        objectness, moves = concat_box_prediction_layers(objectness, moves)
        regions = self.box_coder.decode(moves.detach(), anchors).view(len(anchors), -1, 4)
        proposals, _ = self.filter_proposals(regions, objectness, images.image_sizes, counts)
        if targets is None:
            return proposals, {}
        labels, boxes = self.assign_targets_to_anchors(anchors, targets)
        wanted = self.box_coder.encode(boxes, anchors)
        loss_objectness, loss_box = self.compute_loss(objectness, moves, labels, wanted)
        return proposals, {"loss_objectness": loss_objectness, "loss_rpn_box_reg": loss_box}


def faster_rcnn(
    num_classes: int,
    *,
    backbone: Callable[..., Backbone],
    pyramid: Callable[..., FeaturePyramid],
    anchors: Anchors,
    proposals: Proposals,
    regions: Regions,
    weights: str | None = None,
    published: str | None = None,
    score_thresh: float = 0.01,
    detections_per_img: int = 100,
    image_head: bool = False,
    checkpoint_backbone: bool = False,
) -> FasterRCNN:
    """Return a Faster R-CNN of these parts.

    Args:
        num_classes: findings and background.
        backbone: builder of the backbone (``cxr.detect.backbones``).
        pyramid: joins the backbone's maps.
        anchors: the boxes that proposals begin with.
        proposals: how regions are proposed.
        regions: how regions are classified.
        weights: of the whole detector: "DEFAULT", a .pth or .ckpt, or None.
        published: what "DEFAULT" means: the name of COCO weights of torchvision for these parts, or None.
        score_thresh: detections below are dropped.
        detections_per_img: the best so many are kept.
        image_head: a classifier of the whole film beside the boxes (``cxr.detect.image_head``).
        checkpoint_backbone: recompute the backbone's stages in the backward pass (``cxr.detect.recompute``).

    Raises:
        ValueError: parts that do not fit each other.
        WeightsError: weights that cannot be had, or do not fit.
    """
    state = read_weights(weights, get_weight(published) if published else None)
    joined = pyramid(backbone, state)
    roi_heads = _region_heads(num_classes, joined, regions, state, score_thresh, detections_per_img)
    detector = FasterRCNN(joined, _proposal_network(joined, anchors, proposals), roi_heads)
    shared = (image_head, checkpoint_backbone, state, weights)
    finish(detector, num_classes, joined.mean, joined.std, *shared)
    return detector


def _proposal_network(pyramid: FeaturePyramid, anchors: Anchors, proposals: Proposals) -> ProposalNetwork:
    head = RPNHead(pyramid.out_channels, anchors.per_cell, conv_depth=proposals.depth)
    top_n = [{"training": n, "testing": n} for n in (proposals.pre_nms_top_n, proposals.post_nms_top_n)]
    thresholds = {"fg_iou_thresh": 0.7, "bg_iou_thresh": 0.3, "nms_thresh": 0.7}  # the values of the paper
    return ProposalNetwork(
        anchors.generator(pyramid.levels),
        head,
        batch_size_per_image=proposals.batch_size,
        positive_fraction=0.5,
        pre_nms_top_n=top_n[0],
        post_nms_top_n=top_n[1],
        **thresholds,
    )


def _region_heads(
    num_classes: int,
    pyramid: FeaturePyramid,
    regions: Regions,
    state: State | None,
    score_thresh: float,
    detections_per_img: int,
) -> RegionHeads:
    strides = [level.stride for level in pyramid.pooled]
    pool: MultiScaleRoIAlign
    pool = SeparableRoIAlign(strides) if regions.pool == "separable" else region_pool(strides)
    channels, bins = pyramid.out_channels, pool.output_size[0]
    head: nn.Module
    if regions.head == "linear":
        head = TwoMLPHead(channels * bins**2, regions.width)
    else:
        norm: Any = norm_for(state)
        head = FastRCNNConvFCHead((channels, bins, bins), [channels] * 4, [regions.width], norm_layer=norm)
    predictor = FastRCNNPredictor(regions.width, num_classes)
    return RegionHeads(
        num_classes, pool, head, predictor, regions.batch_size, score_thresh, detections_per_img, regions.focal_gamma
    )
