"""A detector made by hand, small enough that every map of it is known."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.ops import MultiScaleRoIAlign

from cxr.detect.candidates import Candidate
from cxr.detect.detector import finish
from cxr.detect.faster_rcnn import FasterRCNN
from cxr.detect.region_heads import RegionHeads
from cxr.explain.cam import Cam
from cxr.explain.reading import FilmReading

GREY = 0.5
STRIDE = 8
GAIN = 40.0


class BrightAndDark(nn.Module):
    """One level of stride 8 with two channels: how far the film is above grey, and how far below."""

    out_channels = 2

    def forward(self, batch: Tensor) -> dict[str, Tensor]:
        mean = nn.functional.avg_pool2d(batch, STRIDE)
        return {"0": torch.cat([(mean - GREY).relu(), (GREY - mean).relu()], 1)}


class FixedRegions(nn.Module):
    """Stands for the region proposal network: the same regions [N, 4] for every film."""

    def __init__(self, regions: Tensor) -> None:
        super().__init__()
        self.regions = regions

    def forward(
        self, images: object, features: object, targets: object = None
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        return [self.regions] * len(images.tensors), {}  # type: ignore[attr-defined]


def hand_made(regions: Sequence[Sequence[float]]) -> FasterRCNN:
    """Class 1 is what is bright, class 2 what is dark: logits are ``GAIN`` times the region's mean of a channel."""
    pool, head, predictor = MultiScaleRoIAlign(["0"], 7, 2), TwoMLPHead(2 * 49, 2), FastRCNNPredictor(2, 3)
    heads = RegionHeads(3, pool, head, predictor, batch_size=8, score_thresh=0.0, detections_per_img=100)
    backbone: Any = BrightAndDark()
    proposals: Any = FixedRegions(torch.tensor(regions, dtype=torch.float32))
    detector = FasterRCNN(backbone, proposals, heads)
    finish(detector, 3, [0.0], [1.0], image_head=False, checkpoint_backbone=False, state=None, weights=None)
    state = detector.roi_heads.state_dict()
    for value in state.values():
        value.zero_()
    state["box_head.fc6.weight"][0, :49] = 1 / 49
    state["box_head.fc6.weight"][1, 49:] = 1 / 49
    state["box_head.fc7.weight"].copy_(torch.eye(2))
    state["box_predictor.cls_score.weight"][1, 0] = GAIN
    state["box_predictor.cls_score.weight"][2, 1] = GAIN
    return detector.eval()


@pytest.fixture
def detector_of() -> Callable[[Sequence[Sequence[float]]], FasterRCNN]:
    """Give the hand-made detector for some regions."""
    return hand_made


@pytest.fixture
def two_lesions() -> Tensor:
    """A grey film [1, 128, 128] with a bright lesion in the upper left and a dark one in the lower right."""
    film = torch.full((1, 128, 128), GREY)
    film[:, 16:48, 16:48] = 1.0
    film[:, 72:104, 80:112] = 0.0
    return film


class Broken(Cam):
    """A method whose evidence holds a NaN."""

    def evidence(self, film: FilmReading, candidates: Sequence[Candidate]) -> Tensor:
        return torch.full((len(candidates), *film.size), float("nan"))


@pytest.fixture
def broken() -> Cam:
    return Broken()
