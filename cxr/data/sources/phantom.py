"""Phantom films as a data set: drawn where they are not there yet, then read as the course's films are."""

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
) -> list[Film]:
    """Return the films in ``root`` as ``read_course`` reads them, drawn first by ``write_course_layout`` when absent.

    With ``draw`` False they must be there. Raises as these two.
    """
    write_course_layout(root, films, test_films, size, seed, normal_fraction, rare, workers, draw)
    return read_course(root, findings)
