"""Films that nobody marked teach a detector what the average of its own weights is sure of."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from cxr.data.augment import Augment
from cxr.data.dataset import channels_first, stream
from cxr.detect.detector import Boxes, Detector
from cxr.detect.task import Batch, DetectionTask
from cxr.findings import FindingVocabulary
from cxr.learn.parameter_groups import NamedParameters

Target = dict[str, Tensor]


class TeacherTask(DetectionTask):
    """Trains a detector on marked films, and on unmarked ones as a teacher marks them.

    The teacher is the moving average of the detector's weights (Tarvainen and Valpola 2017, arXiv 1703.01780), which
    the callback ``ema`` keeps. It marks a film as the data set serves it; the detector learns the marks on a view that
    ``student`` changes (Liu 2021, Unbiased Teacher, arXiv 2102.09480). A finding is one of three things on a film:
    present where a box of the teacher is sure enough, with all such boxes; absent where even its best score is low;
    else unknown, so that no loss of a class sees it. A film teaches where it has a sure box, or where every finding is
    absent.

    The losses of unmarked films are logged as ``train/<loss>_unmarked``, 0 where none taught; ``train/sure_boxes`` is
    how many boxes an unmarked film gave.

    Args:
        student: view of the teacher → view that is learnt.
        confident: the score from which a box is sure, for all findings, or {finding: score}; a finding with None, or
            that is not named, is never learnt from unmarked films: where their source may hide it.
        absent: score, 0..1; a finding whose best box is below it is absent.
        weight: of the losses of unmarked films.
        begins_at: epoch, from 0, from which unmarked films teach; not before the average has begun (callback ``ema``).
        findings, model, optimizer, scheduler, seed, card, lr_scaling, reference_batch, class_weights, frozen: see
            ``DetectionTask``.

    Raises ``ValueError`` for scores outside 0..1, and where ``absent`` is above a score of ``confident``.
    """

    def __init__(
        self,
        findings: FindingVocabulary,
        model: Callable[..., Detector],
        optimizer: Callable[[NamedParameters], Optimizer],
        student: Augment,
        scheduler: Callable[..., LRScheduler] | None = None,
        seed: int = 0,
        card: Mapping[str, Any] | None = None,
        lr_scaling: Literal["linear", "sqrt"] | None = None,
        reference_batch: int | None = None,
        class_weights: Mapping[str, float] | Literal["balanced"] | None = None,
        frozen: Sequence[str] = (),
        confident: float | Mapping[str, float | None] = 0.8,
        absent: float = 0.1,
        weight: float = 1.0,
        begins_at: int = 10,
    ) -> None:
        super().__init__(
            findings, model, optimizer, scheduler, seed, card, lr_scaling, reference_batch, class_weights, frozen
        )
        self.student = student
        self.confident = confident_scores(confident, absent, findings)
        self.absent = absent
        self.weight = weight
        self.begins_at = begins_at

    def on_fit_start(self) -> None:
        """Raise ``ValueError`` where there is no teacher or nothing to mark."""
        super().on_fit_start()
        if self._averaging() is None:
            raise ValueError("task=teacher needs the moving average of the weights: type callbacks=[default,ema]")
        films = self.trainer.datamodule.films["train"]  # type: ignore[attr-defined]
        if not any(film.unmarked for film in films):
            raise ValueError("task=teacher has no unmarked film to learn from: type data.unmarked=FOLDER")

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return the losses of the marked films, and in training those of the unmarked ones as ``<loss>_unmarked``."""
        if not self.training:
            return super().losses(batch)
        marked, unmarked = _apart(batch)
        losses = super().losses(marked)
        images, targets = self._marked_by_teacher(unmarked) if self._teaches() else ([], [])
        boxes = sum(len(target["labels"]) for target in targets) / max(len(unmarked[0]), 1)
        self.log("train/sure_boxes", boxes, on_step=False, on_epoch=True, batch_size=1, sync_dist=True)
        taught = self.detector.losses(images, targets) if images else {}
        zero = next(iter(losses.values())).new_zeros(())
        return losses | {f"{name}_unmarked": self.weight * taught.get(name, zero) for name in losses}

    @torch.no_grad()
    def _marked_by_teacher(self, batch: Batch) -> Batch:
        """Return the views of unmarked films that teach something, with the teacher's marks."""
        images, targets = batch
        if not images:
            return [], []
        teacher = self._teacher().eval()
        views, marks = [], []
        for image, target, detections in zip(images, targets, teacher.detect(images), strict=True):
            mark = sure_marks(detections, self.confident.to(image.device), self.absent)
            if mark is None:
                continue
            view, of_view = self._view(image, mark, stream(self.seed, self.current_epoch, int(target["film"]), 1))
            views.append(view)
            marks.append(of_view)
        return views, marks

    def _view(self, image: Tensor, mark: Target, seed: int) -> tuple[Tensor, Target]:
        """Return the student's view of a film, with the boxes where they are in it."""
        pixels = (image * 65535).round().permute(1, 2, 0).cpu().numpy().astype("uint16")
        boxes, labels = mark["boxes"].cpu().numpy(), mark["labels"].cpu().numpy()
        view, boxes, labels = self.student(pixels[..., 0] if len(image) == 1 else pixels, boxes, labels, seed)
        moved = {"boxes": torch.from_numpy(boxes), "labels": torch.from_numpy(labels), "labelled": mark["labelled"]}
        return channels_first(view).to(image.device), {name: value.to(image.device) for name, value in moved.items()}

    def _teaches(self) -> bool:
        """Whether unmarked films teach now. Until its first update the average is the network as it began."""
        average: Any = self._averaging()
        return self.current_epoch >= self.begins_at and int(average._average_model.n_averaged) > 0

    def _averaging(self) -> WeightAveraging | None:
        callbacks = self.trainer.callbacks  # type: ignore[attr-defined]
        return next((callback for callback in callbacks if isinstance(callback, WeightAveraging)), None)

    def _teacher(self) -> Detector:
        """Return the average of the detector. Lightning 2.6 has no public name for it."""
        average: Any = self._averaging()
        detector: Detector = average._average_model.module.detector
        return detector


