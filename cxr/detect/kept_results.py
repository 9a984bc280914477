"""A film's result as plain containers, for json, and back again to the bit."""

from typing import Any

import numpy as np

from cxr.detect.results import FilmResult

_ARRAYS = {
    "truth_boxes": np.float32,
    "truth_labels": np.int64,
    "boxes": np.float32,
    "labels": np.int64,
    "scores": np.float32,
    "finding_scores": np.float32,
}


def as_plain(result: FilmResult) -> dict[str, Any]:
    """Return a result as strings, numbers and lists of them."""
    arrays = {name: np.asarray(getattr(result, name)).tolist() for name in _ARRAYS}
    return {
        "study": result.study,
        "patient": result.patient,
        "size": list(result.size),
        "abnormal": float(result.abnormal),
        "labelled": None if result.labelled is None else result.labelled.tolist(),
        **arrays,
    }


def from_plain(plain: dict[str, Any]) -> FilmResult:
    """Return the result that ``as_plain`` was given."""
    arrays = {name: np.array(plain[name], kind) for name, kind in _ARRAYS.items()}
    for name in ("boxes", "truth_boxes"):
        arrays[name] = arrays[name].reshape(-1, 4)
    height, width = plain["size"]
    labelled = None if plain["labelled"] is None else np.array(plain["labelled"], bool)
    return FilmResult(
        plain["study"], plain["patient"], (height, width), abnormal=plain["abnormal"], labelled=labelled, **arrays
    )
