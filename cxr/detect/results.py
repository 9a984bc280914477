"""What a detector said of one film beside what a reader marked on it: what every clinical figure is computed from."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from cxr.data.dataset import RadiographDataset, collate
from cxr.data.film import Film
from cxr.detect.task import DetectionTask


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


def film_results(task: DetectionTask, dataset: RadiographDataset, batch_size: int = 8) -> Iterator[FilmResult]:
    """Yield what ``task`` says of each film of ``dataset``, in order, on the device the task is on."""
    for start in range(0, len(dataset), batch_size):
        indices = range(start, min(start + batch_size, len(dataset)))
        images, targets = collate([dataset[index] for index in indices])
        here = [{name: value.to(task.device) for name, value in target.items()} for target in targets]
        found = task.detect([image.to(task.device) for image in images], here)
        for index, target, own in zip(indices, targets, found, strict=True):
            yield _result(dataset.films[index], target, own)


def _result(film: Film, target: dict[str, Tensor], found: dict[str, Tensor]) -> FilmResult:
    return FilmResult(
        study=film.study,
        patient=film.patient,
        size=(film.height, film.width),
        truth_boxes=film.boxes,
        truth_labels=target["original_labels"].numpy(),
        boxes=found["boxes"].cpu().numpy(),
        labels=found["labels"].cpu().numpy(),
        scores=found["scores"].cpu().numpy(),
        finding_scores=found["finding_scores"].cpu().numpy(),
        abnormal=float(found["abnormal"]),
    )
