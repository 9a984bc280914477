"""Figures of a detector on a set of films: average precision and recall, per finding by name, and false alarms."""

import numpy as np
import torch
from torch import Tensor, distributed
from torchmetrics.detection import MeanAveragePrecision
from torchmetrics.functional.classification import binary_auroc

from cxr.findings import FindingVocabulary
from cxr.measure import froc

Boxes = list[dict[str, Tensor]]
_Film = tuple[dict[str, Tensor], dict[str, Tensor]]  # what was detected on it, what is true


class DetectionMetrics:
    """Collects detections and true boxes film by film, and computes COCO's figures from them.

    COCO's mean takes in only the findings that have true boxes, and says nothing of false alarms below the last true
    box's score, on normal films above all; so those are counted apart, and sensitivity is told at a number of them.

    Where several processes share the films (``torch.distributed``), ``compute`` brings together the films of all of
    them, not figures: a film counts once, however many processes had it, and the figures are those of one process that
    had all films.

    Args:
        findings: gives the figures their names.
        alarm_threshold: a detection on a normal film counts as a false alarm from this score on.
        max_detections: so many detections a film, the best ones, enter AP and AR.
    """

    def __init__(self, findings: FindingVocabulary, alarm_threshold: float = 0.5, max_detections: int = 100) -> None:
        self.findings = findings
        self.alarm_threshold = alarm_threshold
        self.max_detections = max_detections
        self._films: dict[int, _Film] = {}

    def update(self, detections: Boxes, targets: Boxes) -> None:
        """Take in films: detections {boxes [M, 4], labels, scores}, targets {boxes [N, 4], labels, film}, same frame.

        Boxes are xyxy in original pixels, so that COCO's small, medium and large mean the same on every film. ``film``,
        int64 [], tells films apart: one that comes again is left out. A detection may hold ``abnormal`` [], the film's
        own score; without it the strongest box's is taken, and 0 where there is none. A target may hold ``labelled``,
        bool [K + 1]: a finding that the film's readers did not look for is neither found nor a false alarm there, and
        a film without boxes is normal only where the last of them says so.
        """
        for detection, target in zip(detections, targets, strict=True):
            told = _told(_on_cpu(detection), target.get("labelled"))
            self._films.setdefault(int(target["film"]), (told, _on_cpu(target)))

    def compute(self) -> dict[str, float]:
        """Return the figures, each in 0..1 but for the last. With several processes, all of them must call this.

        ``map`` (IoU .50 to .95), ``map_50``, ``map_75``, ``mar_<max_detections>``: means over the findings that have
        true boxes; NaN where no film has any. ``ap/<finding>``, ``ap50/<finding>``, ``ar/<finding>``: a finding without
        true boxes is left out, whatever was detected. ``sensitivity@1fp``: share of the true boxes of all findings that
        is found (IoU .50) at one false positive a film; NaN where no film has any. ``image_auc``: how often a film with
        true boxes scores above a normal one; left out without films of either kind.
        ``false_positives_per_normal_film``: detections scored ``alarm_threshold`` or higher; left out where no film is
        normal.
        """
        films = _of_all_processes(self._films)
        detections, targets = ([film[side] for _, film in sorted(films.items())] for side in (0, 1))
        return self._of_boxes(detections, targets) | self._of_films(detections, targets)

    def reset(self) -> None:
        """Forget all films."""
        self._films = {}

    def _of_boxes(self, detections: Boxes, targets: Boxes) -> dict[str, float]:
        average = MeanAveragePrecision(
            backend="faster_coco_eval",
            extended_summary=True,
            iou_thresholds=np.linspace(0.5, 0.95, 10).tolist(),  # torchmetrics' own are float32: 0.6 is not 0.6, and a
            rec_thresholds=np.linspace(0.0, 1.0, 101).tolist(),  # recall of 12/20 misses a point that COCO counts
            max_detection_thresholds=[1, 10, self.max_detections],
            sync_on_compute=False,  # the films of all processes are here already, each once
        )
        average.warn_on_many_detections = False
        average.update(detections, targets)
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

    def _of_films(self, detections: Boxes, targets: Boxes) -> dict[str, float]:
        matches = froc.match_boxes(_flat(detections), _flat(targets), np.ones(len(targets), bool))
        figures = {"sensitivity@1fp": froc.curve(matches).at(1).sensitivity}
        normal = [detection for detection, truth in zip(detections, targets, strict=True) if _is_normal(truth)]
        marked = [detection for detection, truth in zip(detections, targets, strict=True) if len(truth["labels"])]
        if marked and normal:
            abnormal = torch.stack([_abnormal(detection) for detection in (*marked, *normal)])
            truth = torch.tensor([1] * len(marked) + [0] * len(normal))
            figures["image_auc"] = binary_auroc(abnormal, truth).item()
        if normal:
            alarms = [int((detection["scores"] >= self.alarm_threshold).sum()) for detection in normal]
            figures["false_positives_per_normal_film"] = sum(alarms) / len(normal)
        return figures


def _of_all_processes(films: dict[int, _Film]) -> dict[int, _Film]:
    """Return the films of all processes; of one that several had, what the first of them said."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return films
    shares: list[dict[int, _Film]] = [{} for _ in range(distributed.get_world_size())]
    distributed.all_gather_object(shares, films)
    return {index: film for share in reversed(shares) for index, film in share.items()}


def _on_cpu(boxes: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.cpu() for name, value in boxes.items()}


def _told(detection: dict[str, Tensor], labelled: Tensor | None) -> dict[str, Tensor]:
    """Return the detections of the findings that the film's readers looked for."""
    if labelled is None or labelled.all():
        return detection
    kept = labelled.cpu()[detection["labels"] - 1]
    return detection | {name: detection[name][kept] for name in ("boxes", "labels", "scores")}


def _is_normal(target: dict[str, Tensor]) -> bool:
    """Whether a film is known to bear no finding: no box, and its readers looked for all."""
    return not len(target["labels"]) and ("labelled" not in target or bool(target["labelled"][-1]))


def _abnormal(detection: dict[str, Tensor]) -> Tensor:
    strongest = detection["scores"].amax() if len(detection["scores"]) else torch.zeros(())
    return detection.get("abnormal", strongest)


def _flat(films: Boxes) -> froc.Boxes:
    """Return the boxes of films end to end; true boxes have no scores."""
    counts = [len(film["labels"]) for film in films]
    labels, boxes = (torch.cat([film[name] for film in films]).cpu().numpy() for name in ("labels", "boxes"))
    scores = [film["scores"] for film in films if "scores" in film]
    flat = torch.cat(scores).cpu().numpy() if scores else np.zeros(0)
    return froc.Boxes(
        np.repeat(np.arange(len(films)), counts), labels, boxes.astype(np.float64), flat.astype(np.float64)
    )


def _or_nan(figure: Tensor) -> float:
    """Return COCO's -1, "no true boxes", as NaN: it would pass for a bad score and pull down every mean."""
    return float("nan") if figure < 0 else float(torch.as_tensor(figure))
