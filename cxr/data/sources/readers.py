"""Combines the boxes of several readers of a film, and measures how much the readers agree."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped]

from cxr.data.film import Film, Reading
from cxr.data.weighted_boxes import Boxes, box_iou, fuse_boxes


def weighted_boxes_fusion(boxes: Boxes, iou: float) -> Boxes:
    """Return boxes [M, 4] made from N boxes of one finding: the mean of each cluster (``fuse_boxes``).

    All scores are 1, since readers give no scores. So the largest box comes first.
    """
    return fuse_boxes(boxes, np.ones(len(boxes), np.float32), iou)[0]


def fuse(readings: Iterable[Reading], iou: float) -> tuple[Boxes, tuple[str, ...]]:
    """Return the boxes [M, 4] of all readings fused finding by finding, and their M names."""
    readings = list(readings)
    names = sorted({name for reading in readings for name in reading.findings})
    fused = [weighted_boxes_fusion(_all_boxes(readings, name), iou) for name in names]
    findings = tuple(name for name, boxes in zip(names, fused, strict=True) for _ in boxes)
    return np.concatenate([np.zeros((0, 4), np.float32), *fused]), findings


def unite(readings: Iterable[Reading]) -> tuple[Boxes, tuple[str, ...]]:
    """Return the boxes [M, 4] of all readings and their M names; equal boxes count once."""
    both = [
        (name, tuple(box))
        for reading in readings
        for name, box in zip(reading.findings, reading.boxes.tolist(), strict=True)
    ]
    unique = list(dict.fromkeys(both))
    return np.array([box for _, box in unique], np.float32).reshape(-1, 4), tuple(name for name, _ in unique)


@dataclass(frozen=True)
class Agreement:
    """How much several readers agree on a finding.

    Args:
        films: number of films with two or more readers.
        marked: number of these films on which at least one reader marked the finding.
        shared: number of these films on which two or more readers marked it.
        kappa: Fleiss' kappa (1971, Psychological Bulletin 76) of whether a film has it; None if all give one answer.
        box_f1: 2 × boxes that pairs of readers share / boxes of both readers, over all pairs; None without boxes.
        overlap: mean IoU of the boxes that pairs of readers share; None where they share none.
    """

    films: int
    marked: int
    shared: int
    kappa: float | None
    box_f1: float | None
    overlap: float | None = None

    @property
    def share(self) -> float | None:
        """Share of the marked films on which two or more readers marked the finding."""
        return self.shared / self.marked if self.marked else None


def agreement(films: Iterable[Film], findings: Sequence[str], iou: float = 0.4) -> dict[str, Agreement]:
    """Return the agreement on each finding that was marked, over the films with two or more readings.

    Two boxes agree if they overlap by ``iou`` or more; each has one partner at most. 0.4 is from the VinBigData
    competition.
    """
    read = [film.readings for film in films if len(film.readings) > 1]
    by_finding = {name: [[_boxes(reading, name) for reading in readings] for readings in read] for name in findings}
    return {
        name: _agreement(boxes, iou)
        for name, boxes in by_finding.items()
        if any(len(boxes_of_reader) for readers in boxes for boxes_of_reader in readers)
    }


def fleiss_kappa(ratings: Sequence[tuple[int, int]]) -> float | None:
    """Return Fleiss' kappa of films with ratings (readers who say yes, all readers); None if all ratings are the same.

    Films may have different numbers of readers; each film has the same weight.
    """
    yes, readers = np.array(ratings, np.float64).T
    agree = (yes * (yes - 1) + (readers - yes) * (readers - yes - 1)) / (readers * (readers - 1))
    share = yes.sum() / readers.sum()
    chance = share**2 + (1 - share) ** 2
    return None if chance == 1 else float((agree.mean() - chance) / (1 - chance))


def _agreement(boxes: Sequence[Sequence[Boxes]], iou: float) -> Agreement:
    ratings = [(sum(len(boxes_of_reader) > 0 for boxes_of_reader in readers), len(readers)) for readers in boxes]
    both = [pair for readers in boxes for pair in combinations(readers, 2)]
    shared = [overlap for a, b in both for overlap in _overlaps(a, b, iou)]
    drawn = sum(len(a) + len(b) for a, b in both)
    return Agreement(
        films=len(ratings),
        marked=sum(yes > 0 for yes, _ in ratings),
        shared=sum(yes > 1 for yes, _ in ratings),
        kappa=fleiss_kappa(ratings),
        box_f1=2 * len(shared) / drawn if drawn else None,
        overlap=float(np.mean(shared)) if shared else None,
    )


def _overlaps(a: Boxes, b: Boxes, iou: float) -> list[float]:
    """Return the overlap of each pair that the boxes of two readers make; each box is in one pair at most."""
    overlaps = box_iou(a, b)
    # One more pair is worth more than all that its overlaps could add, and of equally many pairs the closest are taken
    worth = np.where(overlaps >= iou, 1 + overlaps / (len(a) + 1), 0)
    rows, columns = linear_sum_assignment(worth, maximize=True)
    return [float(overlap) for overlap in overlaps[rows, columns] if overlap >= iou]


def _boxes(reading: Reading, name: str) -> Boxes:
    return reading.boxes[[finding == name for finding in reading.findings]]


def _all_boxes(readings: Iterable[Reading], name: str) -> Boxes:
    return np.concatenate([_boxes(reading, name) for reading in readings])
