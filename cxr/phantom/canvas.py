"""Turns outlines in millimetres into maps in pixels: how a body lies on a film, and how its parts are drawn."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from cxr.phantom.skeleton import Points, Stroke

Map = NDArray[np.float32]

_SHIFT = 4  # fractional bits of cv2's drawing functions
_COARSE = 256  # pixels along the longest side of maps that have no sharp edges


@dataclass(frozen=True)
class Pose:
    """How the body lies on the film: ``matrix`` [2, 3] maps mm to pixels of a film of ``height`` x ``width``."""

    matrix: NDArray[np.float64]
    height: int
    width: int

    @property
    def scale(self) -> float:
        """Return pixels per mm."""
        return float(np.hypot(*self.matrix[0, :2]))

    def apply(self, points: Points) -> Points:
        """Return points [..., 2] in pixels."""
        pixels: Points = points @ self.matrix[:, :2].T + self.matrix[:, 2]
        return pixels

    def box(self, points: Points) -> NDArray[np.float32]:
        """Return the bounds of points [N, 2] in mm: a box xyxy in pixels, clipped to the film."""
        pixels = self.apply(points)
        corners = np.concatenate([pixels.min(axis=0), pixels.max(axis=0)])
        box: Map = np.clip(corners, 0, [self.width, self.height] * 2).astype(np.float32)
        return box


class Canvas:
    """Draws outlines and strokes in mm as maps float32 [H, W] in 0..1 whose edges are smoothed over ``blur`` mm."""

    def __init__(self, pose: Pose) -> None:
        self.pose = pose
        self.shape = pose.height, pose.width
        self.step = max(1.0, max(self.shape) / _COARSE)
        coarse = round(pose.height / self.step), round(pose.width / self.step)
        inverse = np.linalg.inv(pose.matrix[:, :2])
        grid = np.stack(np.meshgrid(np.arange(coarse[1]) + 0.5, np.arange(coarse[0]) + 0.5), axis=-1) * self.step
        self.grid: Map = ((grid - pose.matrix[:, 2]) @ inverse.T).astype(np.float32)  # mm at each coarse pixel

    def fill(self, outlines: Sequence[Points], blur: float = 0.5) -> Map:
        """Return a map of the union of outlines."""
        picture = np.zeros(self.shape, np.uint8)
        for outline in outlines:
            cv2.fillPoly(picture, [self._fixed(outline)], 255, cv2.LINE_AA, _SHIFT)
        return self._map(picture, blur)

    def stroke(self, *strokes: Stroke, levels: Sequence[float] = (), blur: float = 0.5, wall: float = 0.0) -> Map:
        """Return a map of strokes with values ``levels`` in 0..1 (default 1); later strokes cover earlier ones.

        With ``wall``, the strokes become tubes with walls of so many mm; the inside has two thirds of the wall's value.
        """
        picture = np.zeros(self.shape, np.uint8)
        for stroke, level in zip(strokes, levels or [1.0] * len(strokes), strict=True):
            self._lines(picture, stroke.lines, stroke.width, 255 * level)
            if wall and stroke.width * self.pose.scale > 3:
                inside = [_lengthened(line, wall) for line in stroke.lines]  # so that the ends are open
                self._lines(picture, inside, stroke.width - 2 * wall, 170 * level)
        return self._map(picture, blur)

    def thickness(self, silhouette: Map, saturation: float) -> Map:
        """Return the relative thickness 0..1 of a rounded body: 1 from ``saturation`` mm inside the silhouette on."""
        coarse = self.coarse(silhouette)
        inside = cv2.distanceTransform((coarse > 0.5).astype(np.uint8), cv2.DIST_L2, 3)
        full = saturation * self.pose.scale / self.step
        depth = np.sqrt(1 - (1 - np.minimum(inside, full) / full) ** 2)
        return self.fine(np.asarray(cv2.GaussianBlur(depth.astype(np.float32), (0, 0), 1.5), np.float32))

    def ellipses(self, ellipses: Points) -> Map:
        """Return the summed thickness of ellipsoids [K, 5] (centre, half axes, thickness)."""
        total = np.zeros(self.grid.shape[:2], np.float32)
        for x, y, a, b, thick in ellipses.astype(np.float32):
            rest = 1 - ((self.grid[..., 0] - x) / a) ** 2 - ((self.grid[..., 1] - y) / b) ** 2
            total += thick * np.sqrt(np.clip(rest, 0, None))
        return self.fine(total)

    def bumps(self, bumps: Points) -> Map:
        """Return the sum, on the coarse grid, of Gaussian bumps [K, 5] (centre, radii at 1/e, height)."""
        total = np.zeros(self.grid.shape[:2], np.float32)
        for x, y, a, b, height in bumps.astype(np.float32):
            total += height * np.exp(-(((self.grid[..., 0] - x) / a) ** 2) - ((self.grid[..., 1] - y) / b) ** 2)
        return total

    def coarse(self, fine: Map) -> Map:
        """Return a map on the coarse grid."""
        return np.asarray(cv2.resize(fine, self.grid.shape[1::-1], interpolation=cv2.INTER_AREA), np.float32)

    def fine(self, coarse: Map) -> Map:
        """Return a coarse map at the film's size."""
        return np.asarray(cv2.resize(coarse, self.shape[::-1], interpolation=cv2.INTER_LINEAR), np.float32)

    def texture(self, rng: np.random.Generator, grains: Sequence[float]) -> Map:
        """Return coarse noise of mean 0 and deviation about 1: a sum of noise with grains of these sizes in mm."""
        total = np.zeros(self.grid.shape[:2], np.float32)
        for grain in grains:
            cells = [max(2, round(side / self.pose.scale / grain)) for side in self.shape]
            noise = rng.standard_normal(cells, dtype=np.float32)
            total += cv2.resize(noise, total.shape[::-1], interpolation=cv2.INTER_CUBIC)
        return total / np.float32(np.sqrt(len(grains)) * 0.75)

    def _lines(self, picture: NDArray[np.uint8], lines: Iterable[Points], width: float, level: float) -> None:
        fixed = [self._fixed(line) for line in lines]
        cv2.polylines(picture, fixed, False, level, max(1, round(width * self.pose.scale)), cv2.LINE_AA, _SHIFT)

    def _fixed(self, points: Points) -> NDArray[np.int32]:
        # cv2 has its origin in the middle of the first pixel, boxes have theirs in its corner
        return np.asarray(np.rint((self.pose.apply(points) - 0.5) * 2**_SHIFT), np.int32)

    def _map(self, picture: NDArray[np.uint8], blur: float) -> Map:
        sigma = blur * self.pose.scale
        smooth = cv2.GaussianBlur(picture, (0, 0), sigma) if sigma > 0.3 else picture
        return smooth.astype(np.float32) * np.float32(1 / 255)


def _lengthened(line: Points, by: float) -> Points:
    ends = line[[0, -1]] + by * _unit(line[[0, -1]] - line[[1, -2]])
    return np.concatenate([ends[:1], line, ends[1:]])


def _unit(vectors: Points) -> Points:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True))
