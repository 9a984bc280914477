"""Groups of an optimizer's parameters: a backbone that brings weights learns more slowly than the heads on it."""

import re
from collections.abc import Callable, Iterable
from typing import Any

from torch import nn
from torch.optim import Optimizer

NamedParameters = list[tuple[str, nn.Parameter]]

_STAGE = re.compile(r"(?:[A-Za-z_]+\.)*[A-Za-z_]*\d+(?=\.\w+\.)")


def by_depth(
    parameters: NamedParameters,
    *,
    optimizer: Callable[..., Optimizer],
    lr: float,
    backbone: float = 0.1,
    decay: float = 1.0,
    part: str = "detector.backbone.body",
) -> Optimizer:
    """Return an optimizer whose learning rate falls from the heads to the first layers of the backbone.

    Everything outside the backbone learns at ``lr`` and is the first group. The backbone's last stage learns at
    ``lr`` × ``backbone``, and each stage before it at ``decay`` × the rate of the one behind it.

    Args:
        parameters: those that learn, with their names in the task.
        optimizer: called with the groups and ``lr``.
        lr: learning rate of the heads, which schedules and ``lr_scaling`` multiply as that of every group.
        backbone: the share of it that the backbone's last stage gets.
        decay: what each stage before the last one keeps of the rate behind it.
        part: name of the backbone in the task: the beginning of its parameters' names.

    Raises ``ValueError`` for a share that is not above 0, and for a part without parameters that learn.
    """
    for key, share in (("backbone", backbone), ("decay", decay)):
        if not share > 0:
            raise ValueError(f"{key} is {share}, expected a number above 0; task.frozen keeps a part from learning")
    inside = [(name.removeprefix(f"{part}."), p) for name, p in parameters if name.startswith(f"{part}.")]
    if not inside:
        raise ValueError(f"part is {part}, which has no parameters that learn; expected one of {_parts(parameters)}")
    groups: list[dict[str, Any]] = [{"params": [p for name, p in parameters if not name.startswith(f"{part}.")]}]
    learning = dict(inside)
    for distance, names in enumerate(reversed(stages(learning))):
        groups.append({"params": [learning[name] for name in names], "lr": lr * backbone * decay**distance})
    return optimizer(groups, lr=lr)


def stages(names: Iterable[str]) -> list[list[str]]:
    """Return the names of a backbone's parameters by stage, the first stage first.

    The first number in a name says the stage: ``layer3.0.conv1.weight`` belongs to layer3, ``blocks.2.0.bn1.bias`` to
    blocks.2. Single layers, such as ``conv1.weight``, belong to the stage before them; those before the first stage
    are the stem, which counts as a stage.
    """
    by_stage: dict[str, list[str]] = {}
    stage = ""
    for name in names:
        numbered = _STAGE.match(name)
        stage = numbered[0] if numbered else stage
        by_stage.setdefault(stage, []).append(name)
    return list(by_stage.values())


def _parts(parameters: NamedParameters) -> str:
    """Return the names of the parts that learn, for a message: the first three words of the parameters' names."""
    return ", ".join(dict.fromkeys(".".join(name.split(".")[:-1][:3]) for name, _ in parameters)) or "nothing"
