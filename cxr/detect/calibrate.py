"""What is chosen on validation films after training, and frozen: fusion with the image head, operating point."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from cxr.data.dataset import RadiographDataset
from cxr.detect.froc import COCO_IOUS, MeanAveragePrecision
from cxr.detect.inference import film_results
from cxr.detect.results import FilmResult
from cxr.detect.task import DetectionTask
from cxr.detect.triage import OperatingPoint, choose_operating_point, roc_auc

WEIGHTS = (0.0, 0.25, 0.5, 0.75)
"""Of the whole film in a fused score. Few: on some dozens of validation films more would be chosen by chance."""


@torch.no_grad()
def calibrate(task: DetectionTask, validation: RadiographDataset, sensitivity: float = 0.99) -> OperatingPoint:
    """Choose the weights of the task's image head, where it has one, and return the operating point of screening.

    The weight of the boxes is that of the highest average precision, that of the film of the highest area under the ROC
    curve of abnormality; of equal ones the smallest. The operating point is chosen with both in place.
    """
    head = task.image_head
    if head is not None:
        _choose(head.box_weight, task, validation, _average_precision)
        _choose(head.film_weight, task, validation, lambda results: roc_auc(results, samples=1).value)
    return choose_operating_point(list(film_results(task, validation)), sensitivity)


def _choose(
    weight: Tensor,
    task: DetectionTask,
    validation: RadiographDataset,
    figure: Callable[[Sequence[FilmResult]], float],
) -> None:
    figures = {}
    for share in WEIGHTS:
        weight.fill_(share)
        figures[share] = figure(list(film_results(task, validation)))
    known = {share: value for share, value in figures.items() if value == value}  # NaN: validation has one kind of film
    weight.fill_(max(known, key=lambda share: (known[share], -share), default=0.0))


def _average_precision(results: Sequence[FilmResult]) -> float:
    labels = range(1, 1 + len(results[0].finding_scores)) if results else ()
    return float(MeanAveragePrecision(results, labels, COCO_IOUS)(np.ones(len(results)))[0])
