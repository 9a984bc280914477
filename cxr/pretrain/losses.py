"""The losses of pretraining: three terms of VICReg (Bardes 2022, arXiv 2105.04906), and the heads they compare.

Both are of the library lightly (extra ``pretrain``), which is imported when a head is made, and by nothing else.
"""

import importlib
from functools import cache
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import grid_sample

_HIDDEN, _WIDTH = 256, 128  # features of a head; the paper's 8192 are for batches of 512 films
TERMS = ("invariance", "variance", "covariance")
_WEIGHTS = {"invariance": 25.0, "variance": 25.0, "covariance": 1.0}  # of the paper


def vicreg(first: Tensor, second: Tensor) -> dict[str, Tensor]:
    """Return the weighted terms of pairs of features [n, D] of two views, row i of the one with row i of the other.

    ``invariance`` is small where the two of a pair are alike. ``variance`` is 0 where every feature spreads by 1 or
    more over the n rows, so that not all rows become one. ``covariance`` is 0 where no two features say the same. The
    last two are 0 for a single row, which can be held against no other.
    """
    library = _lightly("loss.vicreg_loss")
    terms = {"invariance": library.invariance_loss(first, second)}
    if len(first) > 1:
        for name, term in (("variance", library.variance_loss), ("covariance", library.covariance_loss)):
            terms[name] = (term(first) + term(second)) / 2
    zero = first.new_zeros(())
    return {name: _WEIGHTS[name] * terms.get(name, zero) for name in TERMS}


def at_places(maps: Tensor, places: Tensor) -> Tensor:
    """Return the features [B, N, D] of maps [B, D, h, w] at N places of each film, between cells by interpolation.

    ``places`` [B, N, 2] are x and y; -1 and 1 are opposite borders of the map.
    """
    sampled: Tensor = grid_sample(maps, places[:, :, None].to(maps.dtype), padding_mode="border", align_corners=False)
    return sampled[..., 0].transpose(1, 2)


def head_of_films(channels: int) -> nn.Module:
    """Return a head of three layers on [B, channels], whose features [B, 128] are what the losses of films compare.

    BatchNorm stands between its layers. Means over whole films are so alike that without it hundreds of steps go by
    until the features of two films differ.
    """
    made: nn.Module = _lightly("models.modules.heads").VICRegProjectionHead(channels, _HIDDEN, _WIDTH)
    return made


def head_of_places(channels: int) -> nn.Module:
    """Return a head of three layers on [..., channels] with features [..., 128] for the losses of places.

    LayerNorm stands between its layers: places of one film are not independent of one another.
    """
    made: nn.Module = _lightly("models.modules.heads").VicRegLLocalProjectionHead(channels, _HIDDEN, _WIDTH)
    return made


@cache
def _lightly(module: str) -> Any:
    """Return a module of lightly. Raises ``ImportError`` that says what to type where it is missing."""
    try:
        return importlib.import_module(f"lightly.{module}")
    except ImportError as error:
        raise ImportError("task=pretrain needs lightly: pip install 'cxr[pretrain]'") from error
