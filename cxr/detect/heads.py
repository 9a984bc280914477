"""The heads behind a detector's feature pyramid: a score as a function of the cells it was read from.

In torchvision's detectors a box has one pyramid level. A region of Faster R-CNN is pooled from the level of its size.
An anchor or a point of RetinaNet, FCOS, SSD and YOLOv8 stands on one level. Proposals are detached, so the score of
a box is a function of that level alone: ``Heads.log_odds``. A query of RT-DETR begins at a cell of one level, and then
looks at all. Its score is taken as a function of the level it began at; the other levels are held fixed.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import clip_boxes_to_image, roi_align
from typing_extensions import override

from cxr.detect.candidates import Candidate, Candidates
from cxr.detect.transform import on_canvas

DENSE = 16  # sampling points along each side of a bin, to find the cells that it covers
EPSILON = 1e-7  # scores are kept this far from 0 and 1, where their log-odds are infinite in float32


class Heads(ABC):
    """The heads behind the pyramid of a detector in eval mode."""

    @abstractmethod
    def candidates(self, images: ImageList, pyramid: dict[str, Tensor]) -> Candidates:
        """Return all boxes of one film before suppression; ``pyramid`` are the backbone's maps, [1, C, h, w] each."""

    @abstractmethod
    def log_odds(self, level: Tensor, candidate: Candidate) -> Tensor:
        """Return ln(s / (1 - s)) [B] of a candidate's score s, with ``level`` [B, C, h, w] as its pyramid level.

        It is differentiable, and the box's region or anchor is held fixed. The score itself saturates, and with it its
        gradient and its drops. Its log-odds do not. They compare the finding with all other classes, so that evidence
        for another finding at the same place counts against this one.
        """

    def log_odds_of(self, pyramid: Mapping[str, Tensor], candidate: Candidate) -> Tensor:
        """Return the log-odds [B] as ``log_odds`` does, from all levels [B, C, h, w] of other films' pyramid."""
        return self.log_odds(list(pyramid.values())[candidate.level], candidate)

    def even_log_odds(self, level: Tensor, candidate: Candidate) -> Tensor:
        """Return the log-odds as ``log_odds`` does, with a gradient that is the same for all cells of a pooled bin.

        Heads that do not pool return ``log_odds`` unchanged.
        """
        return self.log_odds(level, candidate)

    def gradient(self, level: Tensor, candidate: Candidate) -> Tensor:
        """Return the gradient of a candidate's ``even_log_odds`` in ``level`` [1, C, h, w], [C, h, w]."""
        with torch.enable_grad():
            level = level.detach().clone().requires_grad_()
            (gradient,) = torch.autograd.grad(self.even_log_odds(level, candidate).sum(), level)
        return gradient[0]

    def reach(self, level: Tensor, candidate: Candidate) -> Tensor:
        """Return how much of each cell of ``level`` [1, C, h, w] goes into a candidate's score, [h, w] in 0..1.

        Where the reach of a cell is 0, the cell could hold anything and the score would be the same. A classifier
        averages over the whole of its last layer, so every cell counts alike. A detector's head does not. A map that
        ignores this shows cells that the detector never looked at for this box. Where a head does not pool, the reach
        is the size of the score's gradient at a cell.
        """
        size = self.gradient(level, candidate).abs().sum(0)
        return size / size.max().clamp(min=torch.finfo(size.dtype).tiny)


