"""Faster R-CNN as a graph: the same proposals, regions and detections as torchvision's, for a whole batch at once."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import TwoMLPHead
from torchvision.ops import roi_align

from cxr.detect.faster_rcnn import FasterRCNN
from cxr.detect.roi_pool import bin_weights
from cxr.export.anchors import decoded, grid_of_cells
from cxr.export.suppression import ABSENT, Detections, best, clipped, rows, suppressed

_SMALLEST_PROPOSAL = 1e-3  # px; torchvision drops thinner ones, of proposals and of detections
_SMALLEST_BOX = 1e-2


class TwoStage(nn.Module):
    """Proposals and regions of a Faster R-CNN.

    Args:
        detector: in eval mode.
        side: of the canvas in pixels that the graph is made fast for; it takes any.
    """

    def __init__(self, detector: FasterRCNN, side: int) -> None:
        super().__init__()
        self.rpn: Any = detector.rpn
        self.heads: Any = detector.roi_heads
        self.pool: RegionPool = _pooling(detector, side)

    def forward(self, pyramid: Mapping[str, Tensor], sizes: Tensor, side: Any) -> Detections:
        """Return boxes [B, D, 4], labels int64 [B, D] and scores [B, D] of a batch's pyramid, the strongest first.

        Behind them stands what the layers computed for each film, from which these were chosen.
        ``sizes`` int64 [B, 2] are the films' heights and widths, ``side`` the canvas's side in pixels. A score of
        ``ABSENT`` stands where a film has fewer than D detections.
        """
        objectness_maps, offset_maps = self.rpn.head(list(pyramid.values()))
        proposals, objectness = self.proposals(objectness_maps, offset_maps, sizes, side)
        pooled = self.pool(pyramid, proposals)
        logits, offsets = self.heads.box_predictor(pooled)
        batch, count = objectness.shape
        logits = logits.reshape(batch, count, -1)
        offsets = offsets.reshape(batch, count, -1, 4)
        scores = logits.softmax(2)[..., 1:]
        classes = scores.shape[2]
        boxes = decoded(offsets[:, :, 1:], proposals[:, :, None], self.heads.box_coder)
        boxes = clipped(boxes.reshape(batch, count * classes, 4), sizes).reshape(batch, count, classes, 4)
        valid = (scores > self.heads.score_thresh) & (objectness > ABSENT)[..., None] & _large(boxes, _SMALLEST_BOX)
        scores = torch.where(valid, scores, torch.full_like(scores, ABSENT)).transpose(1, 2)  # [B, K, R]
        boxes = boxes.transpose(1, 2)
        groups = (boxes.reshape(batch * classes, count, 4), scores.reshape(batch * classes, 1, count))
        most = self.heads.detections_per_img
        kept = suppressed(*groups, self.heads.nms_thresh, most).reshape(batch, classes * count)
        values, places = best(kept, most)
        chosen = rows(boxes.reshape(batch, classes * count, 4), places)
        labels = torch.div(places, count, rounding_mode="floor") + 1
        return chosen, labels, values, [*objectness_maps, *offset_maps, logits, offsets]

    def proposals(
        self, objectness: list[Tensor], offsets: list[Tensor], sizes: Tensor, side: Any
    ) -> tuple[Tensor, Tensor]:
        """Return the regions to look at [B, R, 4], the most promising first, and their scores [B, R].

        Read from the maps of the proposal head, a level each: objectness [B, A, h, w], offsets [B, 4 · A, h, w].
        """
        wanted = self.rpn.pre_nms_top_n()
        boxes, scores = [], []
        for cells, raw, moves in zip(self.rpn.anchor_generator.cell_anchors, objectness, offsets, strict=True):
            batch, shapes, height, width = raw.shape
            logits = raw.permute(0, 2, 3, 1).reshape(batch, -1)
            moves = moves.reshape(batch, shapes, 4, height, width).permute(0, 3, 4, 1, 2).reshape(batch, -1, 4)
            values, places = best_logits(logits, wanted)
            anchors = grid_of_cells(cells, height, width, side)[places]
            regions = clipped(decoded(rows(moves, places), anchors, self.rpn.box_coder), sizes)
            valid = (values > -math.inf) & _large(regions, _SMALLEST_PROPOSAL)
            # NaN is no place to pool from
            boxes.append(torch.where(valid[..., None], regions, torch.zeros_like(regions)))
            scores.append(torch.where(valid, values.sigmoid(), torch.full_like(values, ABSENT)))
        every, batch = torch.stack(boxes, 1), objectness[0].shape[0]  # [B, L, n, 4]
        groups = every.reshape(-1, wanted, 4), torch.stack(scores, 1).reshape(-1, 1, wanted)
        kept = suppressed(*groups, self.rpn.nms_thresh, self.rpn.post_nms_top_n())
        values, places = best(kept.reshape(batch, -1), self.rpn.post_nms_top_n())
        return rows(every.reshape(batch, -1, 4), places), values


def best_logits(logits: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the ``count`` highest of logits [B, N] and their places; -inf and place 0 where N is smaller."""
    filled = torch.cat([logits, torch.full_like(logits[:, :1], -math.inf).expand(-1, count)], 1)
    values, places = filled.topk(count, dim=1)
    return values, torch.where(values > -math.inf, places, torch.zeros_like(places))


def _large(boxes: Tensor, least: float) -> Tensor:
    return ((boxes[..., 2:] - boxes[..., :2]) >= least).all(-1)


