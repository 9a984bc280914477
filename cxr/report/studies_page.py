"""The page of explained studies: three planes through each map, and what is marked."""

from collections.abc import Sequence
from pathlib import Path

from cxr.findings import FindingVocabulary
from cxr.report.page import write_page
from cxr.volume.explain import ExplainedStudy


def studies_page(
    path: Path, studies: Sequence[tuple[Path, ExplainedStudy]], findings: FindingVocabulary, language: str = "en"
) -> None:
    """Write the page of ``studies``, each with the folder that holds its pictures, to ``path``."""
    figures = [
        {
            "study": study.study,
            "finding": f"{findings.label(one.finding, language)} {one.score:.2f}",
            "marked": [findings.label(name, language) for name in study.marked],
            "zero": one.peak is None,
            "picture": (folder / one.picture).read_bytes(),
        }
        for folder, study in studies
        for one in study.explained
    ]
    write_page(path, "studies.html", language, figures=figures)
