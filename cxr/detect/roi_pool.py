"""RoIAlign as two batched matrix products: the same numbers as torchvision's, in a fraction of the time on a CPU."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.poolers import initLevelMapper


class SeparableRoIAlign(MultiScaleRoIAlign):
    """Replaces ``MultiScaleRoIAlign`` on small maps.

    The bilinear weights of a bin are a product of weights along y and along x, so pooling all regions of a film is
    ``Wy · F · Wxᵀ``. torchvision's backward scatters serially on a CPU and was 40 % of a training step. On a GPU a
    matrix product also gives the same numbers each time, which the scatter does not. Every region is pooled from one
    level of the pyramid (eq. 1 of the FPN paper). A product reads the whole map for each region, so on large maps this
    is slower than torchvision.

    Args:
        strides: input pixels a cell, one for each of the maps "0", "1", … (powers of two, ascending).
        output_size: bins along each side.
        canonical_scale: a region of this side, in input pixels, is pooled from the level of stride 16.
    """

    def __init__(self, strides: Sequence[int], output_size: int = 7, canonical_scale: int = 224) -> None:
        names = [str(i) for i in range(len(strides))]
        super().__init__(names, output_size, sampling_ratio=2, canonical_scale=canonical_scale)
        self.strides = tuple(strides)
        _tell_strides(self, strides)

    def forward(self, x: dict[str, Tensor], boxes: list[Tensor], image_shapes: list[tuple[int, int]]) -> Tensor:
        """Return [sum of N, C, bins, bins] for the maps ``x`` [B, C, ...] and B tensors of regions [N, 4], xyxy."""
        levels: Any = self.map_levels
        level_of = levels(boxes).split([len(regions) for regions in boxes])
        pooled, places = [], []
        for level, (name, stride) in enumerate(zip(self.featmap_names, self.strides, strict=True)):
            here = [torch.nonzero(of_film == level).squeeze(1) for of_film in level_of]
            regions = pad_sequence([some[rows] for some, rows in zip(boxes, here, strict=True)], batch_first=True)
            padded = _pool(x[name], regions / stride, self.output_size[0], self.sampling_ratio)
            pooled += [of_film[: len(rows)] for of_film, rows in zip(padded, here, strict=True)]
            places += [rows + first for rows, first in zip(here, _starts(boxes), strict=True)]
        return torch.cat(pooled).index_select(0, torch.cat(places).argsort()).permute(0, 3, 1, 2)


def region_pool(strides: Sequence[int]) -> MultiScaleRoIAlign:
    """Return torchvision's pool of 7 × 7 bins for the maps "0", "1", … of these strides, in input pixels a cell.

    torchvision's pool takes the strides from the sizes of the first films it sees and keeps them. That is wrong where
    such a film is more than 1.4 times as wide as high, because its maps are those of a square canvas.
    """
    pool = MultiScaleRoIAlign([str(i) for i in range(len(strides))], output_size=7, sampling_ratio=2)
    _tell_strides(pool, strides)
    return pool


def _tell_strides(pool: Any, strides: Sequence[int]) -> None:
    """Set the fields that torchvision's pool would otherwise fill on its first call."""
    first, last = (stride.bit_length() - 1 for stride in (strides[0], strides[-1]))
    pool.scales = [1 / stride for stride in strides]
    pool.map_levels = initLevelMapper(first, last, pool.canonical_scale, pool.canonical_level)


def _starts(boxes: list[Tensor]) -> list[int]:
    """Return the row at which the regions of each film begin in one tensor of all films' regions."""
    return list(accumulate((len(regions) for regions in boxes[:-1]), initial=0))


def _pool(feature: Tensor, regions: Tensor, bins: int, samples: int) -> Tensor:
    """Return [B, R, bins, bins, C] of ``feature`` [B, C, H, W] for ``regions`` [B, R, 4], xyxy in cells."""
    batch, channels, height, width = feature.shape
    along_y = bin_weights(regions[..., 1], regions[..., 3], height, bins, samples)
    along_x = bin_weights(regions[..., 0], regions[..., 2], width, bins, samples)
    rows = feature.permute(0, 2, 3, 1).reshape(batch, height, width * channels)
    rows = torch.bmm(along_y.flatten(1, 2).to(rows.dtype), rows)
    rows = rows.view(batch, -1, bins, width, channels)
    pooled: Tensor = torch.matmul(along_x[:, :, None].to(rows.dtype), rows)
    return pooled


def bin_weights(start: Tensor, end: Tensor, cells: int, bins: int, samples: int) -> Tensor:
    """Return [B, R, bins, cells]: the weight of each cell along one side in each bin of the regions ``start``..``end``.

    As in torchvision's kernel (aligned=False), a region is at least one cell wide. Samples up to one cell outside take
    the border's value, those farther out are zero.
    """
    length = (end - start).clamp(min=1.0)
    fractions = (torch.arange(bins * samples, device=start.device, dtype=start.dtype) + 0.5) / (bins * samples)
    points = start[..., None] + fractions * length[..., None]
    inside = (points >= -1.0) & (points <= cells)
    points = points.clamp(0.0, cells - 1.0)
    grid = torch.arange(cells, device=start.device, dtype=start.dtype)
    hat = (1.0 - (points[..., None] - grid).abs()).clamp(min=0.0) * inside[..., None]
    return hat.view(*start.shape, bins, samples, cells).mean(-2)
