"""Figures of a detector while it trains: average precision and recall, per finding by name, and false alarms."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, distributed
from torchmetrics.detection import MeanAveragePrecision

from cxr.findings import FindingVocabulary
from cxr.measure.average_precision import COCO_IOUS, RECALLS, only_detected
from cxr.measure.froc import FalsePositives, froc
from cxr.measure.results import FilmResult, with_known_truth
from cxr.measure.screening import RocAuc

Boxes = list[dict[str, Tensor]]


class DetectionMetrics:
    """Collects detections and true boxes film by film, and computes the figures of all films from them.

    Average precision is torchmetrics', as fast as validation after each epoch needs it; ``cxr.measure`` computes the
    same with intervals. It is the mean over the findings that have true boxes. It does not show false alarms that score
    below the last true box, above all those on normal films. So these are counted apart, and the sensitivity at one
    false positive a film is a figure of its own.

    Where several processes share the films (``torch.distributed``), ``compute`` collects the films of all processes,
    not their figures. A film counts once, however many processes had it. So the figures are those of one process with
    all films.

    Args:
        findings: vocabulary, for the names of the figures.
        alarm_threshold: a detection on a normal film counts as a false alarm from this score on.
        max_detections: the number of detections of a film and finding, the best ones, that enter AP and AR.
    """

    def __init__(self, findings: FindingVocabulary, alarm_threshold: float = 0.5, max_detections: int = 100) -> None:
        self.findings = findings
        self.alarm_threshold = alarm_threshold
        self.max_detections = max_detections
        self._films: dict[int, FilmResult] = {}

    def update(self, detections: Boxes, targets: Boxes) -> None:
        """Add films: detections as ``DetectionTask.detect`` returns them, and targets {boxes [N, 4], labels, film}.

        Boxes are xyxy in original pixels, so that COCO's small, medium and large mean the same on every film. ``film``,
        int64 [], identifies a film: one that comes again is left out. A target may hold ``labelled``, bool [K + 1]: a
        detection of a finding that the film's readers did not look for counts neither way. A film without boxes is
        normal only where the last entry is true. A film with scores that are not finite counts as one
        without detections.
        """
        for detection, target in zip(detections, targets, strict=True):
            self._films.setdefault(int(target["film"]), _result(detection, target))

    def compute(self) -> dict[str, float]:
        """Return the figures, each in 0..1 but for the last two. With several processes, all of them must call this.

        ``map`` (IoU .50 to .95), ``map_50``, ``map_75``, ``mar_<max_detections>``: means over the findings that have
        true boxes; NaN where no film has any. ``ap/<finding>``, ``ap50/<finding>``, ``ar/<finding>``: a finding without
        true boxes is left out, whatever was detected. ``sensitivity@1fp``: share of the true boxes of all findings that
        is found (IoU .50) at one false positive a film; NaN where no film has any. ``image_auc``: how often a film with
        true boxes scores above a normal one; left out without films of either kind.
        ``false_positives_per_normal_film``: detections scored ``alarm_threshold`` or higher; left out where no film is
        normal. ``only_detected/<finding>``: detected boxes of a finding without true boxes.
        """
        films = _of_all_processes(self._films)
        results = [film for _, film in sorted(films.items())]
        return self._of_boxes(results) | self._of_films(results)

    def reset(self) -> None:
        """Forget all films."""
        self._films = {}

    def _of_boxes(self, results: Sequence[FilmResult]) -> dict[str, float]:
        average = MeanAveragePrecision(
            backend="faster_coco_eval",
            extended_summary=True,
            iou_thresholds=list(COCO_IOUS),  # torchmetrics' defaults are float32: 0.6 is not 0.6, and a
            rec_thresholds=RECALLS.tolist(),  # recall of 12/20 misses a point that COCO counts
            max_detection_thresholds=[1, 10, self.max_detections],
            sync_on_compute=False,  # the films of all processes were collected already, each once
        )
        average.warn_on_many_detections = False
        tensor = torch.from_numpy
        average.update(
            [{"boxes": tensor(r.boxes), "labels": tensor(r.labels), "scores": tensor(r.scores)} for r in results],
            [{"boxes": tensor(r.truth_boxes), "labels": tensor(r.truth_labels)} for r in results],
        )
        coco = average.compute()
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
        return figures

    def _of_films(self, results: Sequence[FilmResult]) -> dict[str, float]:
        known = with_known_truth(results)
        auc = RocAuc(known)(np.ones(len(known)))
        alarms = FalsePositives(results, self.alarm_threshold)(np.ones(len(results)))
        figures = {"image_auc": float(auc[0]), "false_positives_per_normal_film": float(alarms[0])}
        figures = {name: value for name, value in figures.items() if not np.isnan(value)}
        unmarked = only_detected(results, range(1, self.findings.num_classes))
        figures |= {f"only_detected/{self.findings.name(label)}": float(boxes) for label, boxes in unmarked.items()}
        return figures | {"sensitivity@1fp": froc(results).at(1).sensitivity}


def _of_all_processes(films: dict[int, FilmResult]) -> dict[int, FilmResult]:
    """Return the films of all processes; a film that several had is taken from the first of them."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return films
    shares: list[dict[int, FilmResult]] = [{} for _ in range(distributed.get_world_size())]
    distributed.all_gather_object(shares, films)
    return {index: film for share in reversed(shares) for index, film in share.items()}


def _result(detection: dict[str, Tensor], target: dict[str, Tensor]) -> FilmResult:
    """Return a film's result, with the detections of the findings that its readers looked for."""
    answer = {name: values.cpu().numpy() for name, values in detection.items()}
    labelled = target["labelled"].cpu().numpy() if "labelled" in target else None
    finite = all(np.isfinite(values).all() for values in answer.values())
    kept = np.full(len(answer["labels"]), finite) if labelled is None else labelled[answer["labels"] - 1] & finite
    return FilmResult(
        study=str(int(target["film"])),
        patient="",
        size=(0, 0),
        truth_boxes=target["boxes"].cpu().numpy(),
        truth_labels=target["labels"].cpu().numpy(),
        **{name: answer[name][kept] for name in ("boxes", "labels", "scores")},
        finding_scores=answer["finding_scores"],
        abnormal=float(answer["abnormal"]) if finite else 0.0,
        labelled=labelled,
    )


def _or_nan(figure: Tensor) -> float:
    """Return NaN for COCO's -1, "no true boxes", which would look like a bad score and lower every mean."""
    return float("nan") if figure < 0 else float(torch.as_tensor(figure))
