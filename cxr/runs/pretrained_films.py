"""Films that a backbone was pretrained on are not for a test: what has learnt from a film is not measured on it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cxr.config.errors import ConfigError
from cxr.data.film_data import FilmDataModule
from cxr.data.film_digests import film_digests
from cxr.learn.torch_archive import TorchFileError
from cxr.learn.torch_file import read_torch_file

Digests = NDArray[np.int64]

_TAUGHT = ("train", "val", "pretrained")  # splits of a checkpoint's films that its weights follow from


def pretrained_films(config: Mapping[str, Any]) -> Digests:
    """Return the digests of the films that the file of ``model.backbone.weights`` follows from, each once, sorted.

    The file of ``task=pretrain`` tells which films those were, and so does every checkpoint of this project, of a
    pretraining and of a detector. Of other files nothing is known.
    """
    backbone = config["model"].get("backbone")
    weights = backbone.get("weights") if isinstance(backbone, dict) else None
    if not isinstance(weights, str) or not Path(weights).is_file():
        return np.zeros(0, np.int64)
    return _taught(Path(weights))


def refuse_pretrained_films(config: Mapping[str, Any], seen: Digests, data: FilmDataModule) -> None:
    """Raise ``ConfigError`` where a test film is among ``seen``, known by its pixels (``pretrained_films``)."""
    test = film_digests(data.films["test"], data.cache)
    if shared := int(np.isin(test, seen).sum()):
        raise ConfigError(
            f"model.backbone.weights={config['model']['backbone']['weights']}: was pretrained on {shared} of the"
            f" {len(test)} test films, so their score would be worth nothing. Pretrain without them: name the marked"
            " films as here, with data@data.marked=… and the same seed, data.marked.test_fraction and folds"
            " (docs/pretraining.md)"
        )


def _taught(path: Path) -> Digests:
    try:
        content = read_torch_file(path, opaque=True)
    except (TorchFileError, OSError):  # whoever loads its weights says what is wrong
        return np.zeros(0, np.int64)
    card = content.get("cxr") if isinstance(content, dict) else None
    if not isinstance(card, dict):
        return np.zeros(0, np.int64)
    films = card.get("films")
    of_checkpoint = [films.get(split) for split in _TAUGHT] if isinstance(films, dict) else []
    told = [one for one in (card.get("seen"), *of_checkpoint) if isinstance(one, Tensor) and one.dtype == torch.int64]
    return np.unique(np.concatenate([np.zeros(0, np.int64), *(one.numpy().ravel() for one in told)]))
