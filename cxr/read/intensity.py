"""Steps that turn the values of a film into a float32 picture in 0..1 with air dark; conf/intensity/ combines them.

The first step takes the values after the modality LUT or rescale. It and every later step return values in 0..1 with
air dark. All steps are frozen dataclasses, so that a cache key can contain their arguments. ``Intensity`` is one chain
of steps for all films; ``cxr.read.modality`` chooses among several chains.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, is_dataclass, replace
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from cxr.read.preprocessing import RADIOGRAPH, Preprocessing
from cxr.read.radiograph import Radiograph, ReadError, Window, stretch

Values = NDArray[np.float32]

_RADIOGRAPHS = ("CR", "DX", "RG", "DR", "")  # "" because PNG, JPEG and TIFF files have no Modality
_MOST_CHANNELS = 4  # OpenCV resizes and fills at most so many at once


class Step(ABC):
    """One step of a chain; a frozen dataclass, so that a cache key can contain its settings.

    ``pointwise`` means that the new value of a pixel depends only on its old value and on the film's smallest and
    largest one. Such steps at the head of a chain are computed once for each possible value, not once for each pixel.
    """

    pointwise: ClassVar[bool] = False

    @property
    def channels(self) -> int:
        """Number of pictures that the step makes from one; a step that makes several must be the last of its chain."""
        return 1

    @abstractmethod
    def __call__(self, values: Values, radiograph: Radiograph) -> Values:
        """Return ``values`` [..., H, W] float32, of a film or a stack of slices, after this step; same shape.

        A step of several channels returns [C, ..., H, W].
        """


class Intensity(Preprocessing):
    """A chain of steps from a radiograph to the picture that a detector takes, the same for every film.

    Args:
        steps: the steps in the order in which they are applied.
    """

    def __init__(self, steps: Sequence[Step]) -> None:
        if not steps:
            raise ValueError("an intensity needs at least one step")
        for step in steps:
            if not is_dataclass(step):
                raise TypeError(f"intensity step {step!r} is no dataclass, so its settings cannot stand in a cache key")
        if inner := next((step for step in steps[:-1] if step.channels != 1), None):
            raise ValueError(f"intensity step {inner!r} makes {inner.channels} channels: it must be the last step")
        self.steps = tuple(steps)
        self.channels = steps[-1].channels
        self._at_head = next((n for n, step in enumerate(steps) if not step.pointwise), len(steps))

    def __call__(self, radiograph: Radiograph) -> Values:
        """Return the film. Raises ``ReadError`` if the steps give anything but 0..1."""
        values = self._looked_up(radiograph)
        for step in self.steps[self._at_head :]:
            values = step(values, radiograph)
        return self._checked(values, radiograph.pixels.shape, radiograph.path)

    def of_values(self, values: Values, radiograph: Radiograph) -> Values:
        """Return ``values`` after all steps. Raises ``ReadError`` if these give anything but 0..1."""
        shape = values.shape
        for step in self.steps:
            values = step(values, radiograph)
        return self._checked(values, shape, radiograph.path)

    def kind(self, modality: str, body_part: str, path: Path) -> str:
        """Return "radiograph" for CR, DX, RG, DR or no Modality, else the Modality. No film is refused."""
        return RADIOGRAPH if modality.upper() in _RADIOGRAPHS else modality.upper()

    def _checked(self, values: Values, shape: tuple[int, ...], path: Path) -> Values:
        expected = shape if self.channels == 1 else (self.channels, *shape)
        low, high = float(values.min()), float(values.max())  # NaN and infinity both fail the next line
        if not (low >= 0 and high <= 1 and values.shape == expected):
            raise ReadError(
                f"{path}: {self.fingerprint()} gave values {low}..{high} of shape {values.shape}, "
                f"expected 0..1 of shape {expected}"
            )
        return values.astype(np.float32, copy=False)

    def _looked_up(self, radiograph: Radiograph) -> Values:
        """Return the film after the pointwise steps at the head of the chain, from a table where that is exact."""
        stored = radiograph.pixels
        low, high = int(stored.min()), int(stored.max())
        # The table holds values that no pixel has. A modality LUT could make these the smallest or largest ones
        if high - low >= stored.size or radiograph.modality_lut is not None:
            return self._head(radiograph)
        table = self._head(replace(radiograph, pixels=np.arange(low, high + 1).astype(stored.dtype)[None]))
        places = np.subtract(stored, low, dtype=np.int64 if low < 0 else stored.dtype)
        if table.ndim == 2:
            return np.asarray(np.take(table, places, mode="wrap"))  # no place is outside the table; "wrap" is fastest
        return np.stack([np.take(channel, places, mode="wrap") for channel in table])

    def _head(self, radiograph: Radiograph) -> Values:
        values = radiograph.values()
        for step in self.steps[: self._at_head]:
            values = step(values, radiograph)
        return values

    def fingerprint(self) -> str:
        """Return the steps with their arguments."""
        return " > ".join(repr(step) for step in self.steps)


@dataclass(frozen=True)
class LogWindow(Step):
    """The course's log window: ``x = clip(pixel, WC - WW/2, WC + WW/2)``, ``-ln((1 + x) / 2^BitsStored) / scale``.

    The formula is meant for stored values of MONOCHROME1 films (air high), which its minus sign turns into air dark.
    A film must give the same picture however it is stored. So after the clip, rescale and sign are undone (the smallest
    value that the bits can hold becomes 0, the largest 2^BitsStored - 1) and MONOCHROME2 is mirrored. An unsigned
    MONOCHROME1 film without rescale stays as it is. 1 + x is never below 1, so windows that begin below 0 give no NaN.
    A film without a window is not clipped.

    Args:
        scale: logarithm that becomes 1; 2.5 means a range of 1:12 in transmitted dose.
        window: index of the film's window, from 0.
    """

    pointwise = True

    scale: float = 2.5
    window: int = 0

    def __call__(self, values: Values, radiograph: Radiograph) -> Values:
        """Return ``values`` (after rescale) through the log window, air dark."""
        low, high = radiograph.value_range
        if radiograph.windows:
            window = _window(radiograph, self.window)
            values = np.clip(values, window.center - window.width / 2, window.center + window.width / 2)
        top = 2**radiograph.bits_stored - 1
        x = np.clip((values - np.float32(low)) * np.float32(top / max(high - low, 1e-6)), 0, top)
        if radiograph.photometric_interpretation == "MONOCHROME2":
            x = np.float32(top) - x
        return np.asarray(np.clip(-np.log((1 + x) / np.float32(top + 1)) / np.float32(self.scale), 0, 1), np.float32)


@dataclass(frozen=True)
class VoiWindow(Step):
    """Shows a film as a workstation does: by one of its VOI LUTs or windows, then by polarity (``Radiograph.display``).

    Args:
        window: index of the view, from 0. The file's VOI LUTs come first, then its windows.
    """

    pointwise = True

    window: int = 0

    def __call__(self, values: Values, radiograph: Radiograph) -> Values:
        """Return ``values`` (after rescale) through the view, air dark."""
        return radiograph.air_dark(radiograph.voi(values, self.window))


@dataclass(frozen=True)
class FullRange(Step):
    """Stretches a film from its smallest to its largest value, whatever windows it has; air dark."""

    pointwise = True

    def __call__(self, values: Values, radiograph: Radiograph) -> Values:
        """Return ``values`` (after rescale) stretched to 0..1, air dark."""
        return radiograph.air_dark(stretch(values, float(values.min()), float(values.max())))


@dataclass(frozen=True)
class Percentile(Step):
    """Simplest colour balance (Limare et al., IPOL 2011): the extremes saturate, the rest is stretched.

    It needs a picture in 0..1, so it cannot be the first step. A constant picture becomes 0.

    Args:
        low, high: percentiles that become 0 and 1, in 0..100.
    """

    low: float = 1.0
    high: float = 99.0

    def __post_init__(self) -> None:
        if not 0 <= self.low < self.high <= 100:
            raise ValueError(f"percentiles are {self.low} and {self.high}, expected 0 <= low < high <= 100")

    def __call__(self, values: Values, radiograph: Radiograph) -> Values:
        """Return the picture with its percentiles at 0 and 1."""
        low, high = np.percentile(values, (self.low, self.high))
        return stretch(values, float(low), float(high))


@dataclass(frozen=True)
class Despeckle(Step):
    """Removes white dots: a pixel far above the median around it becomes that median, all others stay as they are.

    It needs a picture in 0..1. Dots of up to half the neighbourhood's area disappear. Straight edges, and lines wider
    than half its side, do not change in any bit.

    Args:
        size: side of the neighbourhood in pixels of the original film, 3 or 5.
        excess: a pixel is a dot if it is more than this above the median, 0..1.
    """

    size: int = 5
    excess: float = 0.1

    def __post_init__(self) -> None:
        if self.size not in (3, 5):  # OpenCV's median of float32 takes no other sizes
            raise ValueError(f"despeckle size is {self.size}, expected 3 or 5")
        if not 0 < self.excess <= 1:
            raise ValueError(f"despeckle excess is {self.excess}, expected above 0, at most 1")

    def __call__(self, values: Values, radiograph: Radiograph) -> Values:
        """Return the picture without dots."""
        median = np.empty(values.shape, np.float32)
        for slice_ in np.ndindex(values.shape[:-2]):  # a film counts as one slice
            median[slice_] = cv2.medianBlur(np.ascontiguousarray(values[slice_]), self.size)
        return np.where(values - median > np.float32(self.excess), median, values)


@dataclass(frozen=True)
class CtWindow(Step):
    """A window in Hounsfield units; the windows of the file are not used.

    Args:
        center, width: in HU.
    """

    pointwise = True

    center: float
    width: float

    def __post_init__(self) -> None:
        Window(self.center, self.width)

    def __call__(self, values: Values, radiograph: Radiograph) -> Values:
        """Return ``values`` (HU, after rescale) through the window, air dark."""
        return radiograph.air_dark(Window(self.center, self.width, "LINEAR_EXACT").apply(values))


@dataclass(frozen=True)
class CtWindows(Step):
    """Several windows in Hounsfield units, one for each channel, as a radiologist switches between them.

    12 bits of HU do not fit one window: a lung window shows all of the mediastinum in one grey, a mediastinal window
    shows the lung black. This must be the last step of its chain.

    Args:
        windows: two to four pairs (center, width) in HU, in the order of the channels.
    """

    pointwise = True

    windows: Sequence[Sequence[float]]

    def __post_init__(self) -> None:
        if not 2 <= len(self.windows) <= _MOST_CHANNELS:
            raise ValueError(f"windows are {self.windows}, expected 2 to {_MOST_CHANNELS}; for one window use CtWindow")
        if wrong := [window for window in self.windows if len(window) != 2]:
            raise ValueError(f"a window is {wrong[0]}, expected [center, width] in HU")
        plain = tuple((float(center), float(width)) for center, width in self.windows)
        object.__setattr__(self, "windows", plain)  # YAML gives lists; equal settings must give equal fingerprints
        self._each()

    @property
    def channels(self) -> int:
        """Number of channels: one for each window."""
        return len(self.windows)

    def __call__(self, values: Values, radiograph: Radiograph) -> Values:
        """Return ``values`` [..., H, W] (HU, after rescale) through each window: [C, ..., H, W], air dark."""
        return np.stack([window(values, radiograph) for window in self._each()])

    def _each(self) -> list[CtWindow]:
        return [CtWindow(center, width) for center, width in self.windows]


@dataclass(frozen=True)
class MrZScore(Step):
    """Robust z-score for MR, whose values have no unit: (value - median) / (1.4826 MAD), ±clip becomes 0..1.

    Median and MAD are those of the pixels above the mean, which leaves out the air around the body. A slice without
    contrast becomes 0.5. The bias field of the coil is not corrected: in one slice it looks like a large bright organ.

    Args:
        clip: z-score that becomes 1; -clip becomes 0.
    """

    clip: float = 3.0

    def __post_init__(self) -> None:
        if not self.clip > 0:
            raise ValueError(f"clip is {self.clip}, expected above 0")

    def __call__(self, values: Values, radiograph: Radiograph) -> Values:
        """Return ``values`` as clipped z-scores in 0..1, air dark."""
        body = values[values > values.mean()] if values.max() > values.min() else values
        median = np.median(body)
        deviation = 1.4826 * np.median(np.abs(body - median)) or float(body.std())
        z = (values - median) / (deviation or 1.0)
        return radiograph.air_dark(np.asarray(np.clip(z / (2 * self.clip) + 0.5, 0, 1), np.float32))


def _window(radiograph: Radiograph, index: int) -> Window:
    if not 0 <= index < len(radiograph.windows):
        raise ReadError(f"{radiograph.path}: window {index} does not exist, the file has {len(radiograph.windows)}")
    return radiograph.windows[index]
