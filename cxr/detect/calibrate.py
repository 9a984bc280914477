"""Chooses the fusion with the image head on validation films, and says what the detector then finds on them."""

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
from cxr.measure.results import FilmResult, with_known_truth
from cxr.measure.screening import roc_auc
from cxr.progress import track

_log = logging.getLogger(__name__)

WEIGHTS = (0.0, 0.25, 0.5, 0.75)
"""Of the whole film in a fused score. Few: on some dozens of validation films more would be chosen by chance."""


@torch.no_grad()
def calibrate(task: FilmDetector, validation: RadiographDataset) -> list[FilmResult]:
    """Choose the weights of the task's image head, where it has one, and return its results on the validation films.

    The weight for boxes is the one with the highest average precision. The weight for films is the one with the highest
    area under the ROC curve of abnormality. Of equal weights the smallest is taken. Films whose scores are not finite
    are left out of the results: nothing may be chosen on them.
    """
    head = task.image_head
    if head is not None:
        head.box_weight.fill_(0)  # detect then returns the scores of the boxes alone
        head.film_weight.fill_(1)  # and the image head's score alone: all mixtures follow from this one pass
        apart = _finite(
            track(film_results(task, validation), "choosing the share of the whole film's score", len(validation))
        )
        boxes = _best(lambda share: _average_precision([_fused(result, share, 0) for result in apart]))
        known = with_known_truth(apart)
        film = _best(lambda share: roc_auc([_fused(result, 0, share) for result in known], samples=1).value)
        head.box_weight.fill_(boxes)
        head.film_weight.fill_(film)
    detected = track(film_results(task, validation), "looking at the validation films", len(validation))
    return _finite(detected)  # to the bit as detect returns them


def _finite(results: Iterable[FilmResult]) -> list[FilmResult]:
    """Return the films whose scores are finite; no threshold is chosen on the others."""
    every = list(results)
    kept = [result for result in every if result.finite]
    if len(kept) < len(every):
        _log.warning("%d validation films have no finite scores: nothing is chosen on them", len(every) - len(kept))
    return kept


def _best(figure: Callable[[float], float]) -> float:
    known = {share: value for share in WEIGHTS if not isnan(value := figure(share))}  # NaN: all films are of one kind
    return max(known, key=lambda share: (known[share], -share), default=0.0)


def _fused(result: FilmResult, box_weight: float, film_weight: float) -> FilmResult:
    """Return a film's result, its separate scores of boxes and film fused as ``DetectionTask.detect`` does it."""
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
