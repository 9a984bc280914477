"""Learning rate schedules as functions of the step.

Each takes the optimizer, ``total_steps`` and ``steps_per_epoch``. ``Training`` knows both and steps the schedule after
every optimizer step. A schedule is a closed form of the step number, so a resumed run goes on exactly where it was,
also with more epochs than at first. ``torch.optim.lr_scheduler.OneCycleLR`` takes the same arguments and can be used
too, but a run with it cannot be extended.
"""

import math
from collections.abc import Sequence

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def constant(optimizer: Optimizer, total_steps: float, steps_per_epoch: int, warmup_steps: int = 0) -> LambdaLR:
    """Rise linearly over ``warmup_steps`` to the optimizer's learning rate, and stay there."""
    return LambdaLR(optimizer, lambda step: _warmup(step, warmup_steps))


def multistep(
    optimizer: Optimizer,
    total_steps: float,
    steps_per_epoch: int,
    milestones: Sequence[int],
    gamma: float = 0.1,
    warmup_steps: int = 0,
) -> LambdaLR:
    """Rise linearly over ``warmup_steps``, then multiply by ``gamma`` at the start of each epoch of ``milestones``."""

    def factor(step: int) -> float:
        passed = sum(step >= epoch * steps_per_epoch for epoch in milestones)
        return float(_warmup(step, warmup_steps) * gamma**passed)

    return LambdaLR(optimizer, factor)


def cosine(
    optimizer: Optimizer, total_steps: float, steps_per_epoch: int, warmup_steps: int = 0, final: float = 0.0
) -> LambdaLR:
    """Rise linearly over ``warmup_steps``, then fall along half a cosine to ``final`` × the learning rate at the end.

    Raises:
        ValueError: ``total_steps`` is infinite, so the end of the run is unknown.
    """
    if not math.isfinite(total_steps):
        raise ValueError("a cosine schedule needs a known end: set trainer.max_epochs or trainer.max_steps")

    def factor(step: int) -> float:
        progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
        fall = 0.5 * (1.0 + math.cos(math.pi * min(max(progress, 0.0), 1.0)))
        return _warmup(step, warmup_steps) * (final + (1.0 - final) * fall)

    return LambdaLR(optimizer, factor)


def _warmup(step: int, warmup_steps: int) -> float:
    return min(1.0, (step + 1) / (warmup_steps + 1))
