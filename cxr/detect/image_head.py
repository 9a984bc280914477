"""A classifier of the whole film on the detector's features, beside its boxes."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

FLOOR = 1e-3  # score of a finding without a box: with 0 the product would be 0 whatever the classifier says


class ImageHead(nn.Module):
    """Scores how sure it is that a film has each finding, and any finding at all, without a place.

    A box head sees one region, but a normal film is often recognised by the film as a whole. A classifier beside the
    detector helped in every setting of the hospital's study (Diagnostics 2024, 14, 2636), and the first places of
    VinBigData had one. This one takes mean and maximum of each level of the pyramid through two linear layers.

    Args:
        channels: number of channels of each level of the pyramid.
        findings: K.
        width: number of units of the hidden layer.

    Attributes:
        box_weight: share of the whole film's score in that of a box, 0..1.
        film_weight: its share in the scores of the film. Both are 0 while the detector trains. Afterwards they are
            chosen on validation films and kept with the weights.
    """

    box_weight: Tensor
    film_weight: Tensor

    def __init__(self, channels: Sequence[int], findings: int, width: int = 128) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(2 * sum(channels), width), nn.ReLU(), nn.Dropout(0.2), nn.Linear(width, findings + 1)
        )
        self.register_buffer("box_weight", torch.tensor(0.0))
        self.register_buffer("film_weight", torch.tensor(0.0))

    def forward(self, pyramid: Mapping[str, Tensor]) -> Tensor:
        """Return logits [B, K + 1] of a batch's pyramid: each finding in the order of classes, last any finding."""
        levels = [level.float() for level in pyramid.values()]
        pooled = [pool(level) for level in levels for pool in (_mean, _maximum)]
        logits: Tensor = self.layers(torch.cat(pooled, 1))
        return logits

    def loss(self, pyramid: Mapping[str, Tensor], targets: Sequence[Mapping[str, Tensor]]) -> Tensor:
        """Return the mean binary cross-entropy over films and logits, without those that are unknown on a film.

        A logit is unknown where the target's ``labelled``, bool [K + 1], is false. That of any finding is known where
        one is marked.
        """
        logits = self(pyramid)
        present, known = torch.zeros_like(logits), torch.ones_like(logits)
        for row, weight, target in zip(present, known, targets, strict=True):
            row[target["labels"] - 1] = 1
            row[-1] = float(len(target["labels"]) > 0)
            weight[:] = torch.maximum(target["labelled"].to(row), row) if "labelled" in target else 1
        loss = binary_cross_entropy_with_logits(logits, present, known, reduction="sum")
        return loss / known.sum().clamp(min=1)


def with_image_scores(
    detections: Mapping[str, Tensor], findings: int, logits: Tensor | None, box_weight: float, film_weight: float
) -> dict[str, Tensor]:
    """Return one film's detections with ``finding_scores`` [K] and ``abnormal`` [], fused with the image's logits.

    A score s of the boxes and a probability p of the whole film become s^(1-w) · p^w. The boxes' score of a finding is
    that of its strongest box. Their score of abnormality is that of the strongest box of all.

    Args:
        detections: boxes [M, 4], labels int64 [M] in 1..K, scores [M].
        findings: K.
        logits: [K + 1] of ``ImageHead``; None without an image head: the scores are then those of the boxes,
            0 where there is no box.
        box_weight: w for the scores of the boxes.
        film_weight: w for the scores of the film.
    """
    boxes = detections["scores"].new_zeros(findings + 1)
    boxes[:findings].scatter_reduce_(0, detections["labels"] - 1, detections["scores"], "amax")
    boxes[findings] = boxes[:findings].max()
    if logits is None:
        return {**detections, "finding_scores": boxes[:findings], "abnormal": boxes[findings]}
    film = logits.float().sigmoid()
    fused = boxes.clamp(min=FLOOR) ** (1 - film_weight) * film**film_weight
    scores = detections["scores"] ** (1 - box_weight) * film[detections["labels"] - 1] ** box_weight
    return {**detections, "scores": scores, "finding_scores": fused[:findings], "abnormal": fused[findings]}


def image_head_for(detector: nn.Module, num_classes: int) -> ImageHead:
    """Return an image head that fits a detector with a ``transform`` and a ``backbone``."""
    backbone, transform = detector.get_submodule("backbone"), detector.get_submodule("transform")
    training = backbone.training
    with torch.no_grad():
        pyramid = backbone.eval()(transform([torch.zeros(1, 64, 64)])[0].tensors)
    backbone.train(training)
    return ImageHead([level.shape[1] for level in pyramid.values()], num_classes - 1)


def _mean(level: Tensor) -> Tensor:
    return level.mean((2, 3))


def _maximum(level: Tensor) -> Tensor:
    return level.amax((2, 3))
