"""What differs between the X-ray machines of hospitals, as albumentations transforms; conf/augment/hospitals.yaml.

albumentations has noise, blur and resolution. It has none of these five: a window that starts from the film's range,
one contrast for lung and another for dense tissue, local contrast by size of structure, collimator blades, letters. All
take a film [h, w] or [h, w, C] of float32 in 0..1 with air dark, and draw from the generator of their chain.

Blades and letters must not hide what a reader marked. So ``Augment`` hands the film's boxes to them, as ``boxes``.
"""

from collections.abc import Sequence
from math import exp, log
from typing import Any

import albumentations as A  # noqa: N812  the name its documentation uses
import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.float32]
_FONT = cv2.FONT_HERSHEY_DUPLEX
_TRIES = 8


class Rewindow(A.ImageOnlyTransform):
    """Shows the film through another window: dim, pale, or saturated, as exposure and export leave it.

    A bright marker that decides the range of an export leaves the chest in its lowest third; a narrow window saturates
    half of it. A change of brightness by so much of full scale would do little to the one and destroy the other. So
    what is drawn is where the film's own dark and bright tissue come to lie.

    Args:
        dark: smallest and largest value that the film's 2nd percentile becomes; below 0 it saturates.
        bright: the same for its 98th percentile; above 1 it saturates.
        p: probability.
    """

    def __init__(
        self, dark: Sequence[float] = (-0.1, 0.2), bright: Sequence[float] = (0.4, 1.3), p: float = 0.5
    ) -> None:
        super().__init__(p=p)
        if not dark[0] <= dark[1] < bright[0] <= bright[1]:
            raise ValueError(f"dark is {list(dark)} and bright {list(bright)}, expected two rising ranges, dark below")
        self.dark, self.bright = tuple(dark), tuple(bright)

    def get_params(self) -> dict[str, Any]:
        """Return where dark and bright come to lie."""
        return {"dark": self.py_random.uniform(*self.dark), "bright": self.py_random.uniform(*self.bright)}

    def apply(self, img: Picture, dark: float, bright: float, **params: Any) -> Picture:
        """Return the film in its new range; a film of one value stays as it is."""
        low, high = np.percentile(img[::4, ::4], (2, 98))  # every 16th pixel tells as much
        if not high > low:
            return img
        slope = float((bright - dark) / (high - low))
        return np.asarray(np.clip(img * slope + (dark - low * slope), 0, 1), np.float32)


class TissueGamma(A.ImageOnlyTransform):
    """Changes the contrast of lung and of dense tissue, each by a gamma of its own, as another tube voltage does.

    With more kilovolt, bone and mediastinum absorb less, while the lung hardly changes; makers' tone curves then treat
    the two ends of the scale differently as well. The film's mean divides its values into dark and bright ones. Both
    gammas leave 0, 1 and the mean where they are, so the curve never falls and has no step.

    Args:
        limit: smallest and largest gamma, both above 0; a factor and its inverse are equally likely.
        p: probability.
    """

    def __init__(self, limit: Sequence[float] = (0.7, 1.4), p: float = 0.5) -> None:
        super().__init__(p=p)
        self.limit = _factors("gamma limit", limit)

    def get_params(self) -> dict[str, Any]:
        """Return a gamma for the dark and one for the bright values."""
        return {"dark": _factor(self, self.limit), "bright": _factor(self, self.limit)}

    def apply(self, img: Picture, dark: float, bright: float, **params: Any) -> Picture:
        """Return the film after both gammas."""
        middle = np.clip(img.mean(axis=(0, 1)), np.float32(0.05), np.float32(0.95))  # of each channel
        below = middle * np.asarray(cv2.pow(np.clip(img / middle, 0, 1), dark))
        above = (1 - middle) * np.asarray(cv2.pow(np.clip((1 - img) / (1 - middle), 0, 1), bright))
        return np.asarray(np.where(img < middle, below, 1 - above), np.float32)


