"""Phantom series as a data set: drawn where they are not there yet, then read as a table of studies is."""

from pathlib import Path

from cxr.data.sources.volume import read_volume
from cxr.data.study import Study
from cxr.findings import FindingVocabulary
from cxr.phantom.series import write_phantom_volume
from cxr.phantom.thorax import FINDINGS, Modality


def read_phantom_volume(
    root: Path | str,
    findings: FindingVocabulary,
    studies: int = 160,
    test_studies: int = 60,
    size: int = 96,
    modality: Modality = "CT",
    seed: int = 0,
    workers: int | None = None,
    draw: bool = True,
) -> list[Study]:
    """Return the studies in ``root`` as ``read_volume`` reads them, drawn first when absent. Raises as these two.

    With ``draw`` False they must be there: nothing is written.
    """
    findings.resolve(FINDINGS, source="phantom series")
    write_phantom_volume(root, studies, test_studies, size, modality, seed, workers, draw)
    return read_volume(root, findings)
