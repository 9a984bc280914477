"""The contract of every detector: training, prediction, explanation and export use this class alone.

Images are a list of [C, h, w] float in 0..1 of any sizes, air dark. Boxes are absolute xyxy in the frame of their
image, on the way in and on the way out. Nothing is resized, and only the canvas normalises (``PadAndNormalize``).

A target's ``labelled``, bool [K + 1], says which findings the readers of its film looked for, class c at c - 1. A film
teaches nothing of the others: the losses of classes leave them out. The network that proposes regions knows no classes
and takes all that is unmarked for background.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList

from cxr.detect.heads import Heads
from cxr.detect.image_head import ImageHead, image_head_for, with_image_scores
from cxr.detect.recompute import recompute_stages
from cxr.detect.transform import PadAndNormalize
from cxr.findings import BACKGROUND
from cxr.learn.weights import State, fit_stem, load_weights

Images = Sequence[Tensor]
Targets = list[dict[str, Tensor]]
Boxes = dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class Pyramid:
    """A batch of films as the backbone sees them.

    Args:
        films: the films of the batch as the data set gives them, [C, h, w] each.
        images: the same on one canvas, ``tensors`` [B, C, H, W], padded and normalised; each film in the upper left.
        maps: of the backbone by name, finest first, [B, channels, h', w'] each.
    """

    films: Images
    images: ImageList
    maps: dict[str, Tensor]


class Detector(nn.Module, ABC):
    """A network that finds the boxes of findings on films.

    The method that is called decides whether losses or boxes are computed. The mode of the module (``train``, ``eval``)
    only decides how large the canvas is.

    Attributes:
        transform: puts films on a canvas.
        backbone: gives the maps of a canvas, by name.
        image_head: a classifier of the whole film on these maps; None where there is none.
        findings: K, the number of classes without the background.
        score_thresh: detections below it are dropped. It is low, because AP and FROC count weak detections too.
        detections_per_img: the best so many of a film are kept.
    """

    fresh: ClassVar[tuple[str, ...]] = ()
    """Beginnings of the names of layers whose shape follows the number of classes or of anchors a cell: the only ones
    that a file of weights may leave as they were."""

    transform: PadAndNormalize
    backbone: nn.Module
    image_head: ImageHead | None
    findings: int

    def pyramid(self, images: Images) -> Pyramid:
        """Return the maps of films. In train mode the canvas is the smallest that holds them, else a square."""
        canvas = self.transform(list(images))[0]
        return Pyramid(images, canvas, self.backbone(canvas.tensors))

    def losses(self, images: Images, targets: Targets, pyramid: Pyramid | None = None) -> dict[str, Tensor]:
        """Return the losses by name, scalars; ``loss_image`` is that of the image head, where there is one.

        Args:
            images: B films.
            targets: of each {boxes [N, 4] float, labels int64 [N] in 1..K, labelled bool [K + 1]}; N may be 0, and
                ``labelled`` may be missing: then the readers looked for every finding.
            pyramid: the result of ``pyramid`` for these films, if it was computed already.

        Raises ``ValueError`` for invalid boxes.
        """
        _refuse_no_boxes(targets)
        read = self.pyramid(images) if pyramid is None else pyramid
        losses = self.losses_of(read, targets)
        if self.image_head is not None:
            losses["loss_image"] = self.image_head.loss(read.maps, targets)
        return losses

    def detect(self, images: Images, pyramid: Pyramid | None = None) -> list[Boxes]:
        """Return the detections and the scores of each film.

        boxes [M, 4] float32, labels int64 [M] in 1..K and scores [M], in the order of ``boxes``; of the whole film
        finding_scores [K] and abnormal []. All scores are 0..1. With an image head they are fused with its
        scores (``with_image_scores``), which may change their order.
        """
        read = self.pyramid(images) if pyramid is None else pyramid
        logits: list[Tensor | None] = [None] * len(images)
        weights = (0.0, 0.0)
        if self.image_head is not None:
            logits = list(self.image_head(read.maps))
            weights = (float(self.image_head.box_weight), float(self.image_head.film_weight))
        return [
            with_image_scores(boxes, self.findings, of_film, *weights)
            for boxes, of_film in zip(self.boxes(images, read), logits, strict=True)
        ]

    def boxes(self, images: Images, pyramid: Pyramid | None = None) -> list[Boxes]:
        """Return the boxes of each film alone, without the image head: boxes, labels and scores, as in ``detect``."""
        detections = self.boxes_of(self.pyramid(images) if pyramid is None else pyramid)
        return [_without_background(of_film) for of_film in detections]

    def forward(self, images: Images, targets: Targets | None = None) -> dict[str, Tensor] | list[Boxes]:
        """Return ``losses`` where there are targets, else ``boxes``: torchvision's contract."""
        return self.boxes(images) if targets is None else self.losses(images, targets)

    def heads(self) -> Heads | None:
        """Return the heads behind the pyramid, which level maps need; None where they are not known."""
        return None

    @abstractmethod
    def losses_of(self, pyramid: Pyramid, targets: Targets) -> dict[str, Tensor]:
        """Return the losses of the boxes, by name."""

    @abstractmethod
    def boxes_of(self, pyramid: Pyramid) -> list[Boxes]:
        """Return boxes [M, 4], labels int64 [M] and scores [M] of each film; some may have label 0."""


