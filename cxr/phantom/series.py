"""Phantom series: CT-like and MR-like volumes of a drawn thorax as DICOM files. All findings are known."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from cxr.findings import NORMAL
from cxr.phantom.drawn_set import DrawnSet, draw_all, write_table
from cxr.phantom.series_files import write_series
from cxr.phantom.thorax import FINDINGS, DrawnSeries, Modality, draw_series

__all__ = ["FINDINGS", "DrawnSeries", "draw_series", "write_phantom_volume", "write_series"]

TABLE = "studies.csv"
LESIONS = "lesions.csv"
"""File with the box of each finding, in mm from the middle of the volume towards head, back and left."""

_DRAWING = 2  # raised when the same seed gives other series than before
_SHARE = 0.45  # of the studies have a finding, each finding independently; so about a quarter are normal
_DONE = ".done"  # a file in each folder that has all its slices


def write_phantom_volume(
    root: Path | str,
    studies: int = 160,
    test_studies: int = 60,
    size: int = 96,
    modality: Modality = "CT",
    seed: int = 0,
    workers: int | None = None,
    draw: bool = True,
) -> None:
    """Draw ``studies`` series to train with and ``test_studies`` to test with into ``root``, one for each patient.

    They depend on ``seed`` only, not on ``workers`` (number of processes; None means one for each core). A complete set
    is left as it is, an interrupted one is completed. Raises ``PhantomError`` when ``root`` holds a set drawn with
    other settings, or other files. With ``draw`` False it is raised also when the set is not complete.
    """
    root = Path(root)
    settings: dict[str, float | str] = {"studies": studies, "test_studies": test_studies, "size": size}
    settings |= {"modality": modality, "seed": seed, "drawing": _DRAWING}

    def fill() -> None:
        jobs = [_Job(n, seed, size, modality, n >= studies) for n in range(studies + test_studies)]
        _write_tables(root, jobs, draw_all(partial(_draw_one, root), jobs, workers, "series"))

    elsewhere = "data.read._target_=cxr.data.sources.volume.read_volume"
    DrawnSet(root, "series", "phantom_volume", settings, elsewhere).complete(fill, draw)


@dataclass(frozen=True)
class _Job:
    """One series to draw. The fields decide all its values."""

    number: int
    seed: int
    size: int
    modality: Modality
    test: bool

    @property
    def folder(self) -> str:
        return f"series/{self.number + 1:04d}"

    @property
    def patient(self) -> str:
        return f"VOLUME{self.number + 1:05d}"

    def draw(self) -> DrawnSeries:
        rng = np.random.default_rng([self.seed, self.number, _DRAWING])
        findings = [name for name in FINDINGS if rng.uniform() < _SHARE]
        return draw_series(rng, self.size, findings, self.modality)


def _draw_one(root: Path, job: _Job) -> dict[str, tuple[float, ...]]:
    """Write the slices of a series unless all exist; return the boxes of its findings."""
    drawn, folder = job.draw(), root / job.folder
    if not (folder / _DONE).exists():
        write_series(folder, drawn, job.patient, f"{job.seed} {job.patient} {job.modality}", seed=job.number)
        (folder / _DONE).touch()
    return {name: drawn.box_mm(name) for name in drawn.lesions}


def _write_tables(root: Path, jobs: list[_Job], boxes: list[dict[str, tuple[float, ...]]]) -> None:
    studies: list[tuple[object, ...]] = []
    lesions: list[tuple[object, ...]] = []
    for job, of in zip(jobs, boxes, strict=True):
        studies.append((job.folder, "|".join(of) or NORMAL, job.patient, "test" if job.test else ""))
        lesions += [(job.folder, name, *(round(edge, 2) for edge in box)) for name, box in of.items()]
    write_table(root / LESIONS, ("series", "finding", "z0", "y0", "x0", "z1", "y1", "x1"), lesions)
    write_table(root / TABLE, ("series", "findings", "patient", "split"), studies)
