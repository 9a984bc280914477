"""A film teaches a detector only the findings that its readers looked for."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from cxr.findings import BACKGROUND

UNLABELLED = -20.0
"""Logit of a finding that the readers did not look for: almost no probability in a softmax or sigmoid, no gradient."""


def unlabelled(targets: Sequence[Mapping[str, Tensor]], findings: int, device: torch.device) -> Tensor:
    """Return [B, K] bool, class c at c - 1: true for the findings that are unknown on a film.

    A finding is unknown where the target's ``labelled`` [K + 1] is false and the film has no box of it. A target
    without ``labelled`` has no unknown finding.
    """
    rows = torch.zeros(len(targets), findings, dtype=torch.bool, device=device)
    for row, target in zip(rows, targets, strict=True):
        if "labelled" in target:
            row.copy_(~target["labelled"][:findings])
            row[target["labels"] - (BACKGROUND + 1)] = False  # a marked finding is known
    return rows


def labelled_logits(logits: Tensor, targets: Sequence[Mapping[str, Tensor]], background: bool = True) -> Tensor:
    """Return the logits [B, A, K + 1] ([B, A, K] without ``background``), with ``UNLABELLED`` for unknown findings."""
    hidden = unlabelled(targets, logits.shape[-1] - background, logits.device)
    if background:
        hidden = torch.cat([torch.zeros_like(hidden[:, :1]), hidden], 1)
    return logits.masked_fill(hidden[:, None], UNLABELLED)
