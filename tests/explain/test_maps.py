"""Maps beside a stream of predictions: of what is shown, whatever its score became, and kept for no one twice."""

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from torch import Tensor
from torchvision.models.detection import FasterRCNN

from cxr.detect.prediction import Box, Prediction
from cxr.explain.cam import BoxCam, Cam
from cxr.explain.maps import MapMaker
from cxr.findings import Finding, FindingVocabulary
from cxr.read.dicom import ReadError

BRIGHT, DARK = (16.0, 16.0, 48.0, 48.0), (80.0, 72.0, 112.0, 104.0)
FINDINGS = FindingVocabulary([Finding("bright"), Finding("dark")])


@pytest.fixture
def maker(detector_of: Callable[[Sequence[Sequence[float]]], FasterRCNN]) -> MapMaker:
    task = SimpleNamespace(detector=detector_of([BRIGHT, DARK]), findings=FINDINGS)
    return MapMaker(cast(Any, task), {"box": BoxCam()}, threshold=0.3)


def prediction(boxes: Sequence[Box], findings: Sequence[str], scores: Sequence[float], factor: float = 1) -> Prediction:
    """Of a film ``factor`` times as large as the network's frame."""
    scaled = tuple((x0 * factor, y0 * factor, x1 * factor, y1 * factor) for x0, y0, x1, y1 in boxes)
    side = round(128 * factor)
    return Prediction(7, "p0", "q0", side, side, scaled, tuple(findings), tuple(scores), {}, 0.9)


def test_each_shown_detection_has_its_own_map_in_its_own_place(maker: MapMaker, two_lesions: Tensor) -> None:
    # the scores are not the detector's: an image head had its say
    maker(prediction([DARK, BRIGHT, DARK], ["dark", "bright", "bright"], [0.6, 0.4, 0.2], factor=20), two_lesions)
    maps = cast(Any, maker.take(7))["box"]
    assert (maps.shape, maps.dtype, maps.max()) == ((2, 128, 128), np.uint16, 65535)
    for one, (x0, y0, x1, y1) in zip(maps, (DARK, BRIGHT), strict=True):
        row, column = np.unravel_index(one.argmax(), one.shape)
        assert x0 <= column < x1
        assert y0 <= row < y1


def test_maps_are_handed_over_once(maker: MapMaker, two_lesions: Tensor) -> None:
    maker(prediction([DARK], ["dark"], [0.6]), two_lesions)
    assert maker.take(7)
    assert maker.take(7) == {}


def test_a_film_without_shown_detections_is_not_explained(maker: MapMaker, two_lesions: Tensor) -> None:
    maker(prediction([DARK], ["dark"], [0.2]), two_lesions)
    assert maker.take(7) == {}


def test_a_box_the_detector_does_not_see_gets_no_map_of_another(maker: MapMaker, two_lesions: Tensor) -> None:
    maker(prediction([(0.0, 60.0, 20.0, 90.0)], ["dark"], [0.6]), two_lesions)
    error = maker.take(7)
    assert isinstance(error, ReadError)
    assert str(error).startswith("film 7: no maps can be made of it: the detector no longer sees the dark")


def test_a_map_that_is_not_finite_is_told_and_not_stored_as_a_number(
    maker: MapMaker, broken: Cam, two_lesions: Tensor
) -> None:
    maker.methods = {"broken": broken}
    maker(prediction([DARK], ["dark"], [0.6]), two_lesions)
    error = maker.take(7)
    assert isinstance(error, ReadError)
    assert str(error).startswith("film 7: no maps can be made of it: a map of Broken is not finite")
