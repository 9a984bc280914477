"""A network in the place of a detector: predict.py hears of each film what it says, and of a film with NaN nothing."""

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from cxr.data.inputs import Decoded, Input
from cxr.detect.prediction import NotAssessed, Prediction
from cxr.detect.stream import predict_films
from cxr.detect.task import DetectionTask
from cxr.export.card import Card
from cxr.export.detector import ExportedDetector
from cxr.read.chest_films import NOT_FINITE

CARD = Card(
    "onnx", {}, "", "", {"findings": [{"name": "heart"}, {"name": "spine"}]}, 64, 1, 32, ("boxes", "labels", "scores"),
    {}, None, 0.05, 3, 0.0, 0.0, None, {},
)  # fmt: skip
GREY, SPOILT = 30000, 60000


def run(films: NDArray[Any], sizes: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Stands for a network: finds a spine in every film, and computes NaN of a bright one."""
    del sizes
    count = len(films)
    scores = np.tile(np.array([0.75, 0, 0], np.float32), (count, 1))
    scores[films.reshape(count, -1).max(1) > 0.8] = np.nan
    boxes = np.tile(np.array([[8, 4, 16, 20], [0, 0, 0, 0], [0, 0, 0, 0]], np.float32), (count, 1, 1))
    return {"boxes": boxes, "labels": np.tile([2, 0, 0], (count, 1)), "scores": scores}


def decode(film: Input) -> Decoded:
    """Give a film of 128 by 96 px at half its size."""
    pixels = np.full((64, 48), SPOILT if film.path.name == "spoilt" else GREY, np.uint16)
    return Decoded(pixels, 128, 96, film.path.name, "p")


@pytest.mark.parametrize("batch", [1, 4])
def test_a_film_with_nan_is_not_assessed_and_those_beside_it_are(batch: int) -> None:
    films = [Input(number, Path(name)) for number, name in enumerate(["one", "spoilt", "two"], start=1)]
    detector = cast(DetectionTask, ExportedDetector(CARD, run))
    outcomes = {
        film.path.name: outcome for film, outcome in predict_films(detector, films, cast(Any, decode), batch, 1)
    }
    refused = outcomes["spoilt"]
    assert isinstance(refused, NotAssessed)
    assert refused.reason == NOT_FINITE
    for name in ("one", "two"):
        prediction = outcomes[name]
        assert isinstance(prediction, Prediction)
        assert prediction.boxes == ((16, 8, 32, 40),)  # in pixels of the film as it was read
        assert prediction.findings == ("spine",)
        assert prediction.scores == (0.75,)
        assert prediction.finding_scores == {"heart": 0, "spine": 0.75}
        assert prediction.abnormal == 0.75