class PooledHeads(Heads):
    """Faster R-CNN: a region, pooled from the level of its size, through the box head."""

    def __init__(self, detector: Any) -> None:
        self.detector = detector
        self.heads: Any = detector.roi_heads

    @override
    def candidates(self, images: ImageList, pyramid: dict[str, Tensor]) -> Candidates:
        regions = self.detector.rpn(images, pyramid)[0]
        pooled = self.heads.box_roi_pool(pyramid, regions, images.image_sizes)
        logits, offsets = self.heads.box_predictor(self.heads.box_head(pooled))
        boxes = clip_boxes_to_image(self.heads.box_coder.decode(offsets, regions), images.image_sizes[0])
        return Candidates(boxes, logits.softmax(1), self.heads.box_roi_pool.map_levels(regions), regions[0])

    @override
    def log_odds(self, level: Tensor, candidate: Candidate) -> Tensor:
        return softmax_log_odds(self.logits(self.heads.box_head(self.pool(level, candidate))), candidate.label)

    @override
    def even_log_odds(self, level: Tensor, candidate: Candidate) -> Tensor:
        """Return the log-odds [B] of the region's 7 × 7 bins, each bin's gradient spread evenly over its cells.

        RoIAlign reads a bin at 2 × 2 points. Whether a cell lies at one of them or between two is chance, and shows as
        a lattice on large boxes. So the values are those of the 2 × 2 points, but the gradient passes from the bins
        through a pooling that reads all cells.
        """
        even = self.pool(level, candidate, samples=DENSE)
        bins = even + (self.pool(level, candidate) - even).detach()
        return softmax_log_odds(self.logits(self.heads.box_head(bins)), candidate.label)

    @override
    def reach(self, level: Tensor, candidate: Candidate) -> Tensor:
        """Return the share each cell has in the region."""
        with torch.enable_grad():
            cells = torch.zeros_like(level[:, :1]).requires_grad_()
            (share,) = torch.autograd.grad(self.pool(cells, candidate, samples=DENSE).sum(), cells)
        return share[0, 0] / share.max()

    def pool(self, level: Tensor, candidate: Candidate, samples: int | None = None) -> Tensor:
        """Return the candidate's region [B, C, 7, 7] pooled from ``level`` [B, C, h, w].

        Each bin is read at ``samples`` × ``samples`` points; None means as many as the detector takes.
        """
        pool = self.heads.box_roi_pool
        batch = torch.arange(len(level), device=level.device, dtype=level.dtype)[:, None]
        regions = torch.cat([batch, candidate.place.to(level.dtype).expand(len(level), 4)], 1)
        pooled: Tensor = roi_align(
            level.contiguous(),
            regions,
            pool.output_size,
            pool.scales[candidate.level],
            pool.sampling_ratio if samples is None else samples,
        )
        return pooled

    def logits(self, hidden: Tensor) -> Tensor:
        """Return the class scores before the softmax, [B, K + 1], from the output of the box head."""
        scores: Tensor = self.heads.box_predictor.cls_score(hidden.flatten(1))
        return scores


class DenseHeads(Heads):
    """The heads of RetinaNet, FCOS, SSD and YOLOv8: each cell of each level has some anchors or points."""

    def __init__(self, detector: Any) -> None:
        self.detector = detector

    @abstractmethod
    def level_scores(self, level: Tensor, number: int) -> Tensor:
        """Return the log-odds [B, A, K + 1] of all scores of level ``number``, a map [B, C, h, w]."""

    @abstractmethod
    def boxes(self, images: ImageList, levels: list[Tensor]) -> Tensor:
        """Return the boxes [A, 4] of all levels of one film."""

    @override
    def candidates(self, images: ImageList, pyramid: dict[str, Tensor]) -> Candidates:
        levels = list(pyramid.values())
        odds = [self.level_scores(level, number)[0] for number, level in enumerate(levels)]
        boxes = clip_boxes_to_image(self.boxes(images, levels), images.image_sizes[0])
        counts = torch.tensor([len(some) for some in odds])
        return Candidates(
            boxes[:, None].expand(-1, odds[0].shape[1], 4),
            torch.cat(odds).sigmoid(),
            torch.arange(len(levels)).repeat_interleave(counts),
            torch.cat([torch.arange(count) for count in counts.tolist()]),
        )

    @override
    def log_odds(self, level: Tensor, candidate: Candidate) -> Tensor:
        return self.level_scores(level, candidate.level)[:, int(candidate.place), candidate.label]


class AnchorHeads(DenseHeads):
    """Heads of torchvision with anchors: the output of a regression head is decoded against them."""

    def decode(self, offsets: Tensor, anchors: Tensor) -> Tensor:
        """Return boxes [A, 4] of the regression's output [A, 4] and the anchors [A, 4]."""
        boxes: Tensor = self.detector.box_coder.decode_single(offsets, anchors)
        return boxes

    @override
    def boxes(self, images: ImageList, levels: list[Tensor]) -> Tensor:
        regression = self.detector.head.regression_head(levels)
        offsets: Tensor = (regression[0] if isinstance(regression, tuple) else regression)[0]
        return self.decode(offsets, self.detector.anchor_generator(images, levels)[0])


class RetinaHeads(AnchorHeads):
    """RetinaNet: a sigmoid for each class."""

    @override
    def level_scores(self, level: Tensor, number: int) -> Tensor:
        logits: Tensor = self.detector.head.classification_head([level])
        return logits


