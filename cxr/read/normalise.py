"""Steps that bring films of any maker to one look, without a window: by their histogram, or by their detail.

Two makers' films of one chest differ in their tone curve and in how strongly they bring out structures of each size.
The first step below undoes any tone curve, the second evens out the sizes. Both need a picture in 0..1 with air dark,
so neither can be the first of its chain. What they measure they measure on the middle of the film, because shutters,
letters and the air beside the patient tell of none of its tissue. Their references are settings, which a checkpoint
keeps: what a film becomes never depends on other films.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from cxr.read.intensity import Step
from cxr.read.radiograph import Radiograph

Values = NDArray[np.float32]

_MIDDLE = 0.1
"""Share of height and width that is left out at each edge."""
_COUNTED = 512
"""A histogram is taken of about so many rows and columns: 250,000 pixels tell as much as five million."""
_GAINS = (0.1, 10.0)
"""A band is never amplified more than this: one of noise alone, on a blank film, would fill the picture."""


@dataclass(frozen=True)
class MatchedHistogram(Step):
    """Gives the middle of every film the same histogram (Nyúl, Udupa and Zhang, IEEE TMI 19, 2000: landmarks).

    The curve runs through the film's quantiles and those of the reference, straight between them, and is constant
    beyond them. Of pixels of one value, such as a black border, the lowest reference counts, so air stays dark. A
    constant film becomes 0.

    Args:
        reference: values in 0..1 that the film's quantiles become, never falling. They stand for equal steps from the
            smallest to the largest value: of five, the third is the median.
    """

    reference: Sequence[float]

    def __post_init__(self) -> None:
        reference = tuple(float(value) for value in self.reference)
        if len(reference) < 2 or reference[0] < 0 or reference[-1] > 1 or list(reference) != sorted(reference):
            raise ValueError(f"reference is {list(reference)}, expected at least two values in 0..1 that never fall")
        object.__setattr__(self, "reference", reference)  # YAML gives lists; equal settings give equal fingerprints

    def __call__(self, values: Values, radiograph: Radiograph) -> Values:
        """Return the picture with the reference's histogram."""
        quantiles = np.quantile(_sampled(_middle(values)), np.linspace(0, 1, len(self.reference)))
        levels, first = np.unique(quantiles, return_index=True)
        if len(levels) < 2:
            return np.zeros_like(values)
        reference = np.array(self.reference)[first]
        reference[-1] = self.reference[-1]  # a white rim of equal pixels is white
        return np.asarray(np.interp(values, levels, reference), np.float32)


@dataclass(frozen=True)
class BandEnergy(Step):
    """Gives structures of each size the same strength on every film (Philipsen et al., IEEE TMI 34, 2015).

    A film is the sum of a Laplacian pyramid's bands: structures above about 1/8 of its longest side, 1/8 to 1/16, and
    so on. Each band has half the pixels of the next finer one, and the coarsest 8 to 15 along the longest side, so
    films of 1920 and of 2048 pixels are divided at sizes that differ by nearly a factor of two.

    The energy of a band is its standard deviation in the middle of the film. Each band is multiplied by the reference's
    energy over its own, at most tenfold either way; the mean becomes ``level``. A film of less contrast, or with
    stronger edges, then gives the same picture. A constant film becomes ``level`` everywhere.

    Args:
        energies: standard deviation that each band gets, in 0..1 of the picture, the largest structures first. Finer
            bands than those take the factor of the last one.
        level: mean of the picture, 0..1.
    """

    energies: Sequence[float]
    level: float = 0.5

    def __post_init__(self) -> None:
        energies = tuple(float(energy) for energy in self.energies)
        if not energies or not all(0 < energy <= 1 for energy in energies):
            raise ValueError(f"energies are {list(energies)}, expected at least one above 0, at most 1")
        if not 0 <= self.level <= 1:
            raise ValueError(f"level is {self.level}, expected 0..1")
        object.__setattr__(self, "energies", energies)

    def __call__(self, values: Values, radiograph: Radiograph) -> Values:
        """Return the picture with the reference's energies, cut to 0..1."""
        coarse, *bands = _bands(values.reshape(-1, *values.shape[-2:]))  # a film is a stack of one slice
        picture = (coarse - _middle(coarse).mean()) * np.float32(_gain(self.energies[0], coarse))
        gain = 1.0
        for number, band in enumerate(bands, start=1):
            gain = _gain(self.energies[number], band) if number < len(self.energies) else gain
            picture = _enlarged(picture, band) + np.float32(gain) * band
        return np.asarray(np.clip(picture + np.float32(self.level), 0, 1), np.float32).reshape(values.shape)


def _middle(values: Values) -> Values:
    """Return the middle of a film, or of each slice."""
    height, width = values.shape[-2:]
    top, left = int(height * _MIDDLE), int(width * _MIDDLE)
    return values[..., top : height - top, left : width - left]


def _sampled(values: Values) -> Values:
    step = max(1, max(values.shape[-2:]) // _COUNTED)
    return values[..., ::step, ::step]


def _bands(slices: Values) -> list[Values]:
    """Return the bands of slices [N, H, W], whose sum they are, the largest structures first: at 8 to 15 pixels."""
    bands: list[Values] = []
    rest = slices
    while max(rest.shape[1:]) >= 16:
        smaller: Values = np.stack([cv2.pyrDown(slice_) for slice_ in rest]).astype(np.float32)
        bands.append(rest - _enlarged(smaller, rest))
        rest = smaller
    return [rest, *reversed(bands)]


def _enlarged(smaller: Values, like: Values) -> Values:
    height, width = like.shape[1:]
    return np.stack([cv2.pyrUp(slice_, dstsize=(width, height)) for slice_ in smaller])


def _gain(energy: float, band: Values) -> float:
    """Return what a band is multiplied by."""
    present = max(float(_middle(band).std()), 1e-9)  # a blank film has bands of nothing
    return float(np.clip(energy / present, *_GAINS))
