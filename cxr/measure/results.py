"""Detections of one film beside the marks of its readers: every clinical figure is computed from these."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

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
        finding_scores: [K] float32 in 0..1, how sure it is that the film has each finding anywhere.
        abnormal: 0..1, how sure it is that the film has any.
        labelled: [K + 1] bool, for class c at c - 1 whether the readers looked for it (what was detected of others is
            left out), and at last whether a film without boxes is normal; None: all of it.
        disagreement: [M] float32 in 0..1 of the members of an ensemble about each box (``cxr.detect.ensemble``); None
            where one detector answers.
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
    labelled: NDArray[np.bool_] | None = None
    disagreement: NDArray[np.float32] | None = None

    @property
    def finite(self) -> bool:
        """Whether the detector's answer is one: no figure may be computed from NaN or infinity."""
        arrays = (self.boxes, self.scores, self.finding_scores, np.asarray(self.abnormal))
        return all(bool(np.isfinite(values).all()) for values in arrays)

    @property
    def normal(self) -> bool:
        """Whether readers looked for everything and marked nothing."""
        return len(self.truth_labels) == 0 and (self.labelled is None or bool(self.labelled[-1]))

    def truth_known(self, label: int | None) -> bool:
        """Whether it is known if the film has the finding of ``label``; with None, if it has any."""
        if label is None:
            return self.normal or len(self.truth_labels) > 0
        # labels beyond the detector's own are findings of the data that were looked for
        return self.labelled is None or label >= len(self.labelled) or bool(self.labelled[label - 1])


def with_known_truth(results: Sequence[FilmResult], label: int | None = None) -> list[FilmResult]:
    """Return the films of which it is known if they have the finding of ``label``; with None, if they have any."""
    return [result for result in results if result.truth_known(label)]


def with_calibrated_scores(
    results: Sequence[FilmResult], curves: Mapping[int, Callable[[NDArray[np.float32]], NDArray[np.float32]]]
) -> list[FilmResult]:
    """Return the films with the scores of their boxes changed by the curve of their class, where it has one."""
    changed = []
    for result in results:
        scores = result.scores.copy()
        for label, curve in curves.items():
            scores[result.labels == label] = curve(result.scores[result.labels == label])
        changed.append(replace(result, scores=scores))
    return changed
