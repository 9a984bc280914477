"""A film with its boxes, as every data set gives it, and how films are split without a patient on both sides."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Reading:
    """What one reader marked on a film.

    Args:
        rater: who it is, as a pseudonym where the data set gives a person's name.
        boxes: [N, 4] float32 xyxy in original pixels.
        findings: N canonical names.
        time: when, where the data set says so: YYYYMMDDHHMMSS, or as ISO 8601 has it; else "".
        ids: N names of the boxes, where boxes keep their names while readers correct one another, else ().
        scores: N scores, 0..1, where the reader is a detector, else ().
    """

    rater: str
    boxes: NDArray[np.float32]
    findings: tuple[str, ...]
    time: str = ""
    ids: tuple[str, ...] = ()
    scores: tuple[float, ...] = ()


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
        split: "train", "val" or "test" where the data set itself gives the film to one, else "".
        copies: other files that hold the same film (the course has one for each finding).
        rater: who marked the boxes, where the data set says so.
        readings: the marks of each reader, where the data set has them; ``boxes`` are made from these.
        source: the data set the film is from, where several are joined.
        labelled: the findings that its readers looked for and boxed. Of any other finding the film says nothing: it is
            no negative for it. None: all there are, so that a film without boxes is normal.
        groups: what tables of the data set say of sex, age, view and the like (``cxr.data.groups``), where its files
            have no header that does.
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
    readings: tuple[Reading, ...] = field(default=())
    source: str = ""
    labelled: frozenset[str] | None = None
    groups: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.boxes.shape != (len(self.findings), 4):
            raise ValueError(
                f"{self.path}: boxes have shape {self.boxes.shape}, expected ({len(self.findings)}, 4) for its findings"
            )

    @property
    def normal(self) -> bool:
        """Whether the film is known to have no finding: all were looked for, and none is marked."""
        return not self.findings and self.labelled is None

    @property
    def unmarked(self) -> bool:
        """Whether nobody looked for any finding on the film."""
        return not self.findings and self.labelled is not None and not self.labelled

    def looked_for(self, finding: str) -> bool:
        """Whether the film's readers looked for ``finding``; they did where they marked it."""
        return self.labelled is None or finding in self.labelled or finding in self.findings
