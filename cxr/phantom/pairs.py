"""Phantom patients with a film and a series each, so that neither of the two alone shows whether a patient is ill.

Film and series of a patient are drawn independently, each with or without its finding. The patient is ill if at least
one of them has its finding.
"""

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from cxr.phantom.course_layout import write_film
from cxr.phantom.drawn_set import DrawnSet, draw_all, write_table
from cxr.phantom.films import draw_phantom
from cxr.phantom.series_files import write_series
from cxr.phantom.thorax import EFFUSION, draw_series

TABLE = "patients.csv"
DISEASE = "disease"
ON_FILM, IN_VOLUME = "cardiac_hypertrophy", EFFUSION
"""The two findings that make a patient ill: one is drawn on films, the other in series."""

_DRAWING = 1  # raised when the same seed gives other patients than before


@dataclass(frozen=True)
class _Job:
    """One patient to draw."""

    number: int
    on_film: bool
    in_volume: bool
    test: bool

    @property
    def name(self) -> str:
        return f"FUSION{self.number:05d}"


def draw_patients(
    root: Path | str,
    patients: int,
    test_patients: int,
    film_size: int,
    series_size: int,
    share: float,
    seed: int = 0,
    workers: int | None = None,
    draw: bool = True,
) -> None:
    """Draw patients into ``root``, with their table. The arguments are those of ``read_phantom_patients``.

    Raises ``PhantomError`` if ``root`` holds other patients than these, or other files. With ``draw`` False it is
    raised also if the patients are not there.
    """
    root = Path(root)
    settings: dict[str, float | str] = {"patients": patients, "test_patients": test_patients, "film_size": film_size}
    settings |= {"series_size": series_size, "share": share, "seed": seed, "drawing": _DRAWING}

    def fill() -> None:
        jobs = _plan(patients, test_patients, share, seed)
        draw_all(partial(_draw_patient, root, film_size, series_size, seed), jobs, workers, "patients")
        write_table(root / TABLE, ("film", "series", "findings", "patient", "split"), map(_row, jobs))

    elsewhere = "data.read._target_=cxr.data.sources.patients.read_patients"
    DrawnSet(root, "patients", "patients", settings, elsewhere).complete(fill, draw)


def _plan(patients: int, test_patients: int, share: float, seed: int) -> list[_Job]:
    present = np.random.default_rng([seed, _DRAWING]).uniform(size=(patients + test_patients, 2)) < share
    return [_Job(i, bool(film), bool(volume), i >= patients) for i, (film, volume) in enumerate(present)]


def _draw_patient(root: Path, film_size: int, series_size: int, seed: int, job: _Job) -> None:
    """Write a patient's film and series unless they exist."""
    source = f"{seed} {job.name}"
    film, series = root / _film(job), root / _series(job)
    rng = np.random.default_rng([seed, job.number])
    phantom = draw_phantom(rng, film_size, (ON_FILM,) if job.on_film else ())
    if not film.exists():
        write_film([film], phantom.pixels, job.name, source)
    if not series.exists():  # it is written under another name and renamed, so it is complete if it exists
        drawn = draw_series(rng, series_size, (IN_VOLUME,) if job.in_volume else ())
        part = series.with_name(f".{series.name}.{os.getpid()}")
        write_series(part, drawn, job.name, source, seed=job.number)
        part.replace(series)


def _film(job: _Job) -> str:
    return f"films/{job.number:05d}.dcm"


def _series(job: _Job) -> str:
    return f"series/{job.number:05d}"


def _row(job: _Job) -> tuple[str, ...]:
    label = DISEASE if job.on_film or job.in_volume else ""
    return _film(job), _series(job), label, job.name, "test" if job.test else ""
