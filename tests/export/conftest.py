"""Small detectors and films of noise in two shapes."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from cxr.config import models

SIDE = 96
NAMES = (
    *("fasterrcnn", "fasterrcnn_v2", "fasterrcnn_mobilenet", "fasterrcnn_tiny", "retinanet", "fcos", "ssdlite"),
    *("yolov8", "rtdetr"),
)
EXTRAS = {"yolov8": "ultralytics", "rtdetr": "transformers"}
ANCHORLESS = ("fcos", "ssdlite", "yolov8", "rtdetr")


@pytest.fixture(scope="session")
def build() -> Callable[..., nn.Module]:
    """Make a detector of three findings in eval mode, the same random numbers each time."""

    def make(name: str, **settings: object) -> nn.Module:
        if name in EXTRAS:
            pytest.importorskip(EXTRAS[name], reason="an extra that is not installed")
        torch.manual_seed(0)
        if name not in ANCHORLESS:
            settings = {"anchors__image_size": SIDE, **settings}
        if name in ("fasterrcnn", "fasterrcnn_v2"):  # each region passes four convolutions
            settings = {"proposals__post_nms_top_n": 30, **settings}
        return models.build(name, 4, **{"score_thresh": 1e-4, **settings}).eval()

    return make


@pytest.fixture(scope="session")
def films() -> list[Tensor]:
    """A square film, an upright and a broad one, with something to see on each, and an empty one."""
    random = torch.Generator().manual_seed(0)
    shapes = [(SIDE, SIDE), (SIDE, 70), (80, SIDE)]
    coarse = [torch.rand(1, 1, 12, 12, generator=random) for _ in shapes]
    seen = [interpolate(one, shape, mode="bilinear")[0] for one, shape in zip(coarse, shapes, strict=True)]
    noise = [0.2 * torch.rand(one.shape, generator=random) for one in seen]
    return [*(0.8 * one + some for one, some in zip(seen, noise, strict=True)), torch.zeros(1, SIDE, SIDE)]
