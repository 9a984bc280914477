"""Boxes before suppression, and the place of the pyramid that each was read from."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from cxr.findings import BACKGROUND


@dataclass(frozen=True)
class Candidate:
    """A box before suppression, and the place it was read from.

    Args:
        label: class 1..K.
        score: 0..1.
        box: [4] xyxy in the network frame, clipped to the film.
        level: index of the pyramid level it was read from.
        place: where on it: the region [4] xyxy in the network frame (Faster R-CNN), the number of the anchor or point
            within its level, or that of the cell within all levels at which a query began (RT-DETR), int64 [].
    """

    label: int
    score: float
    box: Tensor
    level: int
    place: Tensor


@dataclass(frozen=True)
class Candidates:
    """All boxes of a film before suppression.

    ``boxes`` [A, K + 1, 4], ``scores`` [A, K + 1], ``levels`` int64 [A], ``places`` [A, ...]; class 0 is background.
    """

    boxes: Tensor
    scores: Tensor
    levels: Tensor
    places: Tensor

    def at(self, row: int, label: int) -> Candidate:
        """Return the box of class ``label`` in ``row``."""
        return Candidate(
            label,
            float(self.scores[row, label]),
            self.boxes[row, label],
            int(self.levels[row]),
            self.places[row],
        )

    def strongest(self) -> Candidate:
        """Return the box with the highest score of any finding, also where it is too weak to be detected."""
        scores = self.scores.clone()
        scores[:, BACKGROUND] = -1
        row, label = divmod(int(scores.argmax()), scores.shape[1])
        return self.at(row, label)

    def behind(self, box: Tensor, label: int, score: float) -> Candidate:
        """Return the candidate a detection came from: its box [4] in the network frame, its class and its score.

        Raises ValueError where no candidate is within a pixel and 0.001 of the score: not a box of this film.
        """
        off = (self.boxes[:, label] - box).abs().amax(1) + 1e3 * (self.scores[:, label] - score).abs()
        row = int(off.argmin())
        if off[row] > 1:
            raise ValueError(f"no candidate of class {label} has the box {box.tolist()} and the score {score:.3f}")
        return self.at(row, label)


def detections_as_candidates(detections: Mapping[str, Tensor]) -> Candidates:
    """Return the detections of a film, each as a candidate of its own class; there is no level behind them."""
    boxes, labels, scores = (detections[name] for name in ("boxes", "labels", "scores"))
    rows = torch.arange(len(labels), device=labels.device)
    table = scores.new_zeros(len(labels), int(labels.max()) + 1 if len(labels) else 2)
    table[rows, labels] = scores
    return Candidates(boxes[:, None].expand(-1, table.shape[1], 4), table, torch.zeros_like(rows), rows)
