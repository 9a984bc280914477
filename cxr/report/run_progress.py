"""Where a training is and how long it takes: a bar on a terminal, lines elsewhere (``cxr.progress``)."""

import math
import time
from collections import deque
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, cast

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar

from cxr import progress
from cxr.learn.training import Training
from cxr.progress import Work, in_words

VALIDATION_STEP = 2 / 3
"""Seconds of a batch of validation in seconds of a step, until one is measured: two passes forward (losses,
detections), where a step has one and a backward pass, which takes about as long as two."""
LONG_S = 3600.0
_FIRST_LOOK_S = 5.0  # of steps, before the time that all of them take is printed


@dataclass
class Pace:
    """How long a training takes, from what its steps and validations have taken so far.

    Args:
        epochs: of the whole training.
        steps, validation, test: batches of an epoch's training, of a validation and of the test.
    """

    epochs: int
    steps: int
    validation: int
    test: int = 0
    _step_s: deque[float] = field(default_factory=lambda: deque(maxlen=50))
    _validation_s: float | None = None
    _first: bool = True

    def stepped(self, seconds: float) -> None:
        """Note what a step took; the first one, which also starts readers, counts only until there is another."""
        if len(self._step_s) == 1 and self._first:
            self._step_s.clear()
            self._first = False
        self._step_s.append(seconds)

    def validated(self, seconds: float) -> None:
        """Note what a validation took."""
        self._validation_s = seconds

    @property
    def step_s(self) -> float:
        """Seconds of a step: the mean of the last ones; NaN before the first."""
        return fmean(self._step_s) if self._step_s else math.nan

    @property
    def epoch_s(self) -> float:
        """Seconds of an epoch with its validation."""
        return self.steps * self.step_s + self._looks_s(self.validation)

    def left_s(self, epoch: int, step: int) -> float:
        """Return the seconds from a step of an epoch, both counted from 0, to the end of the test."""
        return (self.epochs - epoch) * self.epoch_s - step * self.step_s + self._looks_s(self.test)

    def _looks_s(self, batches: int) -> float:
        if self._validation_s is None or not self.validation:
            return batches * VALIDATION_STEP * self.step_s
        return batches * self._validation_s / self.validation


