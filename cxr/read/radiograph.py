"""A film in memory: its stored pixels and the grayscale pipeline that turns them into a picture (PS3.3 C.11)."""

import os
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

VOI_FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")

LARGEST, SMALLEST = 1e18, 1e-18
"""Bounds of a film's values and of the width of a window. The quotient of two such numbers still fits float32, whose
largest number is 3.4e38; with larger values a picture could hold infinity or NaN."""

_FLOAT32_STEPS = 2**24  # float32 can distinguish whole numbers up to this


PSEUDONYM_KEY = "CXR_PSEUDONYM_KEY"
"""The environment variable with the secret behind pseudonyms."""


class ReadError(ValueError):
    """The error of a film that cannot be read. Its message names the file, the wrong value and what is allowed."""


def pseudonym(identifier: str) -> str:
    """Return a short stable name for a person or study: "p" and 10 hex characters of a keyed BLAKE2b hash.

    The key is the environment variable ``CXR_PSEUDONYM_KEY``. Without it the hash is the same on every machine, but
    anybody who guesses an identifier (a hospital number) can check the guess. Set the key before pseudonyms leave the
    hospital.
    """
    return "p" + keyed_hash(identifier, 5)


def keyed_hash(identifier: str, digest_size: int) -> str:
    """Return the hash behind pseudonyms, of so many bytes, in hexadecimal digits."""
    key = blake2b(os.environ.get(PSEUDONYM_KEY, "").encode()).digest()
    return blake2b(identifier.encode(), key=key, digest_size=digest_size).hexdigest()


