"""torchvision's box head with a loss for rare findings and for films whose readers did not look for every finding."""
# torchvision types only a part of itself
# mypy: disable-error-code="no-untyped-call"

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torchvision.models.detection.roi_heads import RoIHeads, fastrcnn_loss
from torchvision.ops import MultiScaleRoIAlign

from cxr.detect.labelled import labelled_logits
from cxr.findings import BACKGROUND

Targets = list[dict[str, Tensor]]
Sizes = list[tuple[int, int]]


class RegionHeads(RoIHeads):
    """The box head of Faster R-CNN, with other losses for the class of a region.

    Args:
        num_classes: findings + background.
        pool: pools regions from the pyramid.
        head: turns a pooled region into a vector.
        predictor: turns a vector into scores and a box.
        batch_size: regions of a film that the losses are computed on, at most a quarter of them with a finding.
        score_thresh: detections below are dropped.
        detections_per_img: the best so many are kept.
        focal_gamma: exponent of the focal loss (Lin 2017, over a softmax). A region whose true class has probability p
            counts (1 - p)^gamma times, and the sum is divided by the regions with a finding. None: cross-entropy.

    Attributes:
        class_weights: [K + 1], how much a region counts by its true class; 1 each unless the task sets them.
    """

    class_weights: Tensor

    def __init__(
        self,
        num_classes: int,
        pool: MultiScaleRoIAlign,
        head: nn.Module,
        predictor: nn.Module,
        batch_size: int,
        score_thresh: float,
        detections_per_img: int,
        focal_gamma: float | None = None,
    ) -> None:
        if focal_gamma is not None and focal_gamma < 0:
            raise ValueError(f"focal_gamma is {focal_gamma}, expected 0 or more, or null for cross-entropy")
        super().__init__(
            pool,
            head,
            predictor,
            fg_iou_thresh=0.5,  # this and the next values are those of the paper
            bg_iou_thresh=0.5,
            batch_size_per_image=batch_size,
            positive_fraction=0.25,
            bbox_reg_weights=None,
            score_thresh=score_thresh,
            nms_thresh=0.5,
            detections_per_img=detections_per_img,
        )
        self.focal_gamma = focal_gamma
        self.register_buffer("class_weights", torch.ones(num_classes), persistent=False)

    def losses(
        self, maps: dict[str, Tensor], proposals: list[Tensor], sizes: Sizes, targets: Targets
    ) -> dict[str, Tensor]:
        """Return {loss_classifier, loss_box_reg} of a sample of the regions [R, 4] of each film."""
        proposals, _, labels, deltas = self.select_training_samples(proposals, targets)
        logits, regression = self.box_predictor(self.box_head(self.box_roi_pool(maps, proposals, sizes)))
        _, loss_box = fastrcnn_loss(logits, regression, labels, deltas)
        by_film = zip(logits.split([len(some) for some in labels]), targets, strict=True)
        visible = torch.cat([labelled_logits(some[None], [target])[0] for some, target in by_film])
        return {"loss_classifier": self._class_loss(visible, torch.cat(labels)), "loss_box_reg": loss_box}

    def boxes(self, maps: dict[str, Tensor], proposals: list[Tensor], sizes: Sizes) -> list[dict[str, Tensor]]:
        """Return {boxes, labels, scores} of each film."""
        logits, regression = self.box_predictor(self.box_head(self.box_roi_pool(maps, proposals, sizes)))
        films = zip(*self.postprocess_detections(logits, regression, proposals, sizes), strict=True)
        return [{"boxes": boxes, "labels": labels, "scores": scores} for boxes, scores, labels in films]

    def _class_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        weights = self.class_weights.to(logits.dtype)
        if self.focal_gamma is None:
            return cross_entropy(logits, labels, weights)
        losses = cross_entropy(logits.float(), labels, reduction="none")  # -ln p of the true class
        focal = (1 - torch.exp(-losses)) ** self.focal_gamma * losses * weights[labels]
        return focal.sum() / (labels != BACKGROUND).sum().clamp(min=1)
