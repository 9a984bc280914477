"""Two views of one film and which places of them are the same: what pretraining without marks compares."""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from cxr.data.augment import Augment

_STRIDE = 32  # of the coarsest map of a backbone; the side of a view is a multiple of it
_INNER = 0.9  # of a view's half side: places nearer to its border have little around them
_TRIES = 8  # places that are drawn for each one that is wanted, as some lie outside the other view or the film
_MOST_DEGREES = 15.0  # with the least share below, two views still have places in common
_LEAST_SHARE = 0.6


class TwoViews(NamedTuple):
    """Two views of a film.

    Args:
        views: float32 [2, side, side], or [2, side, side, C], in 0..1.
        places: float32 [2, N, 2], x and y of N places of the film in the first and in the second view. -1 and 1 are
            opposite borders of the view, as ``torch.nn.functional.grid_sample`` has it without ``align_corners``.
    """

    views: NDArray[np.float32]
    places: NDArray[np.float32]


class Views:
    """Makes two views of a film that differ as two films of one patient may differ.

    A view is a square that is cut out of the film, turned by a few degrees, scaled and changed in its grey values.
    Nothing is mirrored: the heart is on the left. Where a square leaves the film, it is filled with the film's minimum,
    its air. Each view remembers where it was cut, so that a place on the film is known in both.

    Args:
        augment: changes the grey values of each view; its transforms must not move the film.
        side: side of a view in pixels, as a share of the longest side of the network's films; rounded to 32 pixels.
        crop: least and most side of the square on the film, as a share of the film's longest side. The scale of the
            anatomy changes by ``side / crop``.
        rotate: most degrees that a view is turned by, to either side.
        places: number of places of a film whose features are compared.

    Raises ``ValueError`` for settings that leave two views without a place in common.
    """

    def __init__(
        self,
        augment: Augment | None = None,
        side: float = 0.75,
        crop: Sequence[float] = (0.6, 1.0),
        rotate: float = 5.0,
        places: int = 32,
    ) -> None:
        if len(crop) != 2 or not _LEAST_SHARE <= crop[0] <= crop[1] <= 1:
            raise ValueError(f"data.views.crop is {list(crop)}, expected [least, most] within {_LEAST_SHARE} to 1")
        if not 0 <= rotate <= _MOST_DEGREES:
            raise ValueError(f"data.views.rotate is {rotate}, expected 0 to {_MOST_DEGREES:g} degrees")
        if not 0 < side <= 1:
            raise ValueError(f"data.views.side is {side}, expected above 0, at most 1")
        if places < 2:
            raise ValueError(f"data.views.places is {places}, expected at least 2")
        self.augment = augment or Augment()
        self.side = side
        self.crop = (float(crop[0]), float(crop[1]))
        self.rotate = rotate
        self.places = places

    def pixels(self, size: int) -> int:
        """Return the side of a view of films whose longest side is ``size``."""
        return max(1, round(self.side * size / _STRIDE)) * _STRIDE

    def __call__(self, film: NDArray[np.uint16], size: int, seed: int) -> TwoViews:
        """Return two views of a film [h, w] or [h, w, C] for a network of films of ``size``, drawn from ``seed``."""
        rng = np.random.default_rng(seed)
        side = self.pixels(size)
        while True:
            frames = [self._frame(film.shape[:2], side, rng) for _ in range(2)]
            places = self._common_places(frames, film.shape[:2], side, rng)
            if places is not None:
                break
        views = [self._view(film, frame, side, int(rng.integers(2**32))) for frame in frames]
        return TwoViews(np.stack(views), places)

    def _frame(self, shape: tuple[int, ...], side: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """Return the affine map [2, 3] from the film, whose first pixel spans 0..1, to a view."""
        lengths = np.array(shape[::-1], np.float64)  # width and height
        cut = rng.uniform(*self.crop) * lengths.max()
        free = np.maximum(lengths - cut, 0) / 2  # how far the square may move and still lie within the film
        centre = lengths / 2 + rng.uniform(-1, 1, 2) * free
        angle = np.deg2rad(rng.uniform(-self.rotate, self.rotate))
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * side / cut
        return np.column_stack([turn, side / 2 - turn @ centre])

    def _common_places(
        self, frames: Sequence[NDArray[np.float64]], shape: tuple[int, ...], side: int, rng: np.random.Generator
    ) -> NDArray[np.float32] | None:
        """Return places [2, N, 2] that lie in both views and on the film; None where hardly any does."""
        first = rng.uniform(-_INNER, _INNER, (_TRIES * self.places, 2))
        on_film = ((first + 1) * side / 2 - frames[0][:, 2]) @ np.linalg.inv(frames[0][:, :2]).T
        second = (on_film @ frames[1][:, :2].T + frames[1][:, 2]) * 2 / side - 1
        kept = (np.abs(second) <= _INNER).all(1) & (on_film >= 0).all(1) & (on_film <= shape[1::-1]).all(1)
        if kept.sum() < self.places:
            return None
        return np.stack([first[kept], second[kept]])[:, : self.places].astype(np.float32)

    def _view(self, film: NDArray[np.uint16], frame: NDArray[np.float64], side: int, seed: int) -> NDArray[np.float32]:
        air = film.min(axis=(0, 1)).astype(float)
        moved = frame.copy()
        moved[:, 2] += frame[:, :2].sum(1) / 2 - 0.5  # OpenCV's pixel 0 lies at 0, and spans -0.5..0.5
        cut = cv2.warpAffine(film, moved, (side, side), flags=cv2.INTER_LINEAR, borderValue=np.atleast_1d(air).tolist())
        nothing = np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
        return self.augment(np.asarray(cut, np.uint16), *nothing, seed)[0]
