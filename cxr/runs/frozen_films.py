"""What a checkpoint keeps of its films after training, beside their digests: nobody is known by any of it.

``known_films`` is the gate's (``cxr.runs.gate``). ``groups`` counts the training films by sex, age, machine and so on
(``cxr.data.groups``). ``reference`` is what films are like that the detector was chosen on (``cxr.measure.shift``): of
validation films, because a detector says other things of films that it was trained on.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cxr.data.dataset import RadiographDataset
from cxr.data.film import Film
from cxr.data.film_data import FilmDataModule
from cxr.data.groups import counted, groups_of
from cxr.detect.film_detector import FilmDetector
from cxr.detect.inference import film_results
from cxr.detect.task import DetectionTask
from cxr.learn.training import Training
from cxr.measure.results import FilmResult
from cxr.measure.shift import FEATURES, MOST_FILMS, Reference, first_of_each, made_reference, of_scores
from cxr.progress import track
from cxr.read.cache import FilmCache
from cxr.read.film_statistics import film_statistics
from cxr.read.known_films import KnownFilms
from cxr.runs import gate
from cxr.runs.gate import known_films


def frozen_films(task: Training, data: FilmDataModule) -> dict[str, Any]:
    """Return what is kept of the films of a training whose best weights ``task`` holds."""
    known, films = known_films(data), data.films["train"]
    groups = [groups_of(film) for film in track(films, "reading sex, age and machine of the films")]
    kept = {"known_films": gate.as_tensors(known), "groups": counted(groups, [film.patient for film in films])}
    if isinstance(task, DetectionTask):
        kept["reference"] = as_tensors(reference_of(task, data, known))
    return kept


def reference_of(task: FilmDetector, data: FilmDataModule, known: KnownFilms | None) -> Reference | None:
    """Return the reference of a detector's validation films, one of each patient; None where there are none."""
    every = data.films["val"]
    first = first_of_each([film.patient for film in every])[:MOST_FILMS]
    films = [replace(every[place], labelled=None) for place in first]  # so that no box is left out, as in serve.py
    if not films:
        return None
    results = film_results(task, RadiographDataset(films, data.findings, data.cache, data.size), data.batch_size)
    shown = track(results, "measuring the films, to notice later ones that differ", len(films))
    rows = film_rows(films, list(shown), data.cache, () if known is None else (known,))
    return made_reference(FEATURES, rows, [film.patient for film in films])


def film_rows(
    films: Sequence[Film],
    results: Sequence[FilmResult | None],
    cache: FilmCache,
    known: Sequence[KnownFilms],
) -> NDArray[np.float32]:
    """Return ``FEATURES`` of each film [N, F].

    Without a result, or with one that is not finite, its scores are NaN. So are those of its boxes where readers did
    not look for all findings: boxes of the others are not in its result.
    """
    rows = np.full((len(films), len(FEATURES)), np.nan, np.float32)
    for row, film, result in zip(rows, films, results, strict=True):
        stated = film_statistics(cache.get(film.path).pixels, known)
        row[: len(stated)] = stated
        if result is not None and result.finite:
            scores = of_scores(result.abnormal, result.scores)
            row[len(stated) :] = scores if film.labelled is None else [scores[0], np.nan, np.nan]
    return rows


def as_tensors(reference: Reference | None) -> dict[str, Any] | None:
    """Return what a checkpoint keeps of a reference: names and a tensor, which ``read_checkpoint`` takes back."""
    if reference is None:
        return None
    return {"features": list(reference.features), "rows": torch.from_numpy(reference.rows.copy())}
