"""Figures of a detector on a set of films: average precision and recall, per finding by name, and false alarms."""

import logging

import numpy as np
import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric
from torchmetrics.detection import MeanAveragePrecision

from cxr.findings import FindingVocabulary

logging.getLogger("faster_coco_eval").setLevel(logging.WARNING)  # it tells its progress in some 30 INFO lines a time

Boxes = list[dict[str, Tensor]]


class DetectionMetrics(nn.Module):
    """Collects detections and true boxes film by film, and computes COCO's figures from them.

    COCO's mean takes in only the findings that have true boxes, and says nothing of false alarms below the last true
    box's score, on normal films above all; so those are counted apart.

    Args:
        findings: gives the figures their names.
        alarm_threshold: a detection on a normal film counts as a false alarm from this score on.
        max_detections: so many detections a film, the best ones, enter AP and AR.
    """

    def __init__(self, findings: FindingVocabulary, alarm_threshold: float = 0.5, max_detections: int = 100) -> None:
        super().__init__()
        self.findings = findings
        self.alarm_threshold = alarm_threshold
        self.max_detections = max_detections
        self._coco = MeanAveragePrecision(
            backend="faster_coco_eval",
            extended_summary=True,
            iou_thresholds=np.linspace(0.5, 0.95, 10).tolist(),  # torchmetrics' own are float32: 0.6 is not 0.6, and a
            rec_thresholds=np.linspace(0.0, 1.0, 101).tolist(),  # recall of 12/20 misses a point that COCO counts
            max_detection_thresholds=[1, 10, max_detections],
        )
        self._coco.warn_on_many_detections = False
        self._alarms = MeanMetric(nan_strategy="error")

    def update(self, detections: Boxes, targets: Boxes) -> None:
        """Take in films: detections {boxes [M, 4], labels, scores}, targets {boxes [N, 4], labels}, same frame, xyxy.

        Original pixels, so that COCO's small, medium and large mean the same on every film.
        """
        self._coco.update(detections, targets)
        for detection, target in zip(detections, targets, strict=True):
            if len(target["labels"]) == 0:
                self._alarms.update((detection["scores"] >= self.alarm_threshold).sum())

    def compute(self) -> dict[str, float]:
        """Return the figures, each in 0..1 but for the last.

        ``map`` (IoU .50 to .95), ``map_50``, ``map_75``, ``mar_<max_detections>``: means over the findings that have
        true boxes; NaN where no film has any. ``ap/<finding>``, ``ap50/<finding>``, ``ar/<finding>``: a finding without
        true boxes is left out, whatever was detected. ``false_positives_per_normal_film``: detections scored
        ``alarm_threshold`` or higher; left out where no film is normal.
        """
        coco = self._coco.compute()
        mean_recall = f"mar_{self.max_detections}"
        figures = {key: _or_nan(coco[key]) for key in ("map", "map_50", "map_75", mean_recall)}
        # precision [IoU, recall, class, area, detections] and recall [IoU, class, area, detections] at all areas and
        # most detections; a class without true boxes is -1 throughout.
        precision, recall = coco["precision"][:, :, :, 0, -1], coco["recall"][:, :, 0, -1]
        for column, index in enumerate(coco["classes"].reshape(-1).tolist()):
            if (recall[:, column] >= 0).all():
                name = self.findings.name(index)
                figures[f"ap/{name}"] = precision[:, :, column].mean().item()
                figures[f"ap50/{name}"] = precision[0, :, column].mean().item()
                figures[f"ar/{name}"] = recall[:, column].mean().item()
        if self._alarms.update_called:
            figures["false_positives_per_normal_film"] = self._alarms.compute().item()
        return figures

    def reset(self) -> None:
        """Forget all films."""
        self._coco.reset()
        self._alarms.reset()


def _or_nan(figure: Tensor) -> float:
    """Return COCO's -1, "no true boxes", as NaN: it would pass for a bad score and pull down every mean."""
    return float("nan") if figure < 0 else float(torch.as_tensor(figure))
