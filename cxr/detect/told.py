"""What a film may teach: only the classes that its readers looked for."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from cxr.findings import BACKGROUND

UNTOLD = -20.0
"""Logit of a class that a film does not tell of: next to no probability in a softmax or sigmoid, and no gradient."""


def untold(targets: Sequence[Mapping[str, Tensor]], findings: int, device: torch.device) -> Tensor:
    """Return [B, K] bool: the findings that a film is no negative for, class c at c - 1.

    Those that its target's ``labelled`` [K + 1] leaves out, but for such as it has boxes of; none without the key.
    """
    rows = torch.zeros(len(targets), findings, dtype=torch.bool, device=device)
    for row, target in zip(rows, targets, strict=True):
        if "labelled" in target:
            row.copy_(~target["labelled"][:findings])
            row[target["labels"] - (BACKGROUND + 1)] = False  # a mark tells, whatever else was looked for
    return rows


def told_logits(logits: Tensor, targets: Sequence[Mapping[str, Tensor]], background: bool = True) -> Tensor:
    """Return logits [B, A, K + 1], or [B, A, K] without ``background``: no film teaches what it does not tell of."""
    hidden = untold(targets, logits.shape[-1] - background, logits.device)
    if background:
        hidden = torch.cat([torch.zeros_like(hidden[:, :1]), hidden], 1)
    return logits.masked_fill(hidden[:, None], UNTOLD)
