"""The classifier of whole films: its targets, its fusion with the boxes, and that torchvision's contract stays."""

import math

import pytest
import torch
from torch import nn

from cxr.config.models import build
from cxr.detect.image_head import ImageHead, image_head_for, with_image_scores


def detections(*boxes: tuple[int, float]) -> dict[str, torch.Tensor]:
    return {
        "boxes": torch.tensor([[0.0, 0.0, 9.0, 9.0]] * len(boxes)).reshape(-1, 4),
        "labels": torch.tensor([label for label, _ in boxes], dtype=torch.int64),
        "scores": torch.tensor([score for _, score in boxes]),
    }


def test_without_a_head_the_strongest_box_speaks_for_the_film() -> None:
    out = with_image_scores(detections((2, 0.3), (1, 0.6), (2, 0.5)), 3, None, 0, 0)
    assert out["finding_scores"].tolist() == pytest.approx([0.6, 0.5, 0])
    assert out["abnormal"].item() == pytest.approx(0.6)
    assert out["scores"].tolist() == pytest.approx([0.3, 0.6, 0.5])


def test_a_film_without_boxes_scores_nothing() -> None:
    out = with_image_scores(detections(), 2, None, 0, 0)
    assert out["finding_scores"].tolist() == [0, 0]
    assert out["abnormal"].item() == 0


def test_scores_are_fused_by_the_weights() -> None:
    logits = torch.tensor([math.log(0.25 / 0.75), math.log(0.8 / 0.2), math.log(0.9 / 0.1)])  # .25, .8, any .9
    out = with_image_scores(detections((1, 0.64), (2, 0.2)), 2, logits, 0.5, 1.0)
    assert out["scores"].tolist() == pytest.approx([math.sqrt(0.64 * 0.25), math.sqrt(0.2 * 0.8)])
    assert out["finding_scores"].tolist() == pytest.approx([0.25, 0.8])
    assert out["abnormal"].item() == pytest.approx(0.9)


def test_the_loss_knows_what_a_film_bears() -> None:
    """Logits ±20 are certainties: right ones cost nothing, each of the wrong ones 20."""
    head = ImageHead([4], findings=2).eval()
    nn.init.zeros_(head.layers[3].weight)
    head.layers[3].bias.data = torch.tensor([20.0, -20.0, 20.0])
    pyramid = {"0": torch.rand(2, 4, 5, 5)}
    bears_the_first = {"labels": torch.tensor([1, 1])}
    normal = {"labels": torch.zeros(0, dtype=torch.int64)}
    assert head.loss(pyramid, [bears_the_first, bears_the_first]).item() == pytest.approx(0, abs=1e-6)
    assert head.loss(pyramid, [bears_the_first, normal]).item() == pytest.approx(2 * 20 / 6, rel=1e-5)


def test_a_head_reads_every_map_and_a_detector_without_one_has_no_weights_of_it() -> None:
    detector = build("fasterrcnn_tiny", 4, image_head=True)
    assert detector.image_head.layers[0].in_features == 3 * 2 * 64  # mean and maximum of three maps
    maps = detector.eval().pyramid([torch.rand(1, 64, 64)]).maps
    assert detector.image_head(maps).shape == (1, 4)  # three findings and any
    assert set(detector([torch.rand(1, 64, 64)])[0]) == {"boxes", "labels", "scores"}
    assert not any(name.startswith("image_head") for name in build("fasterrcnn_tiny", 4).state_dict())


def test_making_a_head_leaves_norm_statistics_alone() -> None:
    class Backbone(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm2d(1)

        def forward(self, batch: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"0": self.norm(batch)}

    detector = build("fasterrcnn_tiny", 3)
    detector.backbone = Backbone()
    assert image_head_for(detector, 3).layers[0].in_features == 2
    assert detector.backbone.norm.running_mean.item() == 0
    assert detector.backbone.training
