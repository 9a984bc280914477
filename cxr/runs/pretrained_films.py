"""Films that a backbone was pretrained on are not for a test: what has learnt from a film is not measured on it."""

from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from cxr.config.errors import ConfigError
from cxr.data.film_data import FilmDataModule
from cxr.data.film_digests import film_digests
from cxr.learn.torch_archive import TorchFileError
from cxr.learn.torch_file import read_torch_file


def refuse_pretrained_films(config: dict[str, Any], data: FilmDataModule) -> None:
    """Raise ``ConfigError`` where a test film was among the unmarked films that the detector's backbone has seen.

    Only the file of ``task=pretrain`` tells which films those were. A film is known by its pixels.
    """
    backbone = config["model"].get("backbone")
    weights = backbone.get("weights") if isinstance(backbone, dict) else None
    seen = _seen(Path(weights)) if isinstance(weights, str) and Path(weights).is_file() else None
    if seen is None:
        return
    test = film_digests(data.films["test"], data.cache)
    if shared := int(np.isin(test, seen).sum()):
        raise ConfigError(
            f"model.backbone.weights={weights}: was pretrained on {shared} of the {len(test)} test films, so their"
            " score would be worth nothing. Pretrain without them: name the marked films as here, with"
            " data@data.marked=… and the same seed, data.marked.test_fraction and folds (docs/pretraining.md)"
        )


def _seen(path: Path) -> Any:
    """Return the digests int64 [films] of what a backbone saw; None for a file that is not of ``task=pretrain``."""
    try:
        content = read_torch_file(path, opaque=True)
    except (TorchFileError, OSError):  # whoever loads its weights says what is wrong
        return None
    card = content.get("cxr") if isinstance(content, dict) else None
    digests = card.get("seen") if isinstance(card, dict) else None
    return digests.numpy() if isinstance(digests, Tensor) else None
