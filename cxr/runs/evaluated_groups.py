"""What evaluate.py asks of films without their marks: which groups they are of, and whether they are like the others.

The others are the validation films that the detector was chosen on (``cxr.measure.shift``).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cxr.config.errors import ConfigError
from cxr.data.dataset import RadiographDataset
from cxr.data.film_digests import film_digests
from cxr.data.groups import LEAST_PATIENTS, groups_of
from cxr.measure.results import FilmResult
from cxr.measure.shift import FEATURES, MOST_FILMS, Shift, compare, first_of_each
from cxr.measure.subgroups import Settings, Subgroups, measure_groups
from cxr.progress import track
from cxr.read.chest_films import Reason
from cxr.runs.evaluated_detector import Measured
from cxr.runs.frozen_films import film_rows

_BY_PIXELS = ("inverted", "turned", "unlike", "not_finite")  # refusals of films that have pixels to be compared
NO_REFERENCE, KNOWN_FILMS = "no_reference", "known_films"
"""Why films are not compared with a reference: the checkpoint keeps none, or all films are of its training."""


def least_patients(cfg: Mapping[str, Any]) -> int:
    """Return how many patients a group needs. Raises ``ConfigError`` for a number that is too small."""
    least = cfg["subgroups"]["least"]
    if type(least) is not int or least < LEAST_PATIENTS:
        raise ConfigError(
            f"subgroups.least is {least!r}, expected {LEAST_PATIENTS} patients or more: a smaller group may lead to one"
        )
    return least


def subgroups(models: Sequence[Measured], films: RadiographDataset, cfg: Mapping[str, Any]) -> dict[str, Subgroups]:
    """Return the figures of each detector on the groups of the films, by its name."""
    groups = [groups_of(film) for film in track(films.films, "reading sex, age and machine of the films")]
    settings = Settings(least_patients(cfg), cfg["rule"], cfg["samples"], seed=cfg["seed"])
    measured = {}
    for model in track(models, "measuring groups"):
        evaluation = model.evaluation
        labels = [evaluation.findings.index(name) for name in evaluation.names]
        judged = evaluation.results
        measured[model.name] = measure_groups(model.results, judged, groups, labels, model.point, settings)
    return measured


def shift_of(model: Measured, results: Sequence[FilmResult], reasons: Mapping[int, Reason]) -> Shift | str:
    """Return how the films differ from those that a detector was chosen on; else why they are not compared.

    Films of its training and validation are left out, and so are those that the gate refuses by what they state. One
    film of each patient counts.

    Args:
        model: the detector, with all of its films.
        results: of these films.
        reasons: why films are not assessed, by their place.
    """
    checkpoint, films = model.checkpoint, model.films
    if checkpoint.reference is None:
        return NO_REFERENCE
    digests = [film_digests([film], films.cache)[0] for film in films.films]
    known = np.isin(digests, np.concatenate([checkpoint.films["train"], checkpoint.films["val"]]))
    new = [
        place
        for place in range(len(films.films))
        if not known[place] and (place not in reasons or reasons[place].cause in _BY_PIXELS)
    ]
    if not new:
        return KNOWN_FILMS
    first = [new[place] for place in first_of_each([films.films[place].patient for place in new])][:MOST_FILMS]
    shown = track([films.films[place] for place in first], "comparing with the reference")
    answers = [None if place in reasons else results[place] for place in first]
    rows = film_rows(list(shown), answers, films.cache, checkpoint.known)
    return compare(checkpoint.reference, {name: rows[:, column] for column, name in enumerate(FEATURES)})