class LocalContrast(A.ImageOnlyTransform):
    """Makes structures of each size stand out more or less, as the processing of makers does.

    Unsharp masks and multi-scale processing (MUSICA: Vuylsteke and Schoeters, SPIE 2167, 1994) split a film into bands
    by size and amplify each. Here the bands are those of a Laplacian pyramid: structures of about 1, 2, 4, 8 … pixels.
    What is larger than all bands stays as it is.

    Args:
        limit: smallest and largest factor of a band, both above 0; a factor and its inverse are equally likely.
        levels: number of bands.
        p: probability.
    """

    def __init__(self, limit: Sequence[float] = (0.6, 1.7), levels: int = 4, p: float = 0.5) -> None:
        super().__init__(p=p)
        if levels < 1:
            raise ValueError(f"levels is {levels}, expected at least 1")
        self.limit, self.levels = _factors("local contrast limit", limit), levels

    def get_params(self) -> dict[str, Any]:
        """Return a factor for each band, that of the smallest structures first."""
        return {"factors": [_factor(self, self.limit) for _ in range(self.levels)]}

    def apply(self, img: Picture, factors: Sequence[float], **params: Any) -> Picture:
        """Return the film with its bands amplified."""
        bands: list[Picture] = []
        rest = img
        for _ in factors:
            smaller = np.asarray(cv2.pyrDown(rest), np.float32)
            bands.append(rest - _enlarged(smaller, rest))
            rest = smaller
        for band, factor in zip(reversed(bands), reversed(factors), strict=True):
            rest = _enlarged(rest, band) + np.float32(factor) * band
        return np.asarray(np.clip(rest, 0, 1), np.float32)


class Shutters(A.ImageOnlyTransform):
    """Covers the rim of the film with slightly tilted collimator blades, black or white.

    Behind a blade no dose arrives: a detector shows that as white, and many makers paint it black afterwards. No blade
    covers more than a part of any box, so that a box still says where its finding is.

    Args:
        depth: largest share of the film's width or height that a blade covers.
        spared: largest share of a box's width or height that a blade covers, in 0..0.5.
        white: probability that the blades are white.
        p: probability.
    """

    def __init__(self, depth: float = 0.12, spared: float = 0.1, white: float = 0.3, p: float = 0.5) -> None:
        super().__init__(p=p)
        if not (0 < depth < 0.5 and 0 <= spared <= 0.5 and 0 <= white <= 1):
            raise ValueError(
                f"depth is {depth}, spared {spared}, white {white}; expected 0 < depth < 0.5, spared in 0..0.5, "
                "white in 0..1"
            )
        self.depth, self.spared, self.white = depth, spared, white

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Return the corners of the four blades and their grey value."""
        height, width = params["shape"][:2]
        near, far = _reach(data["boxes"], self.spared, width, height)
        limits = np.minimum(np.concatenate([near, far]), self.depth * np.array([width, height, width, height]))
        # Blades at the left, the top, the right and the bottom: how deep each is at its two ends, in whole pixels
        ends = np.floor(np.clip(limits * self._shares(), 0, None)).astype(int).T
        value = 1.0 if self.py_random.random() < self.white else 0.0
        return {"blades": _blades(ends, width, height), "value": value}

    def _shares(self) -> NDArray[np.float64]:
        """Return [2, 4], the share of its limit that each blade covers at its two ends, which differ a little."""
        middle = np.array([self.py_random.random() for _ in range(4)])
        tilt = np.array([self.py_random.uniform(-0.3, 0.3) for _ in range(4)])
        return np.asarray(np.clip([middle - tilt, middle + tilt], 0, 1))

    def apply(self, img: Picture, blades: Sequence[NDArray[np.int32]], value: float, **params: Any) -> Picture:
        """Return the film with its blades."""
        covered = np.ascontiguousarray(img).copy()
        for blade in blades:
            cv2.fillConvexPoly(covered, blade, (value,) * 4)
        return covered


class Letters(A.ImageOnlyTransform):
    """Burns side letters and short notes into the film, as radiographers and consoles do.

    A letter lies near an edge and never on the inner half of a box. "R" lies at the left of the film, which is the
    patient's right, and "L" at the right: no letter may contradict where the heart is.

    Args:
        notes: texts that may lie anywhere near the top or the bottom.
        most: largest number of texts on a film.
        height: smallest and largest height of a text, as a share of the film's height.
        p: probability.
    """

    def __init__(
        self,
        notes: Sequence[str] = ("AP", "PA", "PORTABLE", "SUPINE", "ERECT", "10:42"),
        most: int = 2,
        height: Sequence[float] = (0.025, 0.06),
        p: float = 0.5,
    ) -> None:
        super().__init__(p=p)
        if most < 1:
            raise ValueError(f"most is {most}, expected at least 1")
        self.notes, self.most, self.height = tuple(notes), most, _factors("height", height)

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Return what is written where: corner x, y and grey value of each text."""
        shape = params["shape"][:2]
        drawn = [self._drawn(shape, data["boxes"]) for _ in range(self.py_random.randint(1, self.most))]
        return {"texts": [text for text in drawn if text is not None]}

    def _drawn(self, shape: tuple[int, int], boxes: NDArray[np.float32]) -> tuple[Picture, int, int, float] | None:
        """Return the mask of a text with its corner and value; None where no place for it was free."""
        rows, columns = shape
        text = self.py_random.choice(("R", "L", *self.notes))
        mask = _written(text, round(rows * self.py_random.uniform(*self.height)))
        high, wide = mask.shape
        if high > rows or wide > columns:
            return None
        for _ in range(_TRIES):
            across = self.py_random.random() * {"R": 0.25}.get(text, 1.0)
            across = 1 - across / 4 if text == "L" else across
            x, y = int(across * (columns - wide)), int(self._down() * (rows - high))
            if not _on_inner_half((x, y, x + wide, y + high), boxes):
                return mask, x, y, self.py_random.uniform(0.6, 1.0)
        return None

    def _down(self) -> float:
        """Return how far down a text stands, 0..1: in the upper or the lower quarter."""
        quarter = self.py_random.random() / 4
        return quarter if self.py_random.random() < 0.7 else 1 - quarter  # most stand above the shoulders

    def apply(self, img: Picture, texts: Sequence[tuple[Picture, int, int, float]], **params: Any) -> Picture:
        """Return the film with its texts."""
        written = img.copy()
        for mask, x, y, value in texts:
            place = written[y : y + mask.shape[0], x : x + mask.shape[1]]
            cover = mask if img.ndim == 2 else mask[..., None]
            place += cover * (np.float32(value) - place)
        return written


