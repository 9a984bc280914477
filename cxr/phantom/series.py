"""Phantom series: CT-like and MR-like volumes of a drawn thorax as DICOM files. All findings are known."""

import csv
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from filelock import FileLock

from cxr.findings import NORMAL
from cxr.phantom.films import PhantomError, undrawn
from cxr.phantom.series_files import write_series
from cxr.phantom.thorax import FINDINGS, DrawnSeries, Modality, draw_series
from cxr.progress import track
from cxr.read.workers import in_order

__all__ = ["FINDINGS", "DrawnSeries", "draw_series", "write_phantom_volume", "write_series"]

TABLE = "studies.csv"
LESIONS = "lesions.csv"
"""File with the box of each finding, in mm from the middle of the volume towards head, back and left."""

_DRAWING = 2  # raised when the same seed gives other series than before
_STAMP = "phantom_volume.json"  # the settings of a complete set
_UNFINISHED = "phantom_volume.unfinished.json"  # the settings of a set that is being drawn
_LOCK = ".phantom.lock"
_SHARE = 0.45  # of the studies have a finding, each finding independently; so about a quarter are normal
_DONE = ".done"  # a file in each folder that has all its slices

Settings = dict[str, float | str]


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
    settings: Settings = {"studies": studies, "test_studies": test_studies, "size": size, "modality": modality}
    settings |= {"seed": seed, "drawing": _DRAWING}
    _refuse_other(root, settings)
    if not draw:
        if not (root / _STAMP).is_file():
            raise undrawn(root, settings)
        return
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / _LOCK):  # the jobs of a sweep start together
        _refuse_other(root, settings)
        if (root / _STAMP).is_file():
            return
        _write_whole(root / _UNFINISHED, json.dumps(settings, indent=1))
        jobs = [_Job(n, seed, size, modality, n >= studies) for n in range(studies + test_studies)]
        boxes = _draw(root, jobs, workers or os.cpu_count() or 1)
        _write_tables(root, jobs, boxes)
        (root / _UNFINISHED).replace(root / _STAMP)


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


def _draw(root: Path, jobs: list[_Job], workers: int) -> list[dict[str, tuple[float, ...]]]:
    work, message = partial(_draw_one, root), "Drawing phantom series"
    return list(track(in_order(work, jobs, workers), message, total=len(jobs)))


def _draw_one(root: Path, job: _Job) -> dict[str, tuple[float, ...]]:
    """Write the slices of a series unless all exist; return the boxes of its findings."""
    drawn, folder = job.draw(), root / job.folder
    if not (folder / _DONE).exists():
        write_series(folder, drawn, job.patient, f"{job.seed} {job.patient} {job.modality}", seed=job.number)
        (folder / _DONE).touch()
    return {name: drawn.box_mm(name) for name in drawn.lesions}


def _write_tables(root: Path, jobs: list[_Job], boxes: list[dict[str, tuple[float, ...]]]) -> None:
    studies: list[tuple[object, ...]] = [("series", "findings", "patient", "split")]
    lesions: list[tuple[object, ...]] = [("series", "finding", "z0", "y0", "x0", "z1", "y1", "x1")]
    for job, of in zip(jobs, boxes, strict=True):
        studies.append((job.folder, "|".join(of) or NORMAL, job.patient, "test" if job.test else ""))
        lesions += [(job.folder, name, *(round(edge, 2) for edge in box)) for name, box in of.items()]
    for name, rows in ((LESIONS, lesions), (TABLE, studies)):
        with (root / name).open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(rows)


def _refuse_other(root: Path, settings: Mapping[str, float | str]) -> None:
    """Raise ``PhantomError`` unless ``root`` is absent, empty, or holds this set, complete or not."""
    if root.exists() and not root.is_dir():
        raise PhantomError(f"{root} is a file, expected a folder for phantom series: give data.root another one")
    there = sorted(path.name for path in root.iterdir()) if root.exists() else []
    stamp = next((root / name for name in (_UNFINISHED, _STAMP) if name in there), None)
    if stamp is None and (foreign := [name for name in there if name not in (_LOCK, f"{_UNFINISHED}.part")]):
        raise PhantomError(
            f"{root} holds {len(foreign)} files or folders that are no phantom series (first: {foreign[0]}), expected "
            "an absent or empty folder to draw into. Give data.root another folder, or read series of your own with "
            "data.read._target_=cxr.data.sources.volume.read_volume"
        )
    drawn = _settings(stamp) if stamp else dict(settings)
    if differ := [key for key in {**drawn, **settings} if drawn.get(key) != settings.get(key)]:
        listed = ", ".join(f"{key} {drawn.get(key)} (asked for: {settings.get(key)})" for key in differ)
        raise PhantomError(
            f"{root} holds phantom series drawn with {listed}. Give data.root another folder, or delete this one to "
            "have it drawn anew"
        )


def _settings(stamp: Path) -> Settings:
    # Another process may finish drawing at this moment: it then renames the unfinished stamp to the other name
    path = stamp if stamp.exists() else stamp.with_name(_STAMP)
    settings: Settings = json.loads(path.read_text(encoding="utf-8"))
    return settings


def _write_whole(path: Path, text: str) -> None:
    part = path.with_name(f"{path.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
