"""Runs a detector over the films of a data set, outside of training."""

from collections.abc import Iterator

import torch
from torch import Tensor

from cxr.data.dataset import RadiographDataset, collate
from cxr.data.film import Film
from cxr.detect.film_detector import FilmDetector
from cxr.detect.finite import detect_finite
from cxr.measure.results import FilmResult


def film_results(task: FilmDetector, dataset: RadiographDataset, batch_size: int = 8) -> Iterator[FilmResult]:
    """Yield the result of ``task`` for each film of ``dataset``, in order, on the task's device and in eval mode.

    Where the detector computes NaN or infinity, the film has no boxes and its scores are NaN (``FilmResult.finite``).
    """
    task.detector.eval()
    for start in range(0, len(dataset), batch_size):
        indices = range(start, min(start + batch_size, len(dataset)))
        images, targets = collate([dataset[index] for index in indices])
        here = [{name: value.to(task.device) for name, value in target.items()} for target in targets]
        detections = detect_finite(task, [image.to(task.device) for image in images], here)
        for index, target, known in zip(indices, targets, detections, strict=True):
            answer = _not_finite(len(task.findings.names)) if known is None else known
            yield _result(dataset.films[index], target, answer)


def _not_finite(findings: int) -> dict[str, Tensor]:
    return {
        "boxes": torch.zeros(0, 4),
        "labels": torch.zeros(0, dtype=torch.int64),
        "scores": torch.zeros(0),
        "finding_scores": torch.full((findings,), torch.nan),
        "abnormal": torch.tensor(torch.nan),
    }


def _result(film: Film, target: dict[str, Tensor], answer: dict[str, Tensor]) -> FilmResult:
    kept = target["labelled"][answer["labels"].cpu() - 1]
    return FilmResult(
        study=film.study,
        patient=film.patient,
        size=(film.height, film.width),
        truth_boxes=film.boxes,
        truth_labels=target["original_labels"].numpy(),
        boxes=answer["boxes"].cpu()[kept].numpy(),
        labels=answer["labels"].cpu()[kept].numpy(),
        scores=answer["scores"].cpu()[kept].numpy(),
        finding_scores=answer["finding_scores"].cpu().numpy(),
        abnormal=float(answer["abnormal"]),
        labelled=None if film.labelled is None else target["labelled"].numpy(),
        disagreement=answer["disagreement"].cpu()[kept].numpy() if "disagreement" in answer else None,
    )
