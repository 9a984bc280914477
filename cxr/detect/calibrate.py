"""What is chosen on validation films after training, and frozen: fusion with the image head, operating point."""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from math import isnan

import numpy as np
import torch

from cxr.data.dataset import RadiographDataset
from cxr.detect.film_detector import FilmDetector
from cxr.detect.image_head import with_image_scores
from cxr.detect.inference import film_results
from cxr.measure.average_precision import COCO_IOUS, MeanAveragePrecision
from cxr.measure.operating_point import OperatingPoint, choose_operating_point
from cxr.measure.results import FilmResult, with_known_truth
from cxr.measure.screening import roc_auc
from cxr.progress import track

_log = logging.getLogger(__name__)

WEIGHTS = (0.0, 0.25, 0.5, 0.75)
"""Of the whole film in a fused score. Few: on some dozens of validation films more would be chosen by chance."""


@torch.no_grad()
def calibrate(task: FilmDetector, validation: RadiographDataset, sensitivity: float = 0.99) -> OperatingPoint:
    """Choose the weights of the task's image head, where it has one, and return the operating point of screening.

    The weight of the boxes is that of the highest average precision, that of the film of the highest area under the ROC
    curve of abnormality; of equal ones the smallest. The operating point is chosen with both in place.
    """
    head = task.image_head
    if head is not None:
        head.box_weight.fill_(0)  # the boxes as they are
        head.film_weight.fill_(1)  # and the film by itself: all mixtures follow from one pass
        apart = _finite(track(film_results(task, validation), "choosing the mixture", len(validation)))
        boxes = _best(lambda share: _average_precision([_fused(result, share, 0) for result in apart]))
        known = with_known_truth(apart)
        film = _best(lambda share: roc_auc([_fused(result, 0, share) for result in known], samples=1).value)
        head.box_weight.fill_(boxes)
        head.film_weight.fill_(film)
    detected = track(film_results(task, validation), "calibrating", len(validation))
    results = _finite(detected)  # to the bit as detect gives them
    return choose_operating_point(with_known_truth(results), sensitivity)


def _finite(results: Iterable[FilmResult]) -> list[FilmResult]:
    """Return the films that the detector has an answer for; a threshold is not chosen on the others."""
    every = list(results)
    kept = [result for result in every if result.finite]
    if len(kept) < len(every):
        _log.warning("%d validation films have no finite scores: nothing is chosen on them", len(every) - len(kept))
    return kept


def _best(figure: Callable[[float], float]) -> float:
    known = {share: value for share in WEIGHTS if not isnan(value := figure(share))}  # NaN: only one kind of film
    return max(known, key=lambda share: (known[share], -share), default=0.0)


def _fused(result: FilmResult, box_weight: float, film_weight: float) -> FilmResult:
    """Return a film's result, whose boxes and whose film speak apart, as ``DetectionTask.detect`` would mix them."""
    boxes = {"labels": torch.from_numpy(result.labels), "scores": torch.from_numpy(result.scores)}
    film = torch.tensor([*result.finding_scores.tolist(), result.abnormal]).logit()
    mixed = with_image_scores(boxes, len(result.finding_scores), film, box_weight, film_weight)
    return replace(
        result,
        scores=mixed["scores"].numpy(),
        finding_scores=mixed["finding_scores"].numpy(),
        abnormal=float(mixed["abnormal"]),
    )


def _average_precision(results: Sequence[FilmResult]) -> float:
    labels = range(1, 1 + len(results[0].finding_scores)) if results else ()
    return float(MeanAveragePrecision(results, labels, COCO_IOUS)(np.ones(len(results)))[0])