class RunProgress(ProgressBar):
    """Say where a training is (epoch, step, losses, time left) and, after its first steps, how long all of it takes.

    Args:
        items: what the data are, in the plural: films, studies.
        quicker: what to type for a training that takes less; printed where this one takes over an hour on a CPU.
    """

    def __init__(self, items: str = "films", quicker: str = "") -> None:
        super().__init__()
        self.items = items
        self.quicker = quicker
        self.is_enabled = True
        self._open = ExitStack()  # holds the training or the test
        self._look = ExitStack()  # holds a validation, within the training
        self._work = Work("")
        self._looking = Work("")
        self._pace: Pace | None = None
        self._mark = self._begun = self._shown = 0.0
        self._estimated = False

    def disable(self) -> None:
        """Say nothing; Lightning asks for it in all processes but the first."""
        self.is_enabled = False

    def enable(self) -> None:
        """Be as from the start."""
        self.is_enabled = True

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Print a line of results to standard output, at once: it may be a pipe."""
        print(*args, **kwargs, flush=True)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say what is to be done."""
        self._estimated, self._begun = False, time.monotonic()
        self._pace = _pace(trainer)
        if self.is_enabled:
            self._work = self._open.enter_context(progress.working("training", end=False, unit="step"))
            progress.say(self._plan(trainer))

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to count steps."""
        self._work.restart(_epoch(trainer), int(self.total_train_batches) if self._pace else None)
        self._mark = time.monotonic()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count a step."""
        now = time.monotonic()
        left = None
        if self._pace is not None:
            self._pace.stepped(now - self._mark)
            left = self._pace.left_s(trainer.current_epoch, batch_idx + 1)
            if not self._estimated and batch_idx > 0 and now - self._begun >= _FIRST_LOOK_S:
                self._tell(trainer, self._pace, left)
        self._mark = now
        if now - self._shown >= 1:  # reading a loss waits for a GPU
            self._work.detail = _detail(cast(Training, pl_module).last_losses, left)
            self._shown = now
        self._work.advance()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to count batches of validation."""
        total = int(sum(trainer.num_val_batches))
        words = f"validating after {_epoch(trainer)}" if trainer.training or trainer.validating else "validating"
        if self.is_enabled:
            self._looking = self._look.enter_context(progress.working(words, total, unit="batch", end=False))
        self._mark = time.monotonic()

    def on_validation_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """Count a batch."""
        self._looking.advance()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note how long it took."""
        self._look.close()
        if self._pace is not None:
            self._pace.validated(time.monotonic() - self._mark)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say nothing more."""
        self._open.close()

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to count batches of the test."""
        total = int(sum(trainer.num_test_batches))
        if self.is_enabled:
            self._work = self._open.enter_context(progress.working("testing", total, unit="batch", end=False))

    def on_test_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """Count a batch."""
        self._work.advance()

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say nothing more."""
        self._open.close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Say nothing more."""
        self._look.close()
        self._open.close()

    def _plan(self, trainer: Trainer) -> str:
        films: Mapping[str, Any] = getattr(trainer.datamodule, "films", {})  # type: ignore[attr-defined]  # not declared by Lightning
        counts = ", ".join(f"{len(some)} {self.items} in {split}" for split, some in films.items())
        epochs = f"epochs {trainer.current_epoch + 1} to {trainer.max_epochs}"
        return f"training: {epochs}, {trainer.num_training_batches} steps each; {counts}"

    def _tell(self, trainer: Trainer, pace: Pace, left: float) -> None:
        """Print the time that is left and, where it is long on a CPU, what is quicker."""
        self._estimated = True
        line = f"about {in_words(left)} left: a step takes {pace.step_s:.2g} s, an epoch {in_words(pace.epoch_s)}"
        if left > LONG_S and trainer.strategy.root_device.type == "cpu":
            line += f"{' with its validation' if pace.validation else ''}, on this CPU. {self._advice(pace)}"
        if self.is_enabled:
            progress.say(line)

    def _advice(self, pace: Pace) -> str:
        shorter = [f"fewer {self.items}"]
        if epochs := int(LONG_S // pace.epoch_s):
            shorter.append(f"trainer.max_epochs={epochs}, which takes an hour")
        return "Quicker: " + ", or ".join([self.quicker, *shorter] if self.quicker else shorter)


def _pace(trainer: Trainer) -> Pace | None:
    """Return the batches of a training; None where it has no known end."""
    steps, epochs = trainer.num_training_batches, trainer.max_epochs
    if epochs is None or epochs < 0 or math.isinf(steps):
        return None
    validation = sum(trainer.num_val_batches)
    films: Mapping[str, Any] = getattr(trainer.datamodule, "films", {})  # type: ignore[attr-defined]  # not declared by Lightning
    per_film = validation / len(films["val"]) if films.get("val") else 0.0
    return Pace(epochs, int(steps), int(validation), math.ceil(per_film * len(films.get("test", ()))))


def _epoch(trainer: Trainer) -> str:
    """Return which epoch this is, counted from 1 as everywhere a person reads it."""
    of = f" of {trainer.max_epochs}" if trainer.max_epochs and trainer.max_epochs > 0 else ""
    return f"epoch {trainer.current_epoch + 1}{of}"


def _detail(losses: Mapping[str, Any], left: float | None) -> str:
    values = {name.removeprefix("loss_"): float(value) for name, value in losses.items()}
    named = ", ".join(f"{name} {value:.3f}" for name, value in values.items())
    loss = f"loss {sum(values.values()):.3f}" + (f" ({named})" if len(values) > 1 else "")
    return loss if left is None else f"about {in_words(left)} left, {loss}"
