"""A film with its boxes, as every data set gives it, and how films are split without a patient on both sides."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Film:
    """One radiograph and what its readers marked on it.

    Args:
        path: the image file, DICOM or picture.
        id: the film's name in its own data set (the course's ``ID``). Stays inside the process and in files the
            user asked for (a submission); reports, logs and caches show ``study`` instead.
        study: pseudonym of the film's study, safe to show.
        patient: pseudonym of the patient; films of one patient never stand in two splits.
        boxes: [N, 4] float32, absolute xyxy in original pixels; N = 0 is a normal film and stays in.
        findings: N canonical names, one a box.
        width, height: of the original image, pixels.
        split: "test" where the data set itself holds the film back for testing, else "".
        copies: other files that hold the same film (the course has one for each finding).
        rater: who marked the boxes, where the data set says so.
    """

    path: Path
    id: str
    study: str
    patient: str
    boxes: NDArray[np.float32]
    findings: tuple[str, ...]
    width: int
    height: int
    split: str = ""
    copies: tuple[Path, ...] = field(default=())
    rater: str = ""

    def __post_init__(self) -> None:
        if self.boxes.shape != (len(self.findings), 4):
            raise ValueError(
                f"{self.path}: boxes have shape {self.boxes.shape}, expected ({len(self.findings)}, 4) for its findings"
            )

    @property
    def normal(self) -> bool:
        """Whether the film bears no finding."""
        return not self.findings