def finish(
    detector: Detector,
    num_classes: int,
    mean: Sequence[float],
    std: Sequence[float],
    image_head: bool,
    checkpoint_backbone: bool,
    state: State | None,
    weights: str | None,
) -> None:
    """Add what all detectors have to one that has its layers: canvas, image head and weights.

    Args:
        detector: with its backbone and heads.
        num_classes: findings and background.
        mean: of each channel of the stem.
        std: of each channel, likewise.
        image_head: whether the detector gets an image head.
        checkpoint_backbone: whether the stages of the backbone are computed again in the backward pass.
        state: weights of the whole detector; None: layers keep their random numbers, the backbone its weights.
        weights: the name of these weights, for messages.
    """
    detector.findings = num_classes - 1
    detector.transform = PadAndNormalize(mean, std)
    detector.image_head = image_head_for(detector, num_classes) if image_head else None
    if checkpoint_backbone:
        recompute_stages(detector.backbone)
    load_weights(detector, fit_stem(detector, state), weights, detector.fresh)
    detector.to(memory_format=torch.channels_last)  # 1.1 to 1.3 times the speed on CPU and on tensor cores


def name_of(model: Mapping[str, Any]) -> str:
    """Return the name of a config's ``model`` on pages: its builder, and in brackets its backbone."""

    def last(node: Mapping[str, Any]) -> str:
        return str(node.get("name") or node.get("_target_", "").rpartition(".")[2])

    part = model.get("backbone") or model.get("builder")  # a detector of another package has a builder
    return f"{last(model)} ({last(part)})" if isinstance(part, Mapping) else last(model)


def _refuse_no_boxes(targets: Targets) -> None:
    """Raise ``ValueError`` for boxes of another shape than [N, 4], and for one without an area."""
    for number, boxes in enumerate(target["boxes"] for target in targets):
        if boxes.ndim != 2 or boxes.shape[1] != 4:
            raise ValueError(f"target {number}: boxes have shape {tuple(boxes.shape)}, expected [N, 4]")
        if (flat := (boxes[:, 2:] <= boxes[:, :2]).any(1)).any():
            raise ValueError(
                f"target {number}: box {boxes[flat][0].tolist()} has no area, expected x0 < x1 and y0 < y1"
            )


def _without_background(boxes: Boxes) -> Boxes:
    """Return a film's boxes in float32, without those that a single-stage detector labels as background."""
    kept = boxes["labels"] != BACKGROUND
    numbers = {name: boxes[name][kept].float() for name in ("boxes", "scores")}
    return {**numbers, "labels": boxes["labels"][kept]}
