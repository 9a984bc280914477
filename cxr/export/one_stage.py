"""The single-stage detectors and RT-DETR as graphs: the same candidates, for a whole batch at once."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import FCOS, RetinaNet
from torchvision.models.detection.ssd import SSD

from cxr.detect.queries import RTDETR
from cxr.detect.yolo import CANDIDATES, YOLOv8
from cxr.export.anchors import decoded, grid_of_cells
from cxr.export.suppression import ABSENT, Detections, best, clipped, rows, suppressed


class Retina(nn.Module):
    """RetinaNet: of each level the best (anchor, class) pairs, then suppression within a class over all levels."""

    def __init__(self, detector: RetinaNet | FCOS) -> None:
        super().__init__()
        self.detector: Any = detector

    def forward(self, pyramid: Mapping[str, Tensor], sizes: Tensor, side: Any) -> Detections:
        """Return what ``TwoStage`` returns."""
        cells = self.detector.anchor_generator.cell_anchors
        levels = [self._level(level, cell, side) for level, cell in zip(pyramid.values(), cells, strict=True)]
        boxes, labels, scores = (torch.cat(parts, 1) for parts in list(zip(*levels, strict=True))[:3])
        computed = [values for level in levels for values in level[3]]
        return *_best_of_classes(clipped(boxes, sizes), labels, scores, self.classes, self.detector), computed

    @property
    def classes(self) -> int:
        """Outputs a cell and anchor, background among them."""
        return int(self.detector.head.classification_head.num_classes)

    def _level(self, level: Tensor, cell: Tensor, side: Any) -> Detections:
        read = self.detector.head([level])
        scores, places = _thresholded(self._scores(read).flatten(1), self.detector)
        anchors = torch.div(places, self.classes, rounding_mode="floor")
        boxes = self._boxes(rows(read["bbox_regression"], anchors), self._anchors(level, cell, side)[anchors])
        return boxes, places % self.classes, scores, list(read.values())

    def _scores(self, read: Mapping[str, Tensor]) -> Tensor:
        return read["cls_logits"].sigmoid()

    def _boxes(self, offsets: Tensor, anchors: Tensor) -> Tensor:
        return decoded(offsets, anchors, self.detector.box_coder)

    def _anchors(self, level: Tensor, cell: Tensor, side: Any) -> Tensor:
        return grid_of_cells(cell, level.shape[2], level.shape[3], side)


class Fcos(Retina):
    """FCOS: as RetinaNet, with a centre-ness in the score and distances to four sides for a box."""

    def _scores(self, read: Mapping[str, Tensor]) -> Tensor:
        return torch.sqrt(read["cls_logits"].sigmoid() * read["bbox_ctrness"].sigmoid())

    def _boxes(self, offsets: Tensor, anchors: Tensor) -> Tensor:
        centres = 0.5 * (anchors[..., :2] + anchors[..., 2:])
        if self.detector.box_coder.normalize_by_size:
            offsets = offsets * (anchors[..., 2:] - anchors[..., :2]).repeat(1, 1, 2)
        return torch.cat([centres - offsets[..., :2], centres + offsets[..., 2:]], -1)


class Ssd(nn.Module):
    """SSD: of each class the best anchors, then suppression among them."""

    def __init__(self, detector: SSD) -> None:
        super().__init__()
        self.detector: Any = detector

    def forward(self, pyramid: Mapping[str, Tensor], sizes: Tensor, side: Any) -> Detections:
        """Return what ``TwoStage`` returns."""
        levels, detector = list(pyramid.values()), self.detector
        read = detector.head(levels)  # cls_logits [B, A, K + 1], bbox_regression [B, A, 4]
        boxes = decoded(read["bbox_regression"], self._anchors(levels, side), detector.box_coder)
        boxes = clipped(boxes, sizes)
        scores = read["cls_logits"].softmax(2)[..., 1:].transpose(1, 2)  # [B, K, A]
        batch = scores.shape[0]
        count = detector.topk_candidates
        scores, places = _thresholded(scores.flatten(0, 1), detector, count)  # [B · K, count]
        boxes = rows(boxes, places.reshape(batch, -1)).reshape(-1, count, 4)
        kept = suppressed(boxes, scores[:, None], detector.nms_thresh, detector.detections_per_img)
        values, chosen = best(kept.reshape(batch, -1), detector.detections_per_img)
        labels = torch.div(chosen, count, rounding_mode="floor") + 1
        return rows(boxes.reshape(batch, -1, 4), chosen), labels, values, list(read.values())

    def _anchors(self, levels: list[Tensor], side: Any) -> Tensor:
        """Return the default boxes [A, 4] xyxy of a canvas: fractions of it around the centre of each cell."""
        boxes = []
        for level, pairs in zip(levels, self.detector.anchor_generator._wh_pairs, strict=True):
            x, y = (((torch.arange(count, device=level.device) + 0.5) / count) for count in reversed(level.shape[2:]))
            down, across = torch.meshgrid(y, x, indexing="ij")
            centres = torch.stack([across, down], 2).reshape(-1, 1, 2).to(level)
            half = 0.5 * pairs.clamp(0, 1).to(level)
            boxes.append(torch.cat([centres - half, centres + half], 2).reshape(-1, 4))
        every: Tensor = torch.cat(boxes) * side
        return every


class Yolo(nn.Module):
    """YOLOv8: the best (point, class) pairs of all levels, then suppression within a class."""

    def __init__(self, detector: YOLOv8) -> None:
        super().__init__()
        self.detector: Any = detector

    def forward(self, pyramid: Mapping[str, Tensor], sizes: Tensor, side: Any) -> Detections:
        """Return what ``TwoStage`` returns."""
        levels = list(pyramid.values())
        offsets, logits = self.detector.predictions(levels)
        classes = logits.shape[2]
        scores, places = best(logits.sigmoid().flatten(1), CANDIDATES)
        scores = torch.where(scores >= self.detector.score_thresh, scores, torch.full_like(scores, ABSENT))
        points = torch.div(places, classes, rounding_mode="floor")
        boxes = clipped(rows(self.detector.boxes_on_canvas(offsets, levels), points), sizes)
        detections = _best_of_classes(boxes, places % classes + 1, scores, classes + 1, self.detector)
        return *detections, [offsets, logits]


class Queries(nn.Module):
    """RT-DETR: the best (query, class) pairs; there is no suppression."""

    def __init__(self, detector: RTDETR) -> None:
        super().__init__()
        self.detector: Any = detector

    def forward(self, pyramid: Mapping[str, Tensor], sizes: Tensor, side: Any) -> Detections:
        """Return what ``TwoStage`` returns."""
        read = self.detector.head(list(pyramid.values()))
        logits = read.logits[:, -1]
        scores, places = best(logits.sigmoid().flatten(1), self.detector.detections_per_img)
        scores = torch.where(scores >= self.detector.score_thresh, scores, torch.full_like(scores, ABSENT))
        queries = torch.div(places, logits.shape[2], rounding_mode="floor")
        centred = rows(read.boxes[:, -1], queries)
        half = 0.5 * centred[..., 2:]
        boxes = torch.cat([centred[..., :2] - half, centred[..., :2] + half], 2) * side
        return clipped(boxes, sizes), places % logits.shape[2] + 1, scores, [read.logits, read.boxes, read.cell_logits]


def _thresholded(scores: Tensor, detector: Any, count: int | None = None) -> tuple[Tensor, Tensor]:
    """Return the highest scores [G, count] above the detector's threshold and their places in scores [G, N]."""
    above = torch.where(scores > detector.score_thresh, scores, torch.full_like(scores, ABSENT))
    return best(above, detector.topk_candidates if count is None else count)


def _best_of_classes(
    boxes: Tensor, labels: Tensor, scores: Tensor, classes: int, detector: Any
) -> tuple[Tensor, Tensor, Tensor]:
    """Return boxes, labels and scores of the best D of candidates [B, N].

    They are suppressed within each label 0..``classes`` - 1.
    """
    of_class = labels[:, None] == torch.arange(classes, device=labels.device)[:, None]  # [B, classes, N]
    split = torch.where(of_class, scores[:, None], torch.full_like(scores[:, None], ABSENT))
    kept = suppressed(boxes, split, detector.nms_thresh, detector.detections_per_img).amax(1)
    values, places = best(kept, detector.detections_per_img)
    return rows(boxes, places), labels.gather(1, places), values
