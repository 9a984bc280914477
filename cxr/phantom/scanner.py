"""Machines that drawn films are said to come from, and a weak one among them, whose films show less.

What a header states has a random stream of its own: the pixels of a film do not depend on it.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from cxr.phantom.canvas import Map

_STREAM = 977  # apart from the streams of a patient's body and films
_MACHINES, _SHARES = ("CR 1", "CR 2", "CR 3"), (0.5, 0.3, 0.2)
_MAKER, WEAK_MAKER = "DRAWN", "WEAK"
_YEARS = range(2015, 2020)
_APART = 12.0  # mm: larger differences of brightness keep their contrast on a weak scanner
_STEP = 4.0  # mm of a pixel of what is blurred


@dataclass(frozen=True)
class WeakScanner:
    """A machine whose films are worse. A detector finds less on them.

    Args:
        share: of the patients whose films it takes, 0 to 1.
        noise: times as much quantum noise as the other machines have, at least 1.
        contrast: share that is left of the contrast of small structures, above 0 and at most 1.
    """

    share: float = 0.15
    noise: float = 2.0
    contrast: float = 0.55

    def __post_init__(self) -> None:
        if not (0 < self.share < 1 and self.noise >= 1 and 0 < self.contrast <= 1):
            raise ValueError(
                f"weak_scanner has share {self.share}, noise {self.noise}, contrast {self.contrast}; expected a share"
                " between 0 and 1, a noise of 1 or more, and a contrast above 0 and at most 1"
            )

    def flattened(self, seen: Map, scale: float) -> Map:
        """Return an attenuation [H, W] with less contrast of small structures; ``scale`` is pixels a mm."""
        step = _STEP * scale
        small = cv2.resize(seen, None, fx=1 / step, fy=1 / step, interpolation=cv2.INTER_AREA)
        blurred = cv2.GaussianBlur(small, (0, 0), _APART / _STEP)
        large = np.asarray(cv2.resize(blurred, seen.shape[::-1], interpolation=cv2.INTER_LINEAR), np.float32)
        return np.asarray(large + np.float32(self.contrast) * (seen - large), np.float32)


def from_weak_scanner(seed: int, patient: int, scanner: WeakScanner | None) -> bool:
    """Return whether the weak scanner takes a patient's films."""
    return scanner is not None and np.random.default_rng([seed, patient, _STREAM, 1]).uniform() < scanner.share


def stated(seed: int, patient: int, female: bool, weak: bool) -> dict[str, str]:
    """Return what the header of a patient's films states: element → value."""
    rng = np.random.default_rng([seed, patient, _STREAM])
    age, model = int(np.clip(rng.normal(58, 18), 18, 95)), str(rng.choice(_MACHINES, p=_SHARES))
    return {
        "PatientSex": "F" if female else "M",
        "PatientAge": f"{age:03d}Y",
        "StudyDate": f"{int(rng.choice(_YEARS))}0315",
        "Manufacturer": WEAK_MAKER if weak else _MAKER,
        "ManufacturerModelName": "CR 4" if weak else model,
    }