def _factors(name: str, limit: Sequence[float]) -> tuple[float, float]:
    low, high = limit
    if not 0 < low <= high:
        raise ValueError(f"{name} is {list(limit)}, expected two numbers above 0, the smaller one first")
    return float(low), float(high)


def _factor(transform: A.BasicTransform, limit: tuple[float, float]) -> float:
    """Return a factor drawn evenly on a logarithmic scale."""
    return exp(transform.py_random.uniform(log(limit[0]), log(limit[1])))


def _enlarged(smaller: Picture, like: Picture) -> Picture:
    return np.asarray(cv2.pyrUp(smaller, dstsize=(like.shape[1], like.shape[0])), np.float32)


def _reach(boxes: NDArray[np.float32], spared: float, width: int, height: int) -> tuple[Any, Any]:
    """Return how far blades may reach from left and top, and from right and bottom, in pixels."""
    sides = np.array([width, height], float)
    if not len(boxes):
        return sides, sides
    part = spared * (boxes[:, 2:] - boxes[:, :2])
    return (boxes[:, :2] + part).min(axis=0), (sides - boxes[:, 2:] + part).min(axis=0)


def _blades(ends: NDArray[np.int64], width: int, height: int) -> list[NDArray[np.int32]]:
    """Return the corners of those blades that cover a pixel at both ends; OpenCV fills the pixels on an outline too."""
    right, bottom = width - 1, height - 1
    (l0, l1), (t0, t1), (r0, r1), (b0, b1) = (ends - 1).tolist()
    corners = (
        [(0, 0), (l0, 0), (l1, bottom), (0, bottom)],
        [(0, 0), (right, 0), (right, t1), (0, t0)],
        [(right, 0), (right, bottom), (right - r1, bottom), (right - r0, 0)],
        [(0, bottom), (0, bottom - b0), (right, bottom - b1), (right, bottom)],
    )
    return [np.array(blade, np.int32) for blade, deep in zip(corners, ends, strict=True) if deep.min() > 0]


def _written(text: str, height: int) -> Picture:
    """Return a text as a mask [h, w] in 0..1 whose capitals are about ``height`` pixels high."""
    scale = max(height, 5) / 21  # capitals of this font are 21 pixels high at scale 1
    thickness = max(1, round(2 * scale))
    (wide, high), _ = cv2.getTextSize(text, _FONT, scale, thickness)
    mask = np.zeros((high + 2 * thickness, wide + 2 * thickness), np.uint8)
    cv2.putText(mask, text, (thickness, high + thickness), _FONT, scale, 255, thickness, cv2.LINE_AA)
    return mask.astype(np.float32) / np.float32(255)


def _on_inner_half(place: tuple[int, int, int, int], boxes: NDArray[np.float32]) -> bool:
    """Whether a place xyxy meets the inner half of any box, which is half as wide and half as high."""
    if not len(boxes):
        return False
    quarter = (boxes[:, 2:] - boxes[:, :2]) / 4
    first, last = boxes[:, :2] + quarter, boxes[:, 2:] - quarter
    x0, y0, x1, y1 = place
    meets = (first[:, 0] < x1) & (last[:, 0] > x0) & (first[:, 1] < y1) & (last[:, 1] > y0)
    return bool(meets.any())
