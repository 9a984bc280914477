"""What a detector said of one film beside what a reader marked on it: what every clinical figure is computed from."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class FilmResult:
    """One film.

    Args:
        study, patient: pseudonyms.
        size: original (height, width) in pixels.
        truth_boxes: [N, 4] float32 xyxy in original pixels; N = 0 is a normal film.
        truth_labels: [N] int64 in 1..K.
        boxes: [M, 4] float32 xyxy in original pixels, of the detector, in any order.
        labels: [M] int64 in 1..K.
        scores: [M] float32 in 0..1.
        finding_scores: [K] float32 in 0..1, how surely the film bears each finding anywhere.
        abnormal: 0..1, how surely it bears any.
    """

    study: str
    patient: str
    size: tuple[int, int]
    truth_boxes: NDArray[np.float32]
    truth_labels: NDArray[np.int64]
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    scores: NDArray[np.float32]
    finding_scores: NDArray[np.float32]
    abnormal: float

    @property
    def normal(self) -> bool:
        """Whether a reader marked nothing."""
        return len(self.truth_labels) == 0
