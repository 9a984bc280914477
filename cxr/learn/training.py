"""The parts that the training of all models shares: losses, figures, repeatable random numbers, learning rate."""

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
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from cxr.learn.parameter_groups import NamedParameters

_log = logging.getLogger(__name__)

LR_SCALING: dict[str | None, Callable[[float], float]] = {None: lambda times: 1.0, "linear": float, "sqrt": math.sqrt}
"""How a learning rate grows with the ratio of items in a step."""


class NonFiniteLossError(FloatingPointError):
    """The error of a loss that is infinite or NaN: the next step would spoil the weights."""


class Training(L.LightningModule, ABC):
    """A model in training. It learns from ``losses``; ``measure`` and ``figures`` measure it.

    These are logged: ``train/<loss>`` and their sum ``train/loss`` (means over an epoch); ``train/learning_rate`` and
    ``train/gradient_norm`` (before clipping) every ``log_every_n_steps``; the same losses as ``val/…`` and ``test/…``;
    the figures as ``val/<figure>`` and ``test/<figure>``.

    Args:
        optimizer: called with the parameters that learn and their names, [(name, parameter), …].
        scheduler: called with the optimizer, ``total_steps`` and ``steps_per_epoch``, and stepped after every optimizer
            step (``cxr.learn.schedules``); None keeps the learning rate.
        seed: the random numbers of a batch depend only on (seed, epoch, batch, process), so on a CPU a resumed run
            gives the same weights, to the bit, as one that was not interrupted.
        card: plain containers that every checkpoint keeps under ``"cxr"`` (config, vocabulary, data fingerprint, …).
        lr_scaling: how the learning rates grow with the number of items in a step, over all devices and accumulated
            batches: "linear" or "sqrt". With None they stay, and a step of more than one batch gives a warning.
        reference_batch: number of items in a step for which the learning rates were chosen; None: one batch of one
            device.
    """

    def __init__(
        self,
        optimizer: Callable[[NamedParameters], Optimizer],
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
        """Losses of the last step by name, without gradient."""
        self._losses: list[Tensor] = []  # one for each step of this epoch
        self._measured_losses: list[Tensor] = []  # one for each batch of this validation

    @abstractmethod
    def losses(self, batch: Any) -> dict[str, Tensor]:
        """Return the losses of a batch by name, as scalars; called in train mode, and in eval mode without gradient."""

    @abstractmethod
    def measure(self, batch: Any) -> Any:
        """Add a batch of validation or test to the figures. Callbacks get the returned value as ``measured``."""

    @abstractmethod
    def figures(self) -> dict[str, float]:
        """Return the figures of all batches that were measured since the last call, and reset them."""

    @abstractmethod
    def monitors(self) -> tuple[str, ...]:
        """Return the names of the figures that may choose the best epoch: those that rise as the model gets better."""

    @abstractmethod
    def table(self, metrics: Mapping[str, float], items: Sequence[Any]) -> Table:
        """Return a table of the test figures (``test/<figure>``) for the terminal; ``items`` are those of the split."""

    def calibrate(self, validation: Any) -> dict[str, Any]:
        """Return settings chosen on validation data with the best weights, for the checkpoint's card. Default: none."""
        return {}

    @contextmanager
    def measuring(self) -> Iterator[None]:
        """Let the losses and the figures of one batch share results. By default they share nothing."""
        yield

    def learning_parameters(self) -> NamedParameters:
        """Return the parameters that learn, with their names."""
        return [(name, parameter) for name, parameter in self.named_parameters() if parameter.requires_grad]

    def configure_optimizers(self) -> Any:
        """Return the optimizer of the parameters that learn, and its schedule."""
        optimizer = self.optimizer(self.learning_parameters())
        self.trainer.fit_loop.setup_data()  # otherwise the number of batches is not known yet
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
            NonFiniteLossError: the sum is not finite. The message names the step and the losses.
        """
        # Each batch has its own stream of random numbers. A stream for each epoch would not repeat: loaders draw from
        # the global stream, at different moments in a new run and in a resumed one.
        self._seed(self.current_epoch, batch_idx)
        losses = self.losses(batch)
        loss = torch.stack(list(losses.values())).sum()
        # Of all processes, because one that stops alone would leave the others waiting for its gradients. On a GPU this
        # adds no wait: the sampling of a detector already waits for the GPU many times in each step
        if not self.trainer.strategy.reduce(torch.isfinite(loss).float(), reduce_op="min"):
            raise NonFiniteLossError(self._non_finite(losses))
        self.last_losses = {name: value.detach() for name, value in losses.items()}
        self._log_train_losses({**losses, "loss": loss}, batch_idx)
        return loss

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Log the learning rate and the norm of the gradients, at the interval of the logger."""
        if (self.global_step + 1) % self.trainer.log_every_n_steps:  # type: ignore[attr-defined]
            return
        gradients = [p.grad for p in self.parameters() if p.grad is not None]
        self.log("train/gradient_norm", torch.nn.utils.get_total_norm(gradients))
        self.log("train/learning_rate", optimizer.param_groups[0]["lr"])

    def validation_step(self, batch: Any, batch_idx: int) -> dict[str, Any]:
        """Log the losses and add the batch to the figures; callbacks get the result of ``measure``."""
        return self._evaluate("val", batch, batch_idx)

    def test_step(self, batch: Any, batch_idx: int) -> dict[str, Any]:
        """Log the losses and add the batch to the figures; callbacks get the result of ``measure``."""
        return self._evaluate("test", batch, batch_idx)

    def on_validation_epoch_end(self) -> None:
        """Log the figures of all validation items.

        Raises ``NonFiniteLossError`` if a loss is not finite: the last training step has spoilt the weights.
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
        """Return the losses as in training, with random numbers that repeat in every epoch and change no others."""
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
        """Keep the losses, and log their means with the last batch of the epoch.

        Lightning's own averaging gives the same, but takes 1.3 ms: a hundredth of a step of the smallest detector.
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
        """Scale the learning rates to the number of items in a step; print a line if these are more than one batch."""
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
        """Start the stream of random numbers of the seed, ``numbers`` and this process."""
        words = np.random.SeedSequence((self.seed, *numbers, self.global_rank)).generate_state(1)
        torch.default_generator.manual_seed(int(words[0]))  # 0.4 ms faster than torch.manual_seed
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
    """Return the number of items in a batch: the length of its first tensor or list."""
    parts = batch.values() if isinstance(batch, Mapping) else batch
    return len(next(iter(parts)))
