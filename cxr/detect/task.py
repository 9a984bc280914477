"""Training and validation of any detector in torchvision's contract."""

import logging
import math
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import lightning as L  # noqa: N812  # the name its own documentation uses
import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torchvision.ops import clip_boxes_to_image

from cxr.detect.image_head import ImageHead, with_image_scores
from cxr.detect.metrics import DetectionMetrics
from cxr.findings import BACKGROUND, FindingVocabulary

_log = logging.getLogger(__name__)

Batch = tuple[list[Tensor], list[dict[str, Tensor]]]

LR_SCALING: dict[str | None, Callable[[float], float]] = {None: lambda times: 1.0, "linear": float, "sqrt": math.sqrt}
"""How a learning rate grows with a step of so many times the films."""


class NonFiniteLossError(FloatingPointError):
    """The loss is infinite or not a number: the weights would be lost with the next step."""


class DetectionTask(L.LightningModule):
    """Trains a detector and measures it, per finding by name.

    A batch is (images, targets): images [1, h, w] float 0..1 of any sizes, and targets {boxes [N, 4] float xyxy in the
    image's frame, labels int64 [N] 1..K, scale [2] = image pixels per original pixel along x and y, size [2] = original
    height and width, original_boxes [M, 4] and original_labels [M] = what the readers marked, in original pixels, also
    where it is too small for the image, film [] = its index in its split}. M = 0 is a normal film.

    Logged: ``train/<loss>`` and ``train/loss``, their sum (epoch means), ``train/learning_rate`` and
    ``train/gradient_norm`` (before clipping; every ``log_every_n_steps``), the same losses as ``val/…`` and ``test/…``,
    and all figures of ``DetectionMetrics``, measured in original pixels against all that the readers marked.

    Several processes, each with its share of the films, log the figures of one process that had all films: exact, as
    every film is brought together and counted once. Their losses are means over what the processes saw: of validation
    the few films that two of them had count twice, and regions are sampled by other random numbers.

    Args:
        findings: the vocabulary behind the class indices.
        model: called with the number of classes (background counts), gives the detector.
        optimizer: called with the parameters that learn.
        scheduler: called with the optimizer, ``total_steps`` and ``steps_per_epoch``, and stepped after every optimizer
            step (``cxr.detect.schedules``); None keeps the learning rate.
        seed: a batch's random numbers follow from (seed, epoch, batch, process) alone, so a resumed run repeats an
            undisturbed one to the bit (on CPU).
        card: plain containers to keep in every checkpoint under ``"cxr"`` (config, vocabulary, data fingerprint, …).
        lr_scaling: how the optimizer's learning rates grow with the films that a step takes on all devices and with
            accumulated batches: "linear", "sqrt" or, None, not at all, with a warning where they are more than a batch.
        reference_batch: films a step that the learning rates were chosen for; None: one batch of one device.
    """

    def __init__(
        self,
        findings: FindingVocabulary,
        model: Callable[[int], nn.Module],
        optimizer: Callable[[list[nn.Parameter]], Optimizer],
        scheduler: Callable[..., LRScheduler] | None = None,
        seed: int = 0,
        card: Mapping[str, Any] | None = None,
        lr_scaling: Literal["linear", "sqrt"] | None = None,
        reference_batch: int | None = None,
    ) -> None:
        super().__init__()
        if lr_scaling not in LR_SCALING:
            raise ValueError(f"task.lr_scaling is {lr_scaling!r}, expected linear, sqrt or null")
        if reference_batch is not None and reference_batch < 1:
            raise ValueError(f"task.reference_batch is {reference_batch}, expected at least 1 film, or null")
        self.findings = findings
        self.detector = model(findings.num_classes)
        self.seed = seed
        self.card: dict[str, Any] = dict(card or {})
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.lr_scaling = lr_scaling
        self.reference_batch = reference_batch
        self._metrics = DetectionMetrics(findings)
        self._losses: list[Tensor] = []  # of the steps of this epoch

    def configure_optimizers(self) -> Any:
        """Return the optimizer over what learns, and its schedule."""
        optimizer = self.optimizer([p for p in self.detector.parameters() if p.requires_grad])
        self.trainer.fit_loop.setup_data()  # else batches and their number are not known yet
        self._scale_learning_rate(optimizer)
        if self.scheduler is None:
            return optimizer
        total_steps = self.trainer.estimated_stepping_batches
        steps_per_epoch = -(-int(self.trainer.num_training_batches) // self.trainer.accumulate_grad_batches)
        scheduler = self.scheduler(optimizer, total_steps=total_steps, steps_per_epoch=steps_per_epoch)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the sum of the detector's losses.

        Raises:
            NonFiniteLossError: it is not finite; names the step and the losses.
        """
        images, targets = batch
        # Anchors and regions are sampled from a stream of the batch's own: at an epoch's start would be too early, as
        # loaders draw from the global one at different moments in a fresh and in a resumed run.
        self._seed(self.current_epoch, batch_idx)
        losses = self._losses_of(images, targets)
        loss = torch.stack(list(losses.values())).sum()
        # Of all processes: one that stopped alone would leave the others waiting for its gradients. No extra wait on
        # GPU: the detector's own sampling waits for it many times a step
        if not self.trainer.strategy.reduce(torch.isfinite(loss).float(), reduce_op="min"):
            raise NonFiniteLossError(self._non_finite(losses))
        self._log_train_losses({**losses, "loss": loss}, batch_idx)
        return loss

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Log the learning rate and the norm of the gradients, at the logger's own interval only."""
        if (self.global_step + 1) % self.trainer.log_every_n_steps:  # type: ignore[attr-defined]
            return
        gradients = [p.grad for p in self.detector.parameters() if p.grad is not None]
        self.log("train/gradient_norm", torch.nn.utils.get_total_norm(gradients))
        self.log("train/learning_rate", optimizer.param_groups[0]["lr"])

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """Log the losses, take the detections into the figures, and hand them on to callbacks as ``detections``."""
        return {"detections": self._measure("val", batch, batch_idx)}

    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """Log the losses, take the detections into the figures, and hand them on to callbacks as ``detections``."""
        return {"detections": self._measure("test", batch, batch_idx)}

    def on_validation_epoch_end(self) -> None:
        """Log the figures of all validation films."""
        self._log_metrics("val")

    def on_test_epoch_end(self) -> None:
        """Log the figures of all test films."""
        self._log_metrics("test")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Put the card into the checkpoint."""
        checkpoint["cxr"] = self.card

    @torch.no_grad()
    def detect(self, images: list[Tensor], targets: list[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
        """Return for each film what the detector says of it.

        boxes [M, 4] float32 xyxy in original pixels, labels int64 [M], scores float32 [M]; and of the whole film
        finding_scores float32 [K] and abnormal float32 [], all 0..1. With an image head the scores are fused with its
        own (``with_image_scores``).

        Args:
            images: B tensors [1, h, w] float in 0..1.
            targets: of which only ``scale`` and ``size`` are read.
        """
        was_training = self.detector.training
        self.detector.eval()
        try:
            with _pyramids(self.detector) as pyramids:
                detections = self.detector(images)
            logits = [None] * len(images) if self.image_head is None else list(self.image_head(pyramids[0]))
        finally:
            self.detector.train(was_training)
        head = self.image_head
        weights = (0.0, 0.0) if head is None else (float(head.box_weight), float(head.film_weight))
        return [
            with_image_scores(_in_original(found, target), len(self.findings.names), of_film, *weights)
            for found, target, of_film in zip(detections, targets, logits, strict=True)
        ]

    @property
    def image_head(self) -> ImageHead | None:
        """The detector's classifier of whole films, where it has one."""
        head = getattr(self.detector, "image_head", None)
        return head if isinstance(head, ImageHead) else None

    def _measure(self, stage: str, batch: Batch, batch_idx: int) -> list[dict[str, Tensor]]:
        images, targets = batch
        with _features_kept(self.detector):
            losses = self._validation_losses(batch, batch_idx)
            detections = self.detect(images, targets)
        losses["loss"] = torch.stack(list(losses.values())).sum()
        logged = {f"{stage}/{name}": value for name, value in losses.items()}
        self.log_dict(logged, on_step=False, on_epoch=True, batch_size=len(images), sync_dist=True)
        # Not the boxes of the image: what is under a pixel there was dropped, and would not count as missed
        truth = [{"boxes": t["original_boxes"], "labels": t["original_labels"], "film": t["film"]} for t in targets]
        self._metrics.update(detections, truth)
        return detections

    def _validation_losses(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Return the detector's losses as in training, with random numbers that repeat every epoch and disturb none."""
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices), _losses_not_detections(self.detector), torch.no_grad():
            self._seed(batch_idx)
            return self._losses_of(*batch)

    def _losses_of(self, images: list[Tensor], targets: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Return the detector's losses, and ``loss_image`` where it has an image head."""
        with _pyramids(self.detector) as pyramids:
            losses: dict[str, Tensor] = dict(self.detector(images, targets))
        if self.image_head is not None:
            losses["loss_image"] = self.image_head.loss(pyramids[0], targets)
        return losses

    def _log_train_losses(self, losses: Mapping[str, Tensor], batch_idx: int) -> None:
        """Keep the losses, and log their means with the epoch's last batch.

        Lightning's own averaging gives the same at 1.3 ms a step, a hundredth of a step of the smallest detector.
        """
        if batch_idx == 0:
            self._losses.clear()
        self._losses.append(torch.stack(list(losses.values())).detach())
        if self.trainer.is_last_batch:
            means = torch.stack(self._losses).mean(0)
            self.log_dict(
                {f"train/{name}": mean for name, mean in zip(losses, means, strict=True)},
                on_step=False, on_epoch=True, sync_dist=True, batch_size=1,
            )  # fmt: skip

    def _scale_learning_rate(self, optimizer: Optimizer) -> None:
        """Set the learning rates for the films that a step takes; say so where these are more than one batch."""
        loader: Any = self.trainer.train_dataloader
        batch = int(loader.batch_size)
        devices, accumulated = self.trainer.world_size, self.trainer.accumulate_grad_batches
        effective = batch * devices * accumulated
        factor = LR_SCALING[self.lr_scaling](effective / (self.reference_batch or batch))
        for group in optimizer.param_groups:
            group["lr"] *= factor
        taken = f"a step takes {effective} films ({batch} × {devices} devices × {accumulated} accumulated batches)"
        rate = f"the learning rate is {optimizer.param_groups[0]['lr']:g}"
        if self.lr_scaling is not None:
            _log.info("%s: %s, task.lr_scaling=%s times %g", taken, rate, self.lr_scaling, factor)
        elif effective != batch:
            _log.warning(
                "%s: %s, as for one batch of %d. Type task.lr_scaling=linear or sqrt to have it grow, or an "
                "optimizer.lr for so many films", taken, rate, batch,
            )  # fmt: skip

    def _seed(self, *numbers: int) -> None:
        """Start the stream of random numbers that belongs to the seed, ``numbers`` and this process."""
        words = np.random.SeedSequence((self.seed, *numbers, self.global_rank)).generate_state(1)
        torch.default_generator.manual_seed(int(words[0]))  # torch.manual_seed walks the whole stack: 0.4 ms a step
        if self.device.type == "cuda":
            torch.cuda.manual_seed(int(words[0]))

    def _log_metrics(self, stage: str) -> None:
        self.log_dict({f"{stage}/{name}": value for name, value in self._metrics.compute().items()})
        self._metrics.reset()

    def _non_finite(self, losses: Mapping[str, Tensor]) -> str:
        values = ", ".join(f"{name} {value.item():g}" for name, value in losses.items())
        values += f" (process {self.global_rank} of {self.trainer.world_size})" if self.trainer.world_size > 1 else ""
        return (
            f"the loss is not finite at step {self.global_step} (epoch {self.current_epoch}): {values}."
            " Lower optimizer.lr, warm up longer, or clip gradients (trainer.gradient_clip_val)"
        )


def _in_original(found: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return one film's detections in original pixels, without those that a single-stage detector calls background."""
    boxes = found["boxes"].float() / target["scale"].repeat(2)
    boxes = clip_boxes_to_image(boxes, tuple(target["size"].tolist()))
    kept = found["labels"] != BACKGROUND
    return {"boxes": boxes[kept], "labels": found["labels"][kept], "scores": found["scores"][kept].float()}


@contextmanager
def _pyramids(detector: nn.Module) -> Iterator[list[dict[str, Tensor]]]:
    """Collect what the detector's backbone gives on each call from this thread; nothing if it has none of that name."""
    seen: list[dict[str, Tensor]] = []
    backbone = getattr(detector, "backbone", None)
    if not isinstance(backbone, nn.Module):
        yield seen
        return
    thread = threading.get_ident()

    def keep(module: nn.Module, inputs: object, output: dict[str, Tensor]) -> None:
        if threading.get_ident() == thread:
            seen.append(output)

    hook = backbone.register_forward_hook(keep)
    try:
        yield seen
    finally:
        hook.remove()


@contextmanager
def _losses_not_detections(detector: nn.Module) -> Iterator[None]:
    """Let a detector in eval mode take the branch that computes losses, while its layers stay in eval mode.

    torchvision's detectors choose by the ``training`` flag of the modules that hold others. Only those are flipped:
    norm and dropout layers hold none, so batch statistics are neither used nor updated.
    """
    modes = {module: module.training for module in detector.modules()}
    detector.eval()
    for module in modes:
        module.training = next(module.children(), None) is not None
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@contextmanager
def _features_kept(detector: nn.Module) -> Iterator[None]:
    """Let the detector's backbone, if it has one of that name, compute once and answer from memory afterwards.

    For calls on one batch only: losses and detections share the most expensive part.
    """
    backbone = getattr(detector, "backbone", None)
    if not isinstance(backbone, nn.Module):
        yield
        return
    compute = backbone.forward
    answers: list[Any] = []

    def forward(batch: Tensor) -> Any:
        if not answers:
            answers.append(compute(batch))
        return answers[0]

    backbone.forward = forward  # on the instance: hides the class's own, and weights and hooks stay as they are
    try:
        yield
    finally:
        del backbone.forward
