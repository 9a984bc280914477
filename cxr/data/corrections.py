"""How a doctor's marks on a film differ from ours: which of our boxes were kept, moved, renamed or deleted, and added.

A box of the doctor's is one of ours where both have the same name (in DICOM the Tracking Unique Identifier, which
viewers keep while a region is edited), else where both are of one finding and overlap by 0.4 or more, one to one. What
is left of ours and lies under a box of another finding was renamed, else deleted. What is left of the doctor's is new.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped]

from cxr.data.film import Film, Reading
from cxr.data.weighted_boxes import box_iou

Kind = Literal["kept", "moved", "renamed", "deleted", "added"]
KINDS: tuple[Kind, ...] = ("kept", "moved", "renamed", "deleted", "added")

SAME_PLACE = 0.4
"""Overlap of two boxes that mean the same thing, from the VinBigData competition, as between readers."""

_AS_IT_WAS = 1.0  # px of the film that a side may move: pictures are scaled down, and tools round


@dataclass(frozen=True)
class Change:
    """What became of one box.

    Args:
        kind: of the change.
        finding: what we called it; the doctor's finding for a box that was added.
        iou: overlap with the doctor's box; None for a box that was added or deleted.
        renamed_to: the doctor's finding for a box that was renamed, else "".
    """

    kind: Kind
    finding: str
    iou: float | None = None
    renamed_to: str = ""


@dataclass(frozen=True, eq=False)
class Corrected:
    """A film that doctors read, and the boxes of ours that they saw.

    Args:
        film: with the reading of each doctor.
        seen: our boxes as each doctor saw them, by the doctor's pseudonym: a later doctor may have seen those of a
            newer detector. A doctor who saw none of ours is not in it.
    """

    film: Film
    seen: Mapping[str, Reading]

    @property
    def ours(self) -> Reading | None:
        """Our newest boxes that a doctor saw, None where nobody saw any."""
        return max(self.seen.values(), key=lambda one: one.time, default=None)

    def changes(self) -> list["Change"]:
        """Return what all doctors made of our boxes that they saw, one doctor after the other."""
        doctors = (doctor for doctor in self.film.readings if doctor.rater in self.seen)
        return [change for doctor in doctors for change in changes(self.seen[doctor.rater], doctor)]


def changes(ours: Reading, doctors: Reading) -> list[Change]:
    """Return what became of each of our boxes, in their order, and then the boxes that the doctor added."""
    overlaps = box_iou(ours.boxes, doctors.boxes)
    pairs: dict[int, int] = {}

    def add(allowed: Callable[[int, int], bool]) -> None:
        left = [n for n in range(len(ours.boxes)) if n not in pairs]
        free = [m for m in range(len(doctors.boxes)) if m not in pairs.values()]
        fits = np.array([[overlaps[n, m] + 1 if allowed(n, m) else 0.0 for m in free] for n in left])
        rows, columns = linear_sum_assignment(fits.reshape(len(left), len(free)), maximize=True)
        pairs.update((left[n], free[m]) for n, m in zip(rows, columns, strict=True) if fits[n, m] > 0)

    add(lambda n, m: _id(ours, n) != "" and _id(ours, n) == _id(doctors, m))
    add(lambda n, m: ours.findings[n] == doctors.findings[m] and overlaps[n, m] >= SAME_PLACE)
    add(lambda n, m: overlaps[n, m] >= SAME_PLACE)
    corrected = [_change(ours, doctors, n, pairs.get(n), overlaps) for n in range(len(ours.boxes))]
    added = [Change("added", name) for m, name in enumerate(doctors.findings) if m not in pairs.values()]
    return corrected + added


def rejected(ours: Reading, doctors: Reading) -> frozenset[str]:
    """Return the findings of ours that the doctor does not see where we saw them."""
    return frozenset(one.finding for one in changes(ours, doctors) if one.kind in ("deleted", "renamed"))


def count_changes(corrected: Iterable[Corrected], findings: Sequence[str]) -> dict[str, dict[str, int]]:
    """Return the number of changes of each kind by finding, over all readers of films on which they saw our boxes."""
    counts = {name: dict.fromkeys(map(str, KINDS), 0) for name in findings}
    for one in (change for film in corrected for change in film.changes()):
        if one.finding in counts:
            counts[one.finding][one.kind] += 1
    return counts


def overlap_of_moved(corrected: Iterable[Corrected], findings: Sequence[str]) -> dict[str, float | None]:
    """Return the mean overlap of moved boxes with what the doctors made of them, by finding; None without any."""
    every = [one for film in corrected for one in film.changes() if one.kind == "moved" and one.iou is not None]
    return {name: _mean([one.iou for one in every if one.iou is not None and one.finding == name]) for name in findings}


def _change(ours: Reading, doctors: Reading, n: int, m: int | None, overlaps: np.ndarray) -> Change:
    finding = ours.findings[n]
    if m is None:
        return Change("deleted", finding)
    iou = float(overlaps[n, m])
    if doctors.findings[m] != finding:
        return Change("renamed", finding, iou, doctors.findings[m])
    still = np.abs(ours.boxes[n] - doctors.boxes[m]).max() <= _AS_IT_WAS
    return Change("kept" if still else "moved", finding, iou)


def _id(reading: Reading, n: int) -> str:
    return reading.ids[n] if reading.ids else ""


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None
