"""Whether the settings that a checkpoint brings fit the function they are for: names, types, and sizes that are sane.

What is typed is checked by ``cxr.config`` and by the function itself. A checkpoint is a file from anywhere: it may ask
for a network that takes all memory before it is found not to fit, or for films of a million pixels. The limits are far
beyond what a network of this project has been trained with.
"""

import collections.abc
import inspect
import math
import re
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from cxr.runs.checkpoint import LEAST_SIZE, MOST_SIZE, Checkpoint, short, wrong

_SHARE = (0, 1)
_FILMS = (0, 1_000_000)
# Least and most of every number in a setting, by its name, or by function and name where two share the name
_RANGES: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("val_fraction", "test_fraction", "normal_fraction", "repeat_threshold"), _SHARE),
    **dict.fromkeys(("share", "iou", "strength", "excess", "nms_thresh", "dropout", "modality_dropout"), _SHARE),
    **dict.fromkeys(("films", "test_films", "studies", "test_studies", "patients", "test_patients"), _FILMS),
    **dict.fromkeys(("pre_nms_top_n", "post_nms_top_n", "detections_per_img"), (1, 10_000)),
    **dict.fromkeys(("Regions.width", "hidden"), (1, 4096)),
    **dict.fromkeys(("depth", "trainable_layers"), (0, 8)),
    "least_stride": (1, 64),
    **dict.fromkeys(("queries", "denoising"), (0, 1000)),
    **dict.fromkeys(("strides", "stem_stride"), (1, 8)),
    **dict.fromkeys(("seed", "shots", "normals", "fold", "folds"), (0, 2**63 - 1)),
    "size": (1, 8192),
    "FilmDataModule.size": (LEAST_SIZE, MOST_SIZE),
    "SeriesDataModule.size": (16, 512),
    "PairDataModule.size": (8, 512),
    "image_size": (32, 8192),
    "film_size": (16, 8192),
    "series_size": (8, 1024),
    "batch_size": (1, 1024),
    "score_thresh": (0, 0.99),
    "mean": (-1e6, 1e6),
    "std": (1e-6, 1e6),
    "sizes": (1e-4, 2),
    **dict.fromkeys(("ratios", "anchor_ratios"), (0.01, 100)),
    "focal_gamma": (0, 100),
    "center_sampling_radius": (0.01, 100),
    "in_channels": (1, 64),
    "channels": (1, 512),
    "FeaturePyramid.channels": (1, 2048),
    "r3d.width": (1, 128),
    "voxel_mm": (0.01, 1000),
    "max_gap_mm": (0, 1000),
    "scale": (0.01, 1000),
    "clip": (0.01, 1000),
    "window": (0, 64),
}
# Most numbers or texts in a setting
_LENGTHS = {
    "sizes": 32,
    "ratios": 16,
    "anchor_ratios": 16,
    "channels": 8,
    "strides": 8,
    "stem_stride": 3,
    "mean": 64,
    "std": 64,
}
_LONGEST = 256


def refuse_unfit(checkpoint: Checkpoint, key: str, value: Any, hint: Any, function: str) -> None:
    """Raise ``ConfigError`` unless the plain value at ``key`` fits an annotation of ``function`` and its limits."""
    if not fits(value, hint):
        raise wrong(checkpoint, f"{key} is {short(value)}, expected {_words(hint)}")
    if problem := _beyond(value, key.rpartition(".")[2], function):
        raise wrong(checkpoint, f"{key} {problem}")


def fits(value: Any, hint: Any) -> bool:
    """Whether a plain value is of the type that an annotation says. NaN and infinity are no numbers.

    A class that is written in no config, such as ``Intensity``, is fitted by no plain value.
    """
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin in (Union, types.UnionType):
        return any(fits(value, one) for one in inner)
    if origin is Literal:
        return any(type(value) is type(one) and value == one for one in inner)
    if origin in (collections.abc.Sequence, list, tuple):
        return isinstance(value, list) and all(fits(one, inner[0]) for one in value)
    if origin in (collections.abc.Mapping, dict):
        return isinstance(value, dict) and all(fits(k, inner[0]) and fits(v, inner[1]) for k, v in value.items())
    if isinstance(value, bool):  # True is an int to Python, not to a reader of a config
        return hint is bool
    if hint is float:
        return isinstance(value, int | float) and math.isfinite(value)
    return isinstance(value, str) if hint is Path else isinstance(hint, type) and isinstance(value, hint)


def _beyond(value: Any, name: str, function: str) -> str:
    """Return what is wrong with a setting's numbers or their count, "" where nothing is."""
    leaves = list(_leaves(value))
    if len(leaves) > (most := _LENGTHS.get(name, _LONGEST)):
        return f"holds {len(leaves):,} values, expected at most {most}"
    allowed = _RANGES.get(f"{function}.{name}", _RANGES.get(name))
    numbers = [leaf for leaf in leaves if isinstance(leaf, int | float) and not isinstance(leaf, bool)]
    if allowed is not None and not all(allowed[0] <= number <= allowed[1] for number in numbers):
        return f"is {short(value)}, expected {allowed[0]} to {allowed[1]}"
    return ""


def _leaves(value: Any) -> Iterator[Any]:
    """Yield the values inside lists and mappings, or the value itself."""
    if isinstance(value, Mapping | list):
        for child in value.values() if isinstance(value, Mapping) else value:
            yield from _leaves(child)
    else:
        yield value


def _words(hint: Any) -> str:
    """Return an annotation without the modules of its names."""
    return re.sub(r"\b\w+\.(?=\w)", "", inspect.formatannotation(hint)).replace("NoneType", "null")
