"""A film's result as plain containers, for json, and back again to the bit."""

import logging
import math
from pathlib import Path
from typing import Any

import numpy as np

from cxr.files import DamagedFileError, read_mapping
from cxr.measure.results import FilmResult

_log = logging.getLogger(__name__)

_ARRAYS = {
    "truth_boxes": np.float32,
    "truth_labels": np.int64,
    "boxes": np.float32,
    "labels": np.int64,
    "scores": np.float32,
    "finding_scores": np.float32,
}


def as_plain(result: FilmResult) -> dict[str, Any]:
    """Return a result as strings, numbers and lists of them; null stands for what is not finite, JSON has no NaN."""
    arrays = {name: np.asarray(getattr(result, name)).tolist() for name in _ARRAYS}
    return {
        "study": result.study,
        "patient": result.patient,
        "size": list(result.size),
        "abnormal": _or_null(float(result.abnormal)),
        "labelled": None if result.labelled is None else result.labelled.tolist(),
        "disagreement": None if result.disagreement is None else result.disagreement.tolist(),
        **arrays,
        "finding_scores": [_or_null(score) for score in arrays["finding_scores"]],
    }


def from_plain(plain: dict[str, Any]) -> FilmResult:
    """Return the result that ``as_plain`` was given.

    Raises ``KeyError``, ``TypeError`` or ``ValueError`` for anything else.
    """
    arrays = {name: np.array(plain[name], kind) for name, kind in _ARRAYS.items()}
    for name in ("boxes", "truth_boxes"):
        arrays[name] = arrays[name].reshape(-1, 4)
    height, width = plain["size"]
    labelled = None if plain["labelled"] is None else np.array(plain["labelled"], bool)
    disagreement = plain.get("disagreement")  # absent in files of older versions
    return FilmResult(
        plain["study"],
        plain["patient"],
        (height, width),
        abnormal=math.nan if plain["abnormal"] is None else float(plain["abnormal"]),
        labelled=labelled,
        disagreement=None if disagreement is None else np.array(disagreement, np.float32),
        **arrays,
    )


def _or_null(value: float) -> float | None:
    return value if math.isfinite(value) else None


def read_kept(path: Path) -> dict[str, Any]:
    """Return what a file of kept results holds, by its keys; nothing where there is none or it is damaged."""
    if not path.exists():
        return {}
    try:
        return read_mapping(path)
    except DamagedFileError:
        _log.warning("%s is damaged: everything is detected again", path)
        return {}


def from_kept(plain: Any, count: int) -> list[FilmResult] | None:
    """Return the kept results of ``count`` films; None where there are none, or where they are damaged."""
    if plain is None:
        return None
    try:
        results = [from_plain(film) for film in plain]
    except (KeyError, TypeError, ValueError):
        results = []
    if len(results) != count:
        _log.warning("the kept results of %d films are damaged: they are detected again", count)
        return None
    return results