def confident_scores(
    confident: float | Mapping[str, float | None], absent: float, findings: FindingVocabulary
) -> Tensor:
    """Return [K] the score from which a box of each finding is sure, infinite where it never is."""
    scores: Mapping[str, float | None]
    if isinstance(confident, Mapping):
        names = findings.resolve(list(confident), source="task.confident")
        scores = dict(zip(names, confident.values(), strict=True))
    else:
        scores = dict.fromkeys(findings.names, confident)
    for name, score in scores.items():
        if score is not None and not 0 <= absent < score <= 1:
            raise ValueError(
                f"task.confident is {score} for {name} and task.absent {absent}, expected 0 <= absent < confident <= 1"
            )
    known = [scores.get(name) for name in findings.names]
    return torch.tensor([torch.inf if score is None else float(score) for score in known])


def sure_marks(detections: Boxes, confident: Tensor, absent: float) -> Target | None:
    """Return what a film teaches as a target: boxes, labels, labelled [K + 1]; None where it teaches nothing.

    Args:
        detections: boxes [M, 4], labels [M] in 1..K, scores [M].
        confident: [K] the score from which a box of each finding is sure.
        absent: a finding whose best score is below it is absent, if it may be learnt at all.
    """
    labels, scores = detections["labels"], detections["scores"]
    best = scores.new_zeros(len(confident)).scatter_reduce(0, labels - 1, scores, "amax")
    present = best >= confident
    known = present | ((best < absent) & confident.isfinite())
    if not present.any() and not known.all():
        return None
    sure = scores >= confident[labels - 1]
    whole = known.all()[None] & ~present.any()[None]  # a film without a box is normal only where nothing is unknown
    return {"boxes": detections["boxes"][sure], "labels": labels[sure], "labelled": torch.cat([known, whole])}


def _apart(batch: Batch) -> tuple[Batch, Batch]:
    """Return the marked and the unmarked films of a batch."""
    parts: tuple[Batch, Batch] = ([], []), ([], [])
    for image, target in zip(*batch, strict=True):
        images, targets = parts[int(not target["labelled"].any() and not len(target["labels"]))]
        images.append(image)
        targets.append(target)
    return parts
