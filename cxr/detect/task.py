"""Training and validation of a detector."""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from rich.table import Table
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torchvision.ops import clip_boxes_to_image

from cxr.data.film import Film
from cxr.detect.calibrate import calibrate
from cxr.detect.detector import Detector, Pyramid
from cxr.detect.image_head import ImageHead
from cxr.detect.metrics import DetectionMetrics
from cxr.detect.region_heads import RegionHeads
from cxr.findings import FindingVocabulary
from cxr.learn.parameter_groups import NamedParameters
from cxr.learn.training import Training
from cxr.measure.average_precision import only_detected_in_words
from cxr.measure.operating_point import choose_operating_point
from cxr.measure.promises import choose_promises
from cxr.measure.results import with_known_truth

Batch = tuple[list[Tensor], list[dict[str, Tensor]]]


class DetectionTask(Training):
    """Trains a detector and measures it, per finding by name.

    A batch is (images, targets): images [C, h, w] float 0..1 of any sizes, and targets {boxes [N, 4] float xyxy in the
    image's frame, labels int64 [N] 1..K, scale [2] = image pixels per original pixel along x and y, size [2] = original
    height and width, original_boxes [M, 4] and original_labels [M] = what the readers marked, in original pixels, also
    where it is too small for the image, labelled bool [K + 1] = which findings the readers looked for and whether no
    box means a normal film, film [] = its index in its split}. M = 0 is a film without marks.

    Beside what ``Training`` logs, all figures of ``DetectionMetrics`` are logged. They are measured in original pixels
    against all that the readers marked.

    Several processes, each with its share of the films, log exactly the figures of one process with all films: their
    results are collected and each film counts once. Their losses are means over what the processes saw. In validation
    the few films that two processes had count twice there, and regions are sampled by other random numbers.

    Args:
        findings: the vocabulary behind the class indices.
        model: called with ``num_classes`` (with background), returns the detector.
        optimizer, scheduler, seed, card, lr_scaling, reference_batch: see ``Training``.
        class_weights: weight of a region in the box head's class loss, by its finding: {finding: weight}, 1 for those
            that it does not name. "balanced": √(boxes of the commonest finding / boxes of this one) in training. None:
            1 for all. For Faster R-CNN only.
        frozen: parts of the detector that do not learn, by name: ["backbone", "rpn"].
    """

    def __init__(
        self,
        findings: FindingVocabulary,
        model: Callable[..., Detector],
        optimizer: Callable[[NamedParameters], Optimizer],
        scheduler: Callable[..., LRScheduler] | None = None,
        seed: int = 0,
        card: Mapping[str, Any] | None = None,
        lr_scaling: Literal["linear", "sqrt"] | None = None,
        reference_batch: int | None = None,
        class_weights: Mapping[str, float] | Literal["balanced"] | None = None,
        frozen: Sequence[str] = (),
    ) -> None:
        super().__init__(optimizer, scheduler, seed, card, lr_scaling, reference_batch)
        self.findings = findings
        detector = model(num_classes=findings.num_classes)
        if not isinstance(detector, Detector):
            raise TypeError(
                f"model gives a {type(detector).__name__}, expected a cxr.detect.detector.Detector; a detector in"
                " torchvision's contract becomes one by _target_: cxr.detect.foreign.torchvision_detector"
            )
        self.detector: Detector = detector
        self._measured: dict[int, Pyramid] | None = None
        self.class_weights = class_weights
        self.frozen = [self._part(name) for name in frozen]
        for part in self.frozen:
            part.requires_grad_(False)
        if class_weights is not None:
            self._regions()  # raises now, before hours of reading, where the detector has none
        self._metrics = DetectionMetrics(findings)

    def on_fit_start(self) -> None:
        """Set the weights of the classes, which may depend on the training films."""
        if self.class_weights is not None:
            films: Sequence[Film] = self.trainer.datamodule.films["train"]  # type: ignore[attr-defined]
            weights = class_weights(films, self.findings, self.class_weights)
            self._regions().class_weights.copy_(torch.tensor(weights))

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Keep the statistics of frozen parts. Each batch, as a run resumed within an epoch has no start of it."""
        for part in self.frozen:
            part.eval()

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return the detector's dict of losses, and ``loss_image`` where it has an image head."""
        images, targets = batch
        return dict(self.detector.losses(images, targets, self._pyramid(images)))

    def measure(self, batch: Batch) -> list[dict[str, Tensor]]:
        """Add the detections of a batch to the figures, and return them as ``detect`` does."""
        images, targets = batch
        detections = self.detect(images, targets)
        # Original boxes: those of the image lack boxes below a pixel, which would then not count as missed
        truth = [{"boxes": t["original_boxes"], "labels": t["original_labels"], **_known(t)} for t in targets]
        self._metrics.update(detections, truth)
        return detections

    def figures(self) -> dict[str, float]:
        """Return the figures of ``DetectionMetrics``, and forget the films."""
        figures = self._metrics.compute()
        self._metrics.reset()
        return figures

    def monitors(self) -> tuple[str, ...]:
        """Return the names of the figures by which the best epoch may be chosen."""
        means = ("map", "map_50", "map_75", "mar_100", "sensitivity@1fp", "image_auc")
        return (*means, *(f"{figure}/{name}" for figure in ("ap", "ap50", "ar") for name in self.findings.names))

    def table(self, metrics: Mapping[str, float], items: Sequence[Film]) -> Table:
        """Return AP50, AP and AR of each finding, and their means."""
        normal = sum(film.normal for film in items)
        table = Table(title_justify="left", title=f"Test: {len(items)} films, {normal} of them normal")
        for heading in ("finding", "boxes", "AP50", "AP", "AR"):
            table.add_column(heading, justify="left" if heading == "finding" else "right", overflow="fold")
        for name in self.findings.names:
            boxes = sum(film.findings.count(name) for film in items)
            figures = (_cell(metrics, f"test/{figure}/{name}") for figure in ("ap50", "ap", "ar"))
            table.add_row(self.findings.label(name), str(boxes), *figures)
        table.add_section()
        table.add_row("mean", "", *(_cell(metrics, f"test/{m}") for m in ("map_50", "map", "mar_100")), style="bold")
        alarms = _cell(metrics, "test/false_positives_per_normal_film")
        unmarked = {name: int(metrics.get(f"test/only_detected/{name}", 0)) for name in self.findings.names}
        lines = f"false positives per normal film {alarms}", only_detected_in_words(unmarked, self.findings)
        table.caption, table.caption_justify = "\n".join(lines).strip(), "left"
        return table

    def calibrate(self, validation: Any) -> dict[str, Any]:
        """Choose the weights of the image head's scores; return the ``operating_point`` of screening and ``promises``.

        All are chosen on the validation films.
        """
        results = calibrate(self, validation)
        point = choose_operating_point(with_known_truth(results))
        return {
            "operating_point": point.as_dict(),
            "promises": choose_promises(results, self.findings.names).as_dict(),
        }

    @contextmanager
    def measuring(self) -> Iterator[None]:
        """Within this context, losses and detections of one batch share its pyramid, the most expensive part."""
        self._measured = {}
        try:
            yield
        finally:
            self._measured = None

    @torch.no_grad()
    def detect(self, images: list[Tensor], targets: list[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
        """Return the detections and the scores of each film.

        boxes [M, 4] float32 xyxy in original pixels, labels int64 [M], scores float32 [M]; and of the whole film
        finding_scores float32 [K] and abnormal float32 [], all 0..1 (``Detector.detect``).

        Args:
            images: B tensors [C, h, w] float in 0..1.
            targets: only their ``scale`` and ``size`` are read.
        """
        detections = self.detector.detect(images, self._pyramid(images))
        return [in_original(of_film, target) for of_film, target in zip(detections, targets, strict=True)]

    def _pyramid(self, images: list[Tensor]) -> Pyramid | None:
        """Return the shared pyramid of a batch that is being measured; None elsewhere."""
        if self._measured is None:
            return None
        if id(images) not in self._measured:
            self._measured[id(images)] = self.detector.pyramid(images)
        return self._measured[id(images)]

    def _part(self, name: str) -> nn.Module:
        parts = dict(self.detector.named_children())
        if name not in parts:
            raise ValueError(f"task.frozen names {name!r}, expected parts of the detector: {', '.join(parts)}")
        return parts[name]

    def _regions(self) -> RegionHeads:
        heads = dict(self.detector.named_children()).get("roi_heads")
        if not isinstance(heads, RegionHeads):
            raise ValueError("task.class_weights: only the box head of Faster R-CNN takes them; type model=fasterrcnn")
        return heads

    @property
    def image_head(self) -> ImageHead | None:
        """The detector's classifier of whole films, where it has one."""
        return self.detector.image_head


def class_weights(
    films: Sequence[Film], findings: FindingVocabulary, asked: Mapping[str, float] | Literal["balanced"]
) -> list[float]:
    """Return the weight of each class, background (1) first; see ``DetectionTask``."""
    if asked == "balanced":
        boxes = Counter(name for film in films for name in film.findings)
        most = max(boxes.values(), default=1)
        return [1.0, *(math.sqrt(most / boxes[name]) if boxes[name] else 1.0 for name in findings.names)]
    given = dict(zip(findings.resolve(list(asked), source="task.class_weights"), asked.values(), strict=True))
    return [1.0, *(float(given.get(name, 1.0)) for name in findings.names)]


def _known(target: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the entries of a target that the figures need beside the boxes."""
    return {name: target[name] for name in ("film", "labelled") if name in target}


def _cell(metrics: Mapping[str, float], key: str) -> str:
    value = metrics.get(key, math.nan)
    return "–" if math.isnan(value) else f"{value:.3f}"


def in_original(detections: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a film's detections with their boxes in original pixels, within the film."""
    boxes = detections["boxes"].float() / target["scale"].repeat(2)
    boxes = clip_boxes_to_image(boxes, tuple(target["size"].tolist()))
    return {**detections, "boxes": boxes, "scores": detections["scores"].float()}
