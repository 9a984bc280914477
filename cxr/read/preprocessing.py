"""What stands between a film as it is stored and a network: one interface, whatever chooses the steps."""

from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cxr.read.radiograph import Radiograph

RADIOGRAPH = "radiograph"
"""The kind of CR, DX, RG and DR, and of what no file calls otherwise."""


class Preprocessing(ABC):
    """From the stored values of a film to the picture a network sees."""

    @abstractmethod
    def __call__(self, radiograph: Radiograph) -> NDArray[np.float32]:
        """Return the film as float32 [H, W], or [C, H, W] where there are several channels, in 0..1, air dark.

        Raises ``ReadError`` for a film that it does not take.
        """

    @abstractmethod
    def of_values(self, values: NDArray[np.float32], radiograph: Radiograph) -> NDArray[np.float32]:
        """Return ``values`` [..., H, W] float32 after modality LUT or rescale as ``__call__`` returns a film.

        They are those of ``radiograph`` or of the series that it is a slice of; all else is told by it. A statistic, a
        median or a smallest value, is taken over all of them. Float32 [..., H, W], or [C, ..., H, W].
        """

    @abstractmethod
    def kind(self, modality: str, body_part: str, path: Path) -> str:
        """Return the name under which such films may stand in one data set; films of two kinds never do.

        It is told by Modality and BodyPartExamined alone. ``path`` is for the ``ReadError`` that is raised for a film
        that is not taken.
        """

    @abstractmethod
    def fingerprint(self) -> str:
        """Return the same text for the same settings, in every process."""
