"""Reads phantom patients, each with a film and a series, as a data set, and draws them first if they are missing."""

from pathlib import Path

from cxr.data.pair import Patient
from cxr.data.sources.patients import read_patients
from cxr.findings import FindingVocabulary
from cxr.phantom.pairs import draw_patients


def read_phantom_patients(
    root: Path | str,
    findings: FindingVocabulary,
    patients: int = 300,
    test_patients: int = 240,
    film_size: int = 160,
    series_size: int = 48,
    share: float = 0.35,
    seed: int = 0,
    workers: int | None = None,
    draw: bool = True,
) -> list[Patient]:
    """Draw the patients into ``root`` if they are missing, and return them as ``read_patients`` does.

    With a ``share`` of 0.35, the film alone can rank patients with an area under the ROC curve of at most 0.80, and so
    can the volume alone, because 39 % of the ill patients show nothing on it.

    Args:
        root: folder of the patients; it is made when it is missing.
        findings: the vocabulary, which must have ``disease``.
        patients: number of patients to train and validate with.
        test_patients: number of patients to test with.
        film_size: longest side of a film in pixels.
        series_size: rows and columns of a slice.
        share: share of the patients with the film's finding, and of those with the volume's finding.
        seed: seed of the drawing.
        workers: number of processes; None means one for each core.
        draw: False only reads patients that exist, and writes nothing.

    Raises:
        PhantomError: ``root`` holds other patients than these, or other files; with ``draw`` False also if it is empty.
    """
    draw_patients(root, patients, test_patients, film_size, series_size, share, seed, workers, draw)
    return read_patients(root, findings)
