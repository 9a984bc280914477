"""Resamples a volume to a cube of cubic voxels, along each axis with a matrix of weights."""

import numpy as np
from numpy.typing import NDArray

from cxr.data.series import Triple, Values

AIR_HU = -1000.0


def to_cube(
    values: Values, spacing_mm: Triple, size: int, voxel_mm: float | None = None, fill: float | None = None
) -> tuple[Values, float]:
    """Return float32 [size, size, size] of cubic voxels around the volume's centre, and the side of a voxel in mm.

    Along an axis on which voxels get larger, a new voxel is the mean of all that it covers, so nothing small is lost.
    Where they get smaller, values are interpolated linearly. Coordinates refer to the edges of voxels: N voxels are N
    spacings long.

    Args:
        values: values of the volume, float32 [D, H, W].
        spacing_mm: distance of voxel centres along D, H, W.
        size: number of voxels along each side of the cube.
        voxel_mm: side of a new voxel; the volume outside the cube is cut off. None chooses the side so that the cube
            holds the whole volume.
        fill: value outside the volume; None means the minimum of the volume.
    """
    if size < 1 or min(spacing_mm) <= 0 or (voxel_mm is not None and voxel_mm <= 0):
        raise ValueError(f"size is {size}, spacing {spacing_mm} mm, voxel_mm {voxel_mm}; expected numbers above 0")
    lengths = [count * spacing for count, spacing in zip(values.shape, spacing_mm, strict=True)]
    voxel = voxel_mm or max(lengths) / size
    air = float(values.min()) if fill is None else fill
    cube = values.astype(np.float32) - np.float32(air)
    for axis, spacing in enumerate(spacing_mm):
        weights = _weights(values.shape[axis], spacing, size, voxel)
        moved = np.moveaxis(cube, axis, 0)
        flat = weights @ moved.reshape(len(moved), -1)
        cube = np.moveaxis(flat.reshape(size, *moved.shape[1:]), 0, axis)
    return np.ascontiguousarray(cube + np.float32(air), np.float32), float(voxel)


def _weights(count: int, spacing: float, size: int, voxel: float) -> Values:
    """Return [size, count]: the weight of each old voxel in each new one. Rows sum to the share that is covered."""
    # counted in old voxels from the edge of the first one
    edges = np.asarray((np.arange(size + 1) - size / 2) * (voxel / spacing) + count / 2, np.float64)
    if voxel > spacing:
        weights = np.clip(_overlap(edges, count), 0, None) * (spacing / voxel)
    else:
        weights = _linear((edges[1:] + edges[:-1]) / 2, count)
    return weights.astype(np.float32)


def _overlap(edges: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Return [size, count]: the length that a new and an old voxel have in common, below 0 if they do not touch."""
    old = np.arange(count)
    return np.minimum(edges[1:, None], old + 1) - np.maximum(edges[:-1, None], old)


def _linear(centres: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Return [size, count]: weights of linear interpolation; between an outer centre and the edge, the outer voxel."""
    weights = np.zeros((len(centres), count))
    inside = (centres >= 0) & (centres <= count)
    at = np.clip(centres - 0.5, 0, count - 1)
    before = np.minimum(at.astype(int), max(count - 2, 0))
    rows = np.flatnonzero(inside)
    weights[rows, before[rows]] = (1 - (at - before))[rows]
    after = np.minimum(before + 1, count - 1)
    weights[rows, after[rows]] += (at - before)[rows]
    return weights
