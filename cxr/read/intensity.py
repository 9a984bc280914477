"""Values of a film → float32 picture in 0..1 with air dark, in small steps that are put together in conf/intensity/.

The first step starts from the values after the modality LUT or rescale and ends, like every later one, in 0..1 with
air dark. All steps are frozen dataclasses, so that their arguments can stand in a cache key. ``Intensity`` is one chain
for all films; ``cxr.read.modality`` chooses among several.
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

_RADIOGRAPHS = ("CR", "DX", "RG", "DR", "")  # pictures have no Modality
_MOST_CHANNELS = 4  # that OpenCV resizes and fills at once


class Step(ABC):
    """One step of a chain; a frozen dataclass, so that its settings can stand in a cache key.

    ``pointwise`` says that what becomes of a pixel depends on its own value and on the film's smallest and largest
    alone. Such steps at the head of a chain are worked out once a value that the film may hold, not once a pixel.
    """

    pointwise: ClassVar[bool] = False

    @property
    def channels(self) -> int:
        """Pictures it makes of one; a step that makes several ends its chain."""
        return 1

    @abstractmethod
    def __call__(self, values: Values, radiograph: Radiograph) -> Values:
        """Return ``values`` [..., H, W] float32, of a film or a stack of slices, after this step, in their shape.

        A step of several channels returns [C, ..., H, W].
        """


class Intensity(Preprocessing):
    """A chain of steps from a radiograph to the picture a detector sees, the same for every film.

    Args:
        steps: in their order; see the module.
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
        """Return "radiograph" for CR, DX, RG, DR and what has no Modality, else the Modality; all are taken."""
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
        """Return the film after the steps at the head of the chain: bit for bit what they make of each pixel."""
        stored = radiograph.pixels
        low, high = int(stored.min()), int(stored.max())
        # Between two stored values a modality LUT may go beyond those of the film, a rescale does not
        if high - low >= stored.size or radiograph.modality_lut is not None:
            return self._head(radiograph)
        table = self._head(replace(radiograph, pixels=np.arange(low, high + 1).astype(stored.dtype)[None]))
        places = np.subtract(stored, low, dtype=np.int64 if low < 0 else stored.dtype)
        if table.ndim == 2:
            return np.asarray(np.take(table, places, mode="wrap"))  # all lie within, and this is the fastest mode
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

    The formula counts in stored values and, by its minus sign, turns MONOCHROME1 (air high) into air dark. So that
    one film gives one picture however it is stored, x is first brought to that footing: rescale and sign are undone
    (the smallest value its bits can hold counts 0, the largest 2^BitsStored - 1) and MONOCHROME2 is mirrored, after
    the clip. For an unsigned MONOCHROME1 film without rescale nothing is changed. 1 + x is never below 1, so there is
    no NaN for windows that reach under 0. Without a window nothing is clipped.

    Args:
        scale: the logarithm that becomes 1; 2.5 is a range of 1:12 in transmitted dose.
        window: which of the film's windows, from 0.
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
    """The film as a workstation shows it: one of its VOI LUTs or windows, then polarity (``Radiograph.display``).

    Args:
        window: which view, from 0: the file's VOI LUTs first, then its windows.
    """

    pointwise = True

    window: int = 0

    def __call__(self, values: Values, radiograph: Radiograph) -> Values:
        """Return ``values`` (after rescale) through the view, air dark."""
        return radiograph.air_dark(radiograph.voi(values, self.window))


@dataclass(frozen=True)
class FullRange(Step):
    """The film from its smallest to its largest value, whatever windows it has; air dark."""

    pointwise = True

    def __call__(self, values: Values, radiograph: Radiograph) -> Values:
        """Return ``values`` (after rescale) stretched to 0..1, air dark."""
        return radiograph.air_dark(stretch(values, float(values.min()), float(values.max())))


@dataclass(frozen=True)
class Percentile(Step):
    """Simplest colour balance (Limare et al., IPOL 2011): the extremes saturate, the rest is stretched.

    Works on a picture in 0..1, so it stands behind a first step. A constant picture becomes 0.

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
    """Takes white dots off a picture: a pixel far above the median around it becomes that median, the rest stays.

    Works on a picture in 0..1. Dots of up to half the neighbourhood's area go; straight edges, and lines wider than
    half its side, stay bit for bit.

    Args:
        size: side of the neighbourhood, 3 or 5 px (of the original film).
        excess: how far above the median a dot is, 0..1.
    """

    size: int = 5
    excess: float = 0.1

    def __post_init__(self) -> None:
        if self.size not in (3, 5):  # what OpenCV's median takes for float32
            raise ValueError(f"despeckle size is {self.size}, expected 3 or 5")
        if not 0 < self.excess <= 1:
            raise ValueError(f"despeckle excess is {self.excess}, expected above 0, at most 1")

    def __call__(self, values: Values, radiograph: Radiograph) -> Values:
        """Return the picture without dots."""
        median = np.empty(values.shape, np.float32)
        for slice_ in np.ndindex(values.shape[:-2]):  # one, of a film
            median[slice_] = cv2.medianBlur(np.ascontiguousarray(values[slice_]), self.size)
        return np.where(values - median > np.float32(self.excess), median, values)


@dataclass(frozen=True)
class CtWindow(Step):
    """A window in Hounsfield units, whatever window the file has.

    Args:
        center, width: HU.
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
    """Several windows in Hounsfield units, one a channel: what a radiologist switches between, side by side.

    12 bits of HU do not fit one window: the lung window shows the mediastinum as one grey, the mediastinum's shows the
    lung as black. Ends its chain.

    Args:
        windows: two to four of (center, width) in HU; their order is that of the channels.
    """

    pointwise = True

    windows: Sequence[Sequence[float]]

    def __post_init__(self) -> None:
        if not 2 <= len(self.windows) <= _MOST_CHANNELS:
            raise ValueError(f"windows are {self.windows}, expected 2 to {_MOST_CHANNELS}; for one there is CtWindow")
        if wrong := [window for window in self.windows if len(window) != 2]:
            raise ValueError(f"a window is {wrong[0]}, expected [center, width] in HU")
        plain = tuple((float(center), float(width)) for center, width in self.windows)
        object.__setattr__(self, "windows", plain)  # lists come from YAML; one text for one setting, whoever gives it
        self._each()

    @property
    def channels(self) -> int:
        """Pictures it makes of one."""
        return len(self.windows)

    def __call__(self, values: Values, radiograph: Radiograph) -> Values:
        """Return ``values`` [..., H, W] (HU, after rescale) through each window: [C, ..., H, W], air dark."""
        return np.stack([window(values, radiograph) for window in self._each()])

    def _each(self) -> list[CtWindow]:
        return [CtWindow(center, width) for center, width in self.windows]


@dataclass(frozen=True)
class MrZScore(Step):
    """Robust z-score for MR, whose values have no unit: (value - median) / (1.4826 MAD), ±clip becomes 0..1.

    Median and MAD are taken over the pixels above the mean, which leaves out the air around the body. A slice
    without contrast becomes 0.5. The coil's bias field is left alone: what would take it off
    cannot tell it, in one slice, from a large bright organ.

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
