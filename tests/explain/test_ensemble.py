"""Maps of an ensemble: each member explains its own box, and the map of the fused box is their mean."""

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from cxr.detect.candidates import Candidate
from cxr.detect.ensemble import Ensemble
from cxr.detect.faster_rcnn import FasterRCNN
from cxr.explain.cam import BoxCam
from cxr.explain.ensemble import EnsembleReading, FusedBox, _nearest, as_read, members_of
from cxr.explain.reading import FilmReading, detector_score

BRIGHT, NEARBY, DARK = [16.0, 16.0, 48.0, 48.0], [20.0, 16.0, 52.0, 48.0], [80.0, 72.0, 112.0, 104.0]


@pytest.fixture
def ensemble(detector_of: Callable[[Sequence[Sequence[float]]], FasterRCNN]) -> Ensemble:
    """Two members that see the bright lesion, 4 px apart, and one that sees the dark one alone."""
    return Ensemble([detector_of([BRIGHT]), detector_of([NEARBY]), detector_of([DARK])], 2)


def test_the_fused_boxes_are_explained_each_with_its_disagreement(ensemble: Ensemble, two_lesions: Tensor) -> None:
    reading = as_read(ensemble, two_lesions)
    assert isinstance(reading, EnsembleReading)
    bright, dark = sorted(reading.chosen(0.2), key=lambda box: box.label)
    assert (bright.label, dark.label) == (1, 2)
    assert 16 < bright.box[0] < 20
    assert isinstance(bright, FusedBox)
    assert isinstance(dark, FusedBox)
    assert 1 / 3 < (bright.disagreement or 0) < 0.5  # one of three has no box there, two have not quite the same
    assert dark.disagreement == pytest.approx(2 / 3, abs=1e-3)
    assert [box.label for box in reading.chosen(0.5)] == [1]  # the dark one has a third of its score
    assert [box.label for box in reading.chosen({1: 0.9, 2: 0.2})] == [2]
    assert len(reading.chosen(0.99)) == 1  # below all thresholds the strongest


def test_a_map_is_the_mean_over_the_members_that_have_the_finding(ensemble: Ensemble, two_lesions: Tensor) -> None:
    reading = EnsembleReading(ensemble, two_lesions)
    asked: list[tuple[int, list[float]]] = []

    def method(member: FilmReading, boxes: Sequence[Candidate]) -> Tensor:
        asked.append((boxes[0].label, boxes[0].box.tolist()))
        return torch.full((1, *member.size), 0.2 if boxes[0].box[0] < 18 else 0.8)

    bright, dark = sorted(reading.chosen(0.2), key=lambda box: box.label)
    maps = reading.maps(method, [bright, dark])
    assert asked == [(1, BRIGHT), (1, NEARBY), (2, DARK)]  # each its own, and nobody what it does not see
    assert maps[0].unique().tolist() == [pytest.approx(0.5)]
    assert maps[1].unique().tolist() == [pytest.approx(0.8)]


def test_a_real_map_of_an_ensemble_lies_in_its_box_and_stays_below_1(ensemble: Ensemble, two_lesions: Tensor) -> None:
    reading = EnsembleReading(ensemble, two_lesions)
    boxes = [box for box in reading.chosen(0.2) if box.label == 1]
    (heat,) = reading.maps(BoxCam(), boxes)
    assert heat.shape == (128, 128)
    assert 0.5 < heat.max() <= 1
    row, column = divmod(int(heat.argmax()), 128)
    assert 16 <= row < 48
    assert 16 <= column < 52


def test_a_box_that_no_member_has_on_the_film_as_it_is_has_a_map_of_zeros(
    ensemble: Ensemble, two_lesions: Tensor
) -> None:
    reading = EnsembleReading(ensemble, two_lesions)
    elsewhere = FusedBox(1, 0.5, torch.tensor([100.0, 0.0, 110.0, 10.0]), 0, torch.tensor(0))
    assert reading.maps(BoxCam(), [elsewhere]).abs().max() == 0


def test_the_score_that_a_map_must_follow_is_that_of_the_ensemble(ensemble: Ensemble, two_lesions: Tensor) -> None:
    box = EnsembleReading(ensemble, two_lesions).chosen(0.2)[0]
    score = detector_score(ensemble, box.box, box.label)
    assert score(two_lesions[None]).tolist() == [pytest.approx(box.score, abs=1e-4)]
    assert score(torch.full((1, 1, 128, 128), 0.5))[0] < box.score


def test_a_detector_by_itself_is_read_as_before(ensemble: Ensemble, two_lesions: Tensor) -> None:
    single = ensemble.detectors[0]
    assert isinstance(as_read(single, two_lesions), FilmReading)
    assert members_of(single) == [single]
    assert members_of(ensemble) == ensemble.detectors


def test_a_member_explains_its_box_of_the_same_finding_though_one_of_another_lies_nearer() -> None:
    fused = FusedBox(1, 0.5, torch.tensor([0.0, 0.0, 10.0, 10.0]), 0, torch.tensor(0))
    nearer, nearby = [0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 6.0]

    def asked(labels: list[int]) -> Any:
        member = SimpleNamespace(
            detections={
                "labels": torch.tensor(labels),
                "boxes": torch.tensor([nearer, nearby]),
                "scores": torch.tensor([0.9, 0.4]),
            },
            candidates=SimpleNamespace(behind=lambda box, label, score: (box.tolist(), label, round(score, 2))),
        )
        return _nearest(member, fused)  # type: ignore[arg-type]  # what is asked of a reading

    assert asked([2, 1]) == (nearby, 1, 0.4)
    assert asked([1, 1]) == (nearer, 1, 0.9)
    assert asked([2, 2]) is None