class View(Protocol):
    """One way to show a film: a VOI window or a VOI LUT. It maps values after the modality step to 0..1."""

    def apply(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return ``values`` [H, W] mapped to float32 in 0..1, before polarity."""


@dataclass(frozen=True)
class Window:
    """A VOI window in units of the values after the modality step (PS3.3 C.11.2.1.2, C.11.2.1.3).

    Args:
        center, width: decimal numbers are allowed; the center is within ±1e18, the width within 1e-18 to 1e18.
        function: "LINEAR", "LINEAR_EXACT" or "SIGMOID".
    """

    center: float
    width: float
    function: str = "LINEAR"

    def __post_init__(self) -> None:
        if self.function not in VOI_FUNCTIONS:
            raise ValueError(f"VOILUTFunction is {self.function!r}, expected one of {', '.join(VOI_FUNCTIONS)}")
        if not (abs(self.center) <= LARGEST and SMALLEST <= self.width <= LARGEST):  # refuses NaN too
            raise ValueError(
                f"window {self.center}/{self.width} needs a center within ±{LARGEST:g} and a width of {SMALLEST:g} to "
                f"{LARGEST:g}"
            )

    def apply(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return ``values`` mapped to float32 in 0..1 by the window's function."""
        if self.function == "SIGMOID":  # C.11.2.1.3.1; the exponent is bounded so that float32 does not overflow
            exponent = np.clip((values - np.float32(self.center)) * np.float32(-4 / self.width), -80, 80)
            return np.asarray(1 / (1 + np.exp(exponent)), np.float32)
        if self.function == "LINEAR" and self.width >= 1:  # C.11.2.1.2.1: the last of `width` integers gets the maximum
            center, width = self.center - 0.5, self.width - 1
        else:  # C.11.2.1.3.2. The standard has no LINEAR window narrower than 1, so it is taken as LINEAR_EXACT
            center, width = self.center, self.width
        if width == 0:
            return np.asarray(values > center, np.float32)
        return np.asarray(
            np.clip((values - np.float32(center)) / np.float32(width) + np.float32(0.5), 0, 1), np.float32
        )


@dataclass(frozen=True, eq=False)
class Lut:
    """A modality or VOI lookup table (PS3.3 C.11.1.1, C.11.2.1.1).

    Args:
        first: value that maps to the first entry. Smaller values map to it too, values past the end to the last entry.
        bits: bits of an entry; white is 2^bits - 1 in a VOI LUT.
        entries: the entries, [N] uint16.
    """

    first: int
    bits: int
    entries: NDArray[np.uint16]

    def look_up(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """Return the entries for ``values`` [H, W] as float32, in the table's own units."""
        first = np.float32(self.first)
        index = np.clip(np.rint(values) - first, 0, len(self.entries) - 1).astype(np.int32)  # clipped: no overflow
        return np.asarray(self.entries.astype(np.float32)[index], np.float32)

    def apply(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return ``values`` mapped to float32 in 0..1, where 1 is the largest entry the table's bits can hold."""
        return np.asarray(np.minimum(self.look_up(values) / (2**self.bits - 1), 1), np.float32)


@dataclass(frozen=True, eq=False)
class Radiograph:
    """A single-frame grayscale film as it is stored, with all that is needed to show it and no person's name.

    Args:
        path: the file from which it was read.
        pixels: [H, W] stored integers (uint8, uint16, int8 or int16), unused bits removed, sign applied.
        photometric_interpretation: "MONOCHROME1" (the minimum is white) or "MONOCHROME2".
        bits_stored: bits of a stored value.
        study, patient: pseudonyms.
        slope, intercept: RescaleSlope and RescaleIntercept; 1 and 0 where the file has none.
        modality_lut: table that is used in place of the rescale, where the file has one (PS3.3 C.11.1).
        voi_luts, windows: alternative views of the film, in the file's order.
        modality, body_part, view_position: Modality, BodyPartExamined and ViewPosition, "" where absent. Where there is
            no ViewPosition, the meaning of the View Code Sequence.
        row_direction: first value of PatientOrientation, "" where absent: to which side of the patient the rows run.
        pixel_intensity_relationship: "LIN", "LOG", … (PS3.3 C.8.11.3.1.2), "" where absent.
        presentation_intent: "FOR PRESENTATION", "FOR PROCESSING" or "".
        spacing_mm: (row, column) distance of pixel centers: PixelSpacing, else ImagerPixelSpacing (measured at the
            detector, so larger than in the patient), else None.
        sop_instance: SOPInstanceUID, "" where absent. It leads to the film in an archive, and so to the patient: it
            may be written only to the key file, which only its owner can read.
    """

    path: Path
    pixels: NDArray[Any]
    photometric_interpretation: str
    bits_stored: int
    study: str
    patient: str
    slope: float = 1.0
    intercept: float = 0.0
    modality_lut: Lut | None = None
    voi_luts: tuple[Lut, ...] = ()
    windows: tuple[Window, ...] = ()
    modality: str = ""
    body_part: str = ""
    view_position: str = ""
    row_direction: str = ""
    pixel_intensity_relationship: str = ""
    presentation_intent: str = ""
    spacing_mm: tuple[float, float] | None = None
    sop_instance: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        if self.modality_lut is not None:
            return
        ends = self.value_range
        size = max(abs(end) for end in ends)
        if not (size <= LARGEST and abs(self.slope) >= max(SMALLEST, size / _FLOAT32_STEPS)):
            raise ReadError(
                f"{self.path}: RescaleSlope is {self.slope}, RescaleIntercept {self.intercept}: expected values within "
                f"±{LARGEST:g} that float32 can distinguish"
            )

    @property
    def value_range(self) -> tuple[float, float]:
        """Smallest and largest value that this film's bits and modality step can give."""
        if self.modality_lut is not None:
            return float(self.modality_lut.entries.min()), float(self.modality_lut.entries.max())
        lowest = -(2 ** (self.bits_stored - 1)) if np.issubdtype(self.pixels.dtype, np.signedinteger) else 0
        ends = [self.slope * stored + self.intercept for stored in (lowest, lowest + 2**self.bits_stored - 1)]
        return min(ends), max(ends)

    def values(self) -> NDArray[np.float32]:
        """Return the values after modality LUT or rescale (CT: Hounsfield units), float32 [H, W]."""
        if self.modality_lut is not None:
            return self.modality_lut.look_up(self.pixels)
        values = self.pixels.astype(np.float32)
        if (self.slope, self.intercept) != (1.0, 0.0):
            values *= np.float32(self.slope)
            values += np.float32(self.intercept)
        return values

    def display(self, window: int = 0) -> NDArray[np.float32]:
        """Return the film as a workstation shows it: float32 [H, W] in 0..1, air dark."""
        return self.air_dark(self.voi(self.values(), window))

    def voi(self, values: NDArray[np.float32], window: int = 0) -> NDArray[np.float32]:
        """Return ``values`` through one of the film's views: float32 in 0..1, polarity still as stored.

        LUTs and windows are alternatives, of which one is applied (PS3.3 C.11.2). ``window`` counts the LUTs first,
        then the windows: where a maker gives both, the window only approximates the LUT. A film without either is
        stretched from its smallest to its largest value. It is not stretched over all values that its bits could hold,
        because 12-bit data in 16 bits would be black. Raises ``ReadError`` when there is no such view.
        """
        views: tuple[View, ...] = (*self.voi_luts, *self.windows)
        if not views and window == 0:
            return stretch(values, float(values.min()), float(values.max()))
        if not 0 <= window < len(views):
            raise ReadError(
                f"{self.path}: window {window} does not exist, the file has {len(self.voi_luts)} VOI LUTs "
                f"and {len(self.windows)} windows, counted from 0"
            )
        return views[window].apply(values)

    def air_dark(self, picture: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return ``picture``, 0..1 in stored polarity, with air dark and bone bright."""
        # MONOCHROME1: the minimum is white, after any VOI transformation (PS3.3 C.7.6.3.1.2)
        return 1 - picture if self.photometric_interpretation == "MONOCHROME1" else picture


def stretch(values: NDArray[np.float32], low: float, high: float) -> NDArray[np.float32]:
    """Return ``values`` with low..high mapped to 0..1 and clipped. All are 0 when high is not above low."""
    if not high > low:
        return np.zeros_like(values)
    return np.asarray(np.clip((values - np.float32(low)) / np.float32(high - low), 0, 1), np.float32)
