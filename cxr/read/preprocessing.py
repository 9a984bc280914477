"""The interface of what turns a stored film into the picture for a network, however its steps are chosen."""

from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cxr.read.radiograph import Radiograph

RADIOGRAPH = "radiograph"
"""The kind of films whose Modality is CR, DX, RG or DR, or who have none."""


class Preprocessing(ABC):
    """Turns the stored values of a film into the picture that a network takes."""

    @abstractmethod
    def __call__(self, radiograph: Radiograph) -> NDArray[np.float32]:
        """Return the film as float32 [H, W], or [C, H, W] where there are several channels, in 0..1, air dark.

        Raises ``ReadError`` for a film of a kind that is refused.
        """

    @abstractmethod
    def of_values(self, values: NDArray[np.float32], radiograph: Radiograph) -> NDArray[np.float32]:
        """Return ``values`` as ``__call__`` returns a film: float32 [..., H, W], or [C, ..., H, W].

        ``values`` [..., H, W] are float32 after modality LUT or rescale. They belong to ``radiograph``, or to the
        series of which it is a slice; windows, polarity and the rest are those of ``radiograph``. A statistic, such as
        a median or a smallest value, is computed over all values.
        """

    @abstractmethod
    def kind(self, modality: str, body_part: str, path: Path) -> str:
        """Return the kind of such films; one data set never mixes two kinds.

        The kind follows from Modality and BodyPartExamined alone. Raises ``ReadError``, which names ``path``, for a
        film that is refused.
        """

    @abstractmethod
    def fingerprint(self) -> str:
        """Return a text of the settings: the same for the same settings, in every process."""
