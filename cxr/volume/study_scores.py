"""The scores and labels of studies, collected batch by batch and process by process."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat


class StudyScores(Metric):
    """The scores and labels of the studies seen, brought together from all processes, each study once."""

    full_state_update = False
    item: list[Tensor]
    scores: list[Tensor]
    labels: list[Tensor]

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for state in ("item", "scores", "labels"):
            self.add_state(state, [], dist_reduce_fx="cat")

    def update(self, item: Tensor, scores: Tensor, labels: Tensor) -> None:
        """Take studies: their indices int64 [B], scores and labels [B, K]."""
        self.item.append(item)
        self.scores.append(scores)
        self.labels.append(labels)

    def compute(self) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]:
        """Return indices [N], rising, scores [N, K] and labels [N, K]."""
        if not self.item:
            return np.zeros(0, np.int64), np.zeros((0, 0), np.float32), np.zeros((0, 0), np.float32)
        items, scores, labels = (dim_zero_cat(state).cpu().numpy() for state in (self.item, self.scores, self.labels))
        items, places = np.unique(items, return_index=True)  # the last studies may come in two processes
        return items, scores[places], labels[places]
