"""Reads phantom films as a data set like the course's, and draws them first if they are missing."""

from collections.abc import Mapping
from pathlib import Path

from cxr.data.film import Film
from cxr.data.sources.course import read_course
from cxr.findings import FindingVocabulary
from cxr.phantom.films import write_course_layout


def read_phantom(
    root: Path | str,
    findings: FindingVocabulary,
    films: int = 480,
    test_films: int = 120,
    size: int = 1024,
    seed: int = 0,
    normal_fraction: float = 0.25,
    rare: Mapping[str, float] | None = None,
    workers: int | None = None,
    draw: bool = True,
    weak_scanner: Mapping[str, float] | None = None,
) -> list[Film]:
    """Draw the films into ``root`` with ``write_course_layout`` if they are missing, and return them.

    They are read with ``read_course``. With ``draw`` False they must be there. Raises like these two.
    """
    write_course_layout(root, films, test_films, size, seed, normal_fraction, rare, workers, draw, weak_scanner)
    return read_course(root, findings)