class RegionPool(nn.Module):
    """Each region is pooled from the level of the pyramid that its size asks for, then goes through the box head.

    Args:
        detector: in eval mode.
        names, strides: of the maps that regions are pooled from.
    """

    head: Any

    def __init__(self, detector: FasterRCNN, names: list[str], strides: list[int]) -> None:
        super().__init__()
        heads: Any = detector.roi_heads
        pool, self.head = heads.box_roi_pool, heads.box_head
        self.names, self.strides = names, strides
        self.bins, self.samples = int(pool.output_size[0]), int(pool.sampling_ratio)
        self.canonical = float(pool.canonical_scale), float(pool.canonical_level)

    def level_of(self, regions: Tensor) -> Tensor:
        """Return for each region [..., 4] the place of its map, float32 [...] (eq. 1 of the FPN paper)."""
        scale, level = self.canonical
        first, last = (math.log2(stride) for stride in (self.strides[0], self.strides[-1]))
        sides = (regions[..., 2:] - regions[..., :2]).prod(-1).sqrt()
        return torch.floor(level + torch.log2(sides / scale) + 1e-6).clamp(first, last) - first

    def forward(self, pyramid: Mapping[str, Tensor], regions: Tensor) -> Tensor:
        """Return the box head's vectors [B · R, H] of regions [B, R, 4] xyxy on the canvas."""
        batch, count, _ = regions.shape
        films = torch.arange(batch, device=regions.device).to(regions)[:, None, None].expand(-1, count, 1)
        rois = torch.cat([films, regions], 2).reshape(-1, 5)
        levels = self.level_of(regions).reshape(-1)
        pooled, order = [], []
        for level, (name, stride) in enumerate(zip(self.names, self.strides, strict=True)):
            here = torch.nonzero(levels == level)[:, 0] if len(self.names) > 1 else torch.arange(rois.shape[0])
            pooled.append(roi_align(pyramid[name], rois[here], self.bins, 1 / stride, self.samples))
            order.append(here)
        vectors: Tensor = self.head(torch.cat(pooled))
        return vectors[torch.argsort(torch.cat(order))] if len(self.names) > 1 else vectors


class CellPool(RegionPool):
    """The same numbers where maps have few cells: the first layer is applied to the cells, then pooled.

    Pooling and the layer behind it are both linear, so their order does not matter. A region has 49 bins; a map of a
    film of 256 px with stride 32 has 64 cells, and 200 regions read it. Of the layer's 2.6 billion multiplications a
    film, 1.5 remain.
    """

    by_cell: Tensor

    def __init__(self, detector: FasterRCNN, names: list[str], strides: list[int]) -> None:
        super().__init__(detector, names, strides)
        first: nn.Linear = self.head.fc6
        weights = first.weight.detach().reshape(first.out_features, -1, self.bins**2)  # [H, C, bins]
        self.register_buffer("by_cell", weights.permute(1, 2, 0).reshape(weights.shape[1], -1))  # [C, bins · H]

    def forward(self, pyramid: Mapping[str, Tensor], regions: Tensor) -> Tensor:
        """Return what ``RegionPool`` returns."""
        batch, count, _ = regions.shape
        levels = self.level_of(regions)
        parts, shares = [], []
        for level, (name, stride) in enumerate(zip(self.names, self.strides, strict=True)):
            channels, height, width = pyramid[name].shape[1:]
            cells = pyramid[name].flatten(2).transpose(1, 2)  # [B, cells, C]
            parts.append((cells.reshape(-1, channels) @ self.by_cell).reshape(batch, -1, self.head.fc6.out_features))
            shares.append(self._shares(regions / stride, (levels == level).to(regions), height, width))
        summed = torch.bmm(torch.cat(shares, 2), torch.cat(parts, 1)).reshape(batch * count, -1)
        return torch.relu(self.head.fc7(torch.relu(summed + self.head.fc6.bias)))

    def _shares(self, regions: Tensor, here: Tensor, height: Any, width: Any) -> Tensor:
        """Return [B, R, cells · bins]: what each cell gives to each bin of a region, 0 on other levels."""
        batch, count, _ = regions.shape
        along_y = bin_weights(regions[..., 1], regions[..., 3], height, self.bins, self.samples) * here[..., None, None]
        along_x = bin_weights(regions[..., 0], regions[..., 2], width, self.bins, self.samples)
        along_y, along_x = (side.transpose(2, 3) for side in (along_y, along_x))  # [B, R, cells, bins]
        shares = along_y[:, :, :, None, :, None] * along_x[:, :, None, :, None, :]
        return shares.reshape(batch, count, -1)


def _pooling(detector: FasterRCNN, side: int) -> RegionPool:
    strides = [level.stride for level in detector.backbone.pooled]
    heads: Any = detector.roi_heads
    used = strides[: int(math.log2(strides[-1] // strides[0])) + 1]  # MobileNet's two maps are of one stride
    names = list(heads.box_roi_pool.featmap_names)[: len(used)]
    cells = sum((side // stride) ** 2 for stride in used)
    rpn: Any = detector.rpn
    channels, regions = detector.backbone.out_channels, int(rpn.post_nms_top_n())
    fewer = isinstance(heads.box_head, TwoMLPHead) and cells * (regions + channels) < regions * channels
    return (CellPool if fewer else RegionPool)(detector, names, used)
