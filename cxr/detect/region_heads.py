"""torchvision's box head with a loss for rare findings and for films that do not tell of every finding."""
# torchvision types a part of itself
# mypy: disable-error-code="no-untyped-call"

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torchvision.models.detection.roi_heads import RoIHeads, fastrcnn_loss

from cxr.detect.told import told_logits
from cxr.findings import BACKGROUND


class RegionHeads(RoIHeads):
    """The box head of Faster R-CNN, with other losses of the class of a region.

    Args:
        heads: torchvision's, whose parts and settings are taken over.
        num_classes: findings + background.
        focal_gamma: the focal loss's exponent (Lin 2017, over a softmax): regions already told apart count less by
            (1 - p)^gamma, and the sum is over the regions that bear a finding. None: cross-entropy, as in the paper.

    Attributes:
        class_weights: [K + 1], how much a region counts by its true class; 1 each unless the task sets them.
    """

    class_weights: Tensor

    def __init__(self, heads: RoIHeads, num_classes: int, focal_gamma: float | None = None) -> None:
        if focal_gamma is not None and focal_gamma < 0:
            raise ValueError(f"focal_gamma is {focal_gamma}, expected 0 or more, or null for cross-entropy")
        super().__init__(
            heads.box_roi_pool,
            heads.box_head,
            heads.box_predictor,
            heads.proposal_matcher.high_threshold,
            heads.proposal_matcher.low_threshold,
            heads.fg_bg_sampler.batch_size_per_image,
            heads.fg_bg_sampler.positive_fraction,
            heads.box_coder.weights,
            heads.score_thresh,
            heads.nms_thresh,
            heads.detections_per_img,
        )
        self.focal_gamma = focal_gamma
        self.register_buffer("class_weights", torch.ones(num_classes), persistent=False)

    def forward(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[dict[str, Tensor]] | None = None,
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        """Return detections in eval mode, {loss_classifier, loss_box_reg} in train mode."""
        if not self.training or targets is None:
            found: tuple[list[dict[str, Tensor]], dict[str, Tensor]] = super().forward(
                features, proposals, image_shapes, targets
            )
            return found
        proposals, _, labels, deltas = self.select_training_samples(proposals, targets)
        pooled = self.box_roi_pool(features, proposals, image_shapes)
        logits, regression = self.box_predictor(self.box_head(pooled))
        _, loss_box = fastrcnn_loss(logits, regression, labels, deltas)
        regions = [len(some) for some in labels]
        by_film = zip(logits.split(regions), targets, strict=True)
        told = torch.cat([told_logits(some[None], [target])[0] for some, target in by_film])
        return [], {"loss_classifier": self._class_loss(told, torch.cat(labels)), "loss_box_reg": loss_box}

    def _class_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        weights = self.class_weights.to(logits.dtype)
        if self.focal_gamma is None:
            return cross_entropy(logits, labels, weights)
        losses = cross_entropy(logits.float(), labels, reduction="none")  # -ln p of the true class
        focal = (1 - torch.exp(-losses)) ** self.focal_gamma * losses * weights[labels]
        return focal.sum() / (labels != BACKGROUND).sum().clamp(min=1)
