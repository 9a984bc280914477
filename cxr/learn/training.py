"""What the training of any model has in common: losses by name, figures, repeatable random numbers, learning rate."""

import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import lightning as L  # noqa: N812  # the name its own documentation uses
import numpy as np
import torch
from rich.table import Table
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

_log = logging.getLogger(__name__)

LR_SCALING: dict[str | None, Callable[[float], float]] = {None: lambda times: 1.0, "linear": float, "sqrt": math.sqrt}
"""How a learning rate grows with a step of so many times the items."""


class NonFiniteLossError(FloatingPointError):
    """The loss is infinite or not a number: the weights would be lost with the next step."""


class Training(L.LightningModule, ABC):
    """A model in training: what it learns from is ``losses``, what it is measured by ``measure`` and ``figures``.

    Logged: ``train/<loss>`` and ``train/loss``, their sum (epoch means), ``train/learning_rate`` and
    ``train/gradient_norm`` (before clipping; every ``log_every_n_steps``), the same losses as ``val/…`` and ``test/…``,
    and the figures as ``val/<figure>`` and ``test/<figure>``.

    Args:
        optimizer: called with the parameters that learn.
        scheduler: called with the optimizer, ``total_steps`` and ``steps_per_epoch``, and stepped after every optimizer
            step (``cxr.learn.schedules``); None keeps the learning rate.
        seed: a batch's random numbers follow from (seed, epoch, batch, process) alone, so a resumed run repeats an
            undisturbed one to the bit (on CPU).
        card: plain containers to keep in every checkpoint under ``"cxr"`` (config, vocabulary, data fingerprint, …).
        lr_scaling: how the optimizer's learning rates grow with the items that a step takes on all devices and with
            accumulated batches: "linear", "sqrt" or, None, not at all, with a warning where they are more than a batch.
        reference_batch: items a step that the learning rates were chosen for; None: one batch of one device.
    """

    def __init__(
        self,
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
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.seed = seed
        self.card: dict[str, Any] = dict(card or {})
        self.lr_scaling = lr_scaling
        self.reference_batch = reference_batch
        self.last_losses: Mapping[str, Tensor] = {}
        """Of the last step, without gradient, by name."""
        self._losses: list[Tensor] = []  # of the steps of this epoch
        self._measured_losses: list[Tensor] = []  # of the batches of this validation

    @abstractmethod
    def losses(self, batch: Any) -> dict[str, Tensor]:
        """Return the losses of a batch by name, scalars; called in train mode, and without gradient in eval mode."""

    @abstractmethod
    def measure(self, batch: Any) -> Any:
        """Take a batch of validation or test into the figures; what it returns reaches callbacks as ``measured``."""

    @abstractmethod
    def figures(self) -> dict[str, float]:
        """Return the figures of all that was measured since the last call, and forget it."""

    @abstractmethod
    def monitors(self) -> tuple[str, ...]:
        """Return the names of the figures that rise as the model gets better: what may choose the best epoch."""

    @abstractmethod
    def table(self, metrics: Mapping[str, float], items: Sequence[Any]) -> Table:
        """Return the figures of the test (``test/<figure>``) for the terminal; ``items`` are those of the split."""

    def calibrate(self, validation: Any) -> dict[str, Any]:
        """Return what is chosen on validation data with the best weights, for the checkpoint's card; here nothing."""
        return {}

    @contextmanager
    def measuring(self) -> Iterator[None]:
        """Hold what the losses and the figures of one batch may share; here nothing."""
        yield

    def configure_optimizers(self) -> Any:
        """Return the optimizer over what learns, and its schedule."""
        optimizer = self.optimizer([p for p in self.parameters() if p.requires_grad])
        self.trainer.fit_loop.setup_data()  # else batches and their number are not known yet
        self._scale_learning_rate(optimizer)
        if self.scheduler is None:
            return optimizer
        total_steps = self.trainer.estimated_stepping_batches
        steps_per_epoch = -(-int(self.trainer.num_training_batches) // self.trainer.accumulate_grad_batches)
        scheduler = self.scheduler(optimizer, total_steps=total_steps, steps_per_epoch=steps_per_epoch)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the sum of the losses.

        Raises:
            NonFiniteLossError: it is not finite; names the step and the losses.
        """
        # Random numbers come from a stream of the batch's own: at an epoch's start would be too early, as loaders draw
        # from the global one at different moments in a fresh and in a resumed run.
        self._seed(self.current_epoch, batch_idx)
        losses = self.losses(batch)
        loss = torch.stack(list(losses.values())).sum()
        # Of all processes: one that stopped alone would leave the others waiting for its gradients. No extra wait on
        # GPU: a detector's own sampling waits for it many times a step
        if not self.trainer.strategy.reduce(torch.isfinite(loss).float(), reduce_op="min"):
            raise NonFiniteLossError(self._non_finite(losses))
        self.last_losses = {name: value.detach() for name, value in losses.items()}
        self._log_train_losses({**losses, "loss": loss}, batch_idx)
        return loss

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Log the learning rate and the norm of the gradients, at the logger's own interval only."""
        if (self.global_step + 1) % self.trainer.log_every_n_steps:  # type: ignore[attr-defined]
            return
        gradients = [p.grad for p in self.parameters() if p.grad is not None]
        self.log("train/gradient_norm", torch.nn.utils.get_total_norm(gradients))
        self.log("train/learning_rate", optimizer.param_groups[0]["lr"])

    def validation_step(self, batch: Any, batch_idx: int) -> dict[str, Any]:
        """Log the losses and take the batch into the figures; callbacks get what ``measure`` returned."""
        return self._evaluate("val", batch, batch_idx)

    def test_step(self, batch: Any, batch_idx: int) -> dict[str, Any]:
        """Log the losses and take the batch into the figures; callbacks get what ``measure`` returned."""
        return self._evaluate("test", batch, batch_idx)

    def on_validation_epoch_end(self) -> None:
        """Log the figures of all validation items.

        Raises ``NonFiniteLossError`` where a loss is not finite: the last step before has spoilt the weights.
        """
        losses, self._measured_losses = torch.stack(self._measured_losses), []
        if not self.trainer.strategy.reduce(torch.isfinite(losses).all().float(), reduce_op="min"):
            raise NonFiniteLossError(self._non_finite({"validation loss": losses.sum()}))
        self.log_dict({f"val/{name}": value for name, value in self.figures().items()})

    def on_test_epoch_end(self) -> None:
        """Log the figures of all test items."""
        self._measured_losses = []
        self.log_dict({f"test/{name}": value for name, value in self.figures().items()})

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Put the card into the checkpoint."""
        checkpoint["cxr"] = self.card

    def validation_losses(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        """Return the losses as in training, with random numbers that repeat every epoch and disturb none."""
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices), torch.no_grad():
            self._seed(batch_idx)
            return self.losses(batch)

    def _evaluate(self, stage: str, batch: Any, batch_idx: int) -> dict[str, Any]:
        with self.measuring():
            losses = self.validation_losses(batch, batch_idx)
            measured = self.measure(batch)
        losses["loss"] = torch.stack(list(losses.values())).sum()
        self._measured_losses.append(losses["loss"].detach())
        logged = {f"{stage}/{name}": value for name, value in losses.items()}
        self.log_dict(logged, on_step=False, on_epoch=True, batch_size=_items(batch), sync_dist=True)
        return {"measured": measured}

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
        """Set the learning rates for the items that a step takes; say so where these are more than one batch."""
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

    def _non_finite(self, losses: Mapping[str, Tensor]) -> str:
        values = ", ".join(f"{name} {value.item():g}" for name, value in losses.items())
        values += f" (process {self.global_rank} of {self.trainer.world_size})" if self.trainer.world_size > 1 else ""
        return (
            f"the loss is not finite at step {self.global_step} (epoch {self.current_epoch + 1}): {values}."
            " Lower optimizer.lr, warm up longer, or clip gradients (trainer.gradient_clip_val)"
        )


def _items(batch: Any) -> int:
    """Return how many items a batch has: the length of its first part, tensor or list."""
    parts = batch.values() if isinstance(batch, Mapping) else batch
    return len(next(iter(parts)))
