"""Reads phantom series as a data set like a table of studies, and draws them first if they are missing."""

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
    """Draw the studies into ``root`` with ``write_phantom_volume`` if they are missing, and return them.

    They are read with ``read_volume``. With ``draw`` False they must be there, and nothing is written. Raises like
    these two.
    """
    findings.resolve(FINDINGS, source="phantom series")
    write_phantom_volume(root, studies, test_studies, size, modality, seed, workers, draw)
    return read_volume(root, findings)
