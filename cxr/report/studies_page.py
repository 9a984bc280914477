"""The page of explained studies: three planes through each map, and what is marked."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cxr.findings import FindingVocabulary
from cxr.report.page import write_page


@dataclass(frozen=True)
class StudyFigure:
    """A finding of a study under its map.

    Args:
        study: its pseudonym.
        finding: that the map explains.
        score: of the finding, 0..1.
        marked: the findings that are marked in the study.
        zero: whether the map is zero everywhere.
        picture: a PNG of the three planes.
    """

    study: str
    finding: str
    score: float
    marked: Sequence[str]
    zero: bool
    picture: Path


def studies_page(path: Path, figures: Sequence[StudyFigure], findings: FindingVocabulary, language: str = "en") -> None:
    """Write the page of ``figures`` to ``path``, one file with everything in it."""
    shown = [
        {
            "study": one.study,
            "finding": f"{findings.label(one.finding, language)} {one.score:.2f}",
            "marked": [findings.label(name, language) for name in one.marked],
            "zero": one.zero,
            "picture": one.picture.read_bytes(),
        }
        for one in figures
    ]
    write_page(path, "studies.html", language, figures=shown)
