"""Detectors of others, held as this project's are."""

import math
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn
from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_320_fpn

from cxr.detect.foreign import Foreign, torchvision_detector
from cxr.detect.transform import PadAndNormalize

BUILDER = partial(fasterrcnn_mobilenet_v3_large_320_fpn, weights=None, weights_backbone=None)
LOSSES = {"loss_classifier", "loss_box_reg", "loss_objectness", "loss_rpn_box_reg"}


@pytest.fixture(scope="module")
def detector() -> Foreign:
    torch.manual_seed(0)
    return torchvision_detector(4, builder=partial(BUILDER, box_score_thresh=0.0))


def test_it_has_so_many_classes_and_resizes_nothing(detector: Foreign) -> None:
    network: Any = detector.network
    assert network.roi_heads.box_predictor.cls_score.out_features == 4
    assert isinstance(network.transform, PadAndNormalize)  # torchvision's would make every film 320 px wide


def test_boxes_come_back_in_the_frame_of_the_film(detector: Foreign, film: Any) -> None:
    image, _ = film(0, (70, 50))
    with torch.no_grad():
        (answer,) = detector.eval().detect([image])
    sides = answer["boxes"].T
    assert (sides[:2].min(), sides[2].max() <= 50, sides[3].max() <= 70) == (0, True, True)
    assert (sides[2].max(), sides[3].max()) == pytest.approx((50, 70), abs=1)  # to the film's border, not the canvas'
    assert set(answer["labels"].tolist()) <= {1, 2, 3}
    assert answer["finding_scores"].shape == (3,)
    assert answer["abnormal"] == answer["scores"].max()


def test_losses_leave_the_modes_and_statistics_of_validation_alone(detector: Foreign, film: Any) -> None:
    images, targets = ([part] for part in film(0, (64, 64)))
    with torch.no_grad():
        assert set(detector.train().losses(images, targets)) == LOSSES
        before = {name: value.clone() for name, value in detector.eval().state_dict().items()}
        losses = detector.losses(images, targets)
    assert set(losses) == LOSSES
    # untrained, it gives two answers, and four, about the same score
    assert losses["loss_objectness"] == pytest.approx(math.log(2), abs=0.02)
    assert losses["loss_classifier"] == pytest.approx(math.log(4), abs=0.1)
    assert not any(module.training for module in detector.modules())
    torch.testing.assert_close(detector.state_dict(), before, rtol=0, atol=0)


def test_a_film_whose_readers_did_not_look_for_all_findings_is_refused(detector: Foreign, film: Any) -> None:
    image, target = film(0, (64, 64))
    complete = target | {"labelled": torch.tensor([True, True, True, True])}
    assert set(detector.train().losses([image], [complete])) == LOSSES
    with pytest.raises(ValueError, match=r"did not look for every finding cannot be learnt by a detector of another"):
        detector.losses([image], [target | {"labelled": torch.tensor([True, False, True, True])}])


def test_it_finds_boxes_in_eval_mode_only(detector: Foreign, film: Any) -> None:
    with pytest.raises(RuntimeError, match="in eval mode only"):
        detector.train().detect([film(0)[0]])


def test_the_number_of_classes_is_given_by_name() -> None:
    """torchvision's builders take weights first: a number by position would be taken for these."""
    given = []

    def builder(weights: object = None, *, num_classes: int) -> nn.Module:
        given.append((weights, num_classes))
        return nn.Identity()

    torchvision_detector(8, builder=builder)
    assert given == [(None, 8)]
