"""The gate in front of a detector: how a run learns it, and which films it lets pass (``cxr.read.chest_films``)."""

import logging
from dataclasses import fields
from typing import Any

import numpy as np
import torch

from cxr.config.errors import ConfigError
from cxr.data.dataset import RadiographDataset
from cxr.data.film import Film
from cxr.data.film_data import FilmDataModule
from cxr.progress import track
from cxr.read.cache import FilmCache
from cxr.read.chest_films import ChestFilms, Reason
from cxr.read.dicom import read_header
from cxr.read.known_films import KnownFilms, Values, learn, small_picture
from cxr.read.preprocessing import RADIOGRAPH
from cxr.runs.checkpoint import Checkpoint

MOST_FILMS = 2000
"""Of a split that the gate learns from: more would not change it."""

_log = logging.getLogger(__name__)


def known_films(data: FilmDataModule) -> KnownFilms | None:
    """Return what the training films look like, and how far a film may be from them by the validation films.

    None where there are too few (``learn``), and for films that are no radiographs: slices of one series differ more
    among themselves than from those of another part of the body. Films that nobody marked are left out, because nobody
    has looked whether they show a chest.
    """
    if data.kind != RADIOGRAPH:
        return None
    of_split = {split: _spread([film for film in data.films[split] if not film.unmarked]) for split in ("train", "val")}
    shown = track(of_split["train"] + of_split["val"], "learning the look of the films, for the gate")
    pictures = [_picture(film, data.cache) for film in shown]
    count = len(of_split["train"])
    return learn(pictures[:count], pictures[count:])


def as_tensors(known: KnownFilms | None) -> dict[str, Any] | None:
    """Return what a checkpoint keeps of it: tensors and numbers, which ``read_checkpoint`` takes back."""
    if known is None:
        return None
    values = {field.name: getattr(known, field.name) for field in fields(KnownFilms)}
    return {name: torch.from_numpy(v.copy()) if isinstance(v, np.ndarray) else v for name, v in values.items()}


def gate(checkpoint: Checkpoint, pixels: bool) -> ChestFilms:
    """Return the rule that films pass before ``checkpoint`` speaks of them. Raises ``ConfigError`` for no such choice.

    Args:
        checkpoint: of the detector, or what the members of an ensemble share.
        pixels: whether the pixels of a film are asked too. Where the checkpoint knows nothing of them, a warning says
            so.
    """
    if not isinstance(pixels, bool):
        raise ConfigError(f"gate is {pixels!r}, expected true or false")
    radiographs = checkpoint.kind in (None, RADIOGRAPH)
    if pixels and radiographs and not checkpoint.known:
        _log.warning(
            "%s does not say what its training films look like: films are judged by their headers alone, so that one of"
            " another part, view or polarity may pass for a frontal chest film. It is noted where a training ends"
            " (docs/gate.md)",
            checkpoint.path,
        )
    return ChestFilms(checkpoint.size, checkpoint.kind, checkpoint.known if pixels else ())


def refused_films(rule: ChestFilms, films: RadiographDataset) -> dict[int, Reason]:
    """Return why films of a data set are not assessed, by their index; the others may be."""
    by_header = {index: refusal_by_header(rule, film) for index, film in enumerate(films.films)}
    stated = {index: reason for index, reason in by_header.items() if reason is not None}
    return dict(sorted((refused_by_pixels(rule, films) | stated).items()))


def refusal_by_header(rule: ChestFilms, film: Film) -> Reason | None:
    """Return why a film is not assessed by what its file states."""
    header = read_header(film.path)
    about = (header.body_part, header.view_position, header.modality, header.row_direction)
    return rule.refusal(header.rows, header.columns, *about)


def refused_by_pixels(rule: ChestFilms, films: RadiographDataset) -> dict[int, Reason]:
    """Return why films of a data set are not assessed by what they look like, by their index."""
    if not rule.known:
        return {}
    reasons = {i: rule.refusal_by_pixels(films.cache.get(film.path).pixels) for i, film in enumerate(films.films)}
    return {index: reason for index, reason in reasons.items() if reason is not None}


def _picture(film: Film, cache: FilmCache) -> Values:
    return small_picture(cache.get(film.path).pixels)


def _spread(films: list[Film]) -> list[Film]:
    """Return at most ``MOST_FILMS``, taken evenly."""
    places = np.unique(np.linspace(0, len(films) - 1, min(MOST_FILMS, len(films))).round().astype(int))
    return [films[place] for place in places.tolist()]
