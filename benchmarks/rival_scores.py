"""Scores of detectors on the same films: average precision by pycocotools alone, and what a reader asks beside it."""

import contextlib
import copy
import io
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from cxr.measure.froc import SensitivityAt
from cxr.measure.intervals import estimates
from cxr.measure.results import FilmResult
from cxr.measure.screening import roc_auc

Figures = dict[str, list[float]]
"""By the name of a figure its value and the ends of its 95 % interval over patients."""


def scores(results: Sequence[FilmResult], samples: int = 500) -> Figures:
    """Return AP, AP50, sensitivity at one false positive a film, and the AUC of normal against abnormal films."""
    truth = coco(results)
    rows = detections(results)
    measured = evaluated(truth, rows) if rows else None
    precision = estimates(partial(average_precision, measured), results, [len(results)] * 2, samples)
    (sensitivity,) = estimates(SensitivityAt(results, rates=(1,)), results, [len(results)], samples)
    auc = roc_auc(results, samples=samples)
    named = zip(("AP", "AP50", "sensitivity at 1 false positive", "AUC"), (*precision, sensitivity, auc), strict=True)
    return {name: [estimate.value, estimate.low, estimate.high] for name, estimate in named}


def coco(results: Sequence[FilmResult]) -> COCO:
    """Return the marks of the films as pycocotools reads them; its classes are the findings that somebody marked."""
    marks = [
        (i, int(label), box)
        for i, r in enumerate(results)
        for label, box in zip(r.truth_labels, r.truth_boxes, strict=True)
    ]
    table = COCO()
    table.dataset = {
        "info": {},
        "images": [{"id": i, "height": r.size[0], "width": r.size[1]} for i, r in enumerate(results)],
        "categories": [{"id": label, "name": str(label)} for label in sorted({label for _, label, _ in marks})],
        "annotations": [
            {"id": n, "image_id": i, "category_id": label, "bbox": xywh(box), "area": area(box), "iscrowd": 0}
            for n, (i, label, box) in enumerate(marks, start=1)  # pycocotools takes an id of 0 for "no match"
        ],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        table.createIndex()
    return table


def detections(results: Sequence[FilmResult]) -> list[dict[str, Any]]:
    return [
        {"image_id": i, "category_id": int(label), "bbox": xywh(box), "score": float(score)}
        for i, r in enumerate(results)
        for label, box, score in zip(r.labels, r.boxes, r.scores, strict=True)
    ]


def evaluated(truth: COCO, rows: list[dict[str, Any]]) -> COCOeval:
    """Return pycocotools' evaluation with every film matched."""
    with contextlib.redirect_stdout(io.StringIO()):
        known = set(truth.getCatIds())
        measured = COCOeval(truth, truth.loadRes([row for row in rows if row["category_id"] in known] or rows), "bbox")
        measured.params.catIds = sorted(known)
        measured.params.areaRng, measured.params.areaRngLbl = [[0, 1e10]], ["all"]
        measured.evaluate()
    return measured


def average_precision(measured: COCOeval | None, times: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return AP and AP50 where film i counts ``times[i]`` times: pycocotools accumulates the drawn films."""
    if measured is None:
        return np.zeros(2)
    drawn = np.repeat(np.arange(len(times)), times.astype(int))
    classes, films = len(measured.params.catIds), len(times)
    of_film = np.array(measured.evalImgs, object).reshape(classes, 1, films)
    sample = copy.copy(measured)
    sample.evalImgs = of_film[:, :, drawn].ravel().tolist()
    sample.params = copy.copy(measured.params)
    sample.params.imgIds = list(range(len(drawn)))  # pycocotools counts films by their ids
    sample._paramsEval = sample.params
    with contextlib.redirect_stdout(io.StringIO()):
        sample.accumulate()
    precision = sample.eval["precision"][..., 0, -1]  # [IoUs, recalls, classes] of all sizes and 100 detections
    marked = precision[0, 0] > -1
    return (
        np.array([precision[..., marked].mean(), precision[0][..., marked].mean()])
        if marked.any()
        else np.full(2, np.nan)
    )


def xywh(box: NDArray[np.float32]) -> list[float]:
    x0, y0, x1, y1 = map(float, box)
    return [x0, y0, x1 - x0, y1 - y0]


def area(box: NDArray[np.float32]) -> float:
    _, _, width, height = xywh(box)
    return width * height