class FcosHeads(AnchorHeads):
    """FCOS: the score is the root of class times centreness."""

    @override
    def level_scores(self, level: Tensor, number: int) -> Tensor:
        logits = self.detector.head.classification_head([level])
        _, centreness = self.detector.head.regression_head([level])
        odds: Tensor = (logits.sigmoid() * centreness.sigmoid()).sqrt().logit(EPSILON)
        return odds

    @override
    def decode(self, offsets: Tensor, anchors: Tensor) -> Tensor:
        boxes: Tensor = self.detector.box_coder.decode(offsets, anchors)
        return boxes


class SsdHeads(AnchorHeads):
    """SSD: a softmax over the classes; each level has its own convolution."""

    @override
    def level_scores(self, level: Tensor, number: int) -> Tensor:
        head = self.detector.head.classification_head
        maps = head.module_list[number](level)
        batch, _, height, width = maps.shape
        logits = maps.view(batch, -1, head.num_columns, height, width).permute(0, 3, 4, 1, 2)
        logits = logits.reshape(batch, -1, head.num_columns)
        return torch.stack([softmax_log_odds(logits, label) for label in range(head.num_columns)], -1)


class YoloHeads(DenseHeads):
    """YOLOv8: a sigmoid for each class but the background."""

    @override
    def level_scores(self, level: Tensor, number: int) -> Tensor:
        _, logits = self.detector.predictions([level], number)
        return _with_background(logits)

    @override
    def boxes(self, images: ImageList, levels: list[Tensor]) -> Tensor:
        offsets, _ = self.detector.predictions(levels)
        boxes: Tensor = self.detector.boxes_on_canvas(offsets, levels)[0]
        return boxes


class QueryHeads(Heads):
    """RT-DETR: queries that begin at the cells with the highest scores and look around on all levels.

    The cells they begin at are held fixed, as torchvision's proposals are.
    """

    def __init__(self, detector: Any) -> None:
        self.head = detector.head
        self.levels: list[Tensor] = []
        self.cells = torch.zeros(1, 0, dtype=torch.int64)

    @override
    def candidates(self, images: ImageList, pyramid: dict[str, Tensor]) -> Candidates:
        self.levels = list(pyramid.values())
        read = self.head(self.levels)
        self.cells = read.cells
        size = (images.tensors.shape[-2], images.tensors.shape[-1])
        boxes = clip_boxes_to_image(on_canvas(read.boxes[0, -1], size), images.image_sizes[0])
        scores = _with_background(read.logits[0, -1]).sigmoid()
        ends = torch.tensor([level.shape[2] * level.shape[3] for level in self.levels]).cumsum(0)
        began = torch.bucketize(self.cells[0], ends.to(self.cells.device), right=True)
        return Candidates(boxes[:, None].expand(-1, scores.shape[1], 4), scores, began, self.cells[0])

    @override
    def log_odds(self, level: Tensor, candidate: Candidate) -> Tensor:
        levels = [one.expand(len(level), -1, -1, -1) for one in self.levels]
        levels[candidate.level] = level
        return self._log_odds(levels, candidate)

    @override
    def log_odds_of(self, pyramid: Mapping[str, Tensor], candidate: Candidate) -> Tensor:
        return self._log_odds(list(pyramid.values()), candidate)

    def _log_odds(self, levels: Sequence[Tensor], candidate: Candidate) -> Tensor:
        cells = self.cells.clone()
        if not (cells == candidate.place).any():  # the candidate is of the same film, but of other weights
            cells[0, -1] = candidate.place
        query = int((cells[0] == candidate.place).long().argmax())
        logits: Tensor = self.head(levels, cells.expand(len(levels[0]), -1)).logits
        return logits[:, -1, query, candidate.label - 1]


def softmax_log_odds(logits: Tensor, label: int) -> Tensor:
    """Return ln(p / (1 - p)) [...] of class ``label``'s softmax probability, from logits [..., K + 1]."""
    others = torch.cat([logits[..., :label], logits[..., label + 1 :]], -1)
    return logits[..., label] - others.logsumexp(-1)


def _with_background(logits: Tensor) -> Tensor:
    """Return logits [..., K + 1] of sigmoid classes [..., K]; class 0 has a probability of 0."""
    return torch.cat([torch.full_like(logits[..., :1], -torch.inf), logits], -1)
