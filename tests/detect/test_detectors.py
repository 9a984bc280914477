"""How a Faster R-CNN takes its settings, and what a canvas refuses."""

import pytest
import torch

from cxr.config.models import build
from cxr.detect.anchors import Anchors
from cxr.detect.transform import PadAndNormalize


def test_the_head_sees_as_many_regions_as_asked_for(batch):
    detector = build("fasterrcnn_tiny", 4, regions__batch_size=16).train()
    rows = []
    detector.roi_heads.box_head.register_forward_pre_hook(lambda module, inputs: rows.append(len(inputs[0])))
    detector(*batch)
    assert rows == [32]


def test_anchors_from_plain_lists_are_sizes_times_ratios_a_cell():
    sizes = [[0.16, 0.24], [0.4, 0.64], [1.04, 1.68]]
    detector = build("fasterrcnn_tiny", 4, anchors__image_size=100, anchors__sizes=sizes, anchors__ratios=[0.2, 1, 5])
    assert detector.rpn.anchor_generator.num_anchors_per_location() == [6, 6, 6]
    flat = detector.rpn.anchor_generator.cell_anchors[0][0]  # ratio 0.2: 16·√5 wide, 16/√5 high
    torch.testing.assert_close(flat, torch.tensor([-18.0, -4.0, 18.0, 4.0]))


@pytest.mark.parametrize(("image_size", "factor"), [(256, 1), (512, 2)])
def test_anchors_grow_with_the_image(image_size, factor):
    detector = build("fasterrcnn_tiny", 4, anchors__image_size=image_size, anchors__ratios=[1.0])
    halves = [cell[:, 2].tolist() for cell in detector.rpn.anchor_generator.cell_anchors]
    at_256 = [[8, 12], [20, 32], [52, 84]]  # half of the sides 16, 24, 40, 64, 104, 168
    assert halves == [[half * factor for half in level] for level in at_256]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"image_size": 31}, "image_size is 31"),
        ({"sizes": [[0.1, 0.2], [0.5], [0.5]]}, r"anchors\.sizes has lists of several lengths"),
        ({"sizes": [[16], [0.5], [0.5]]}, r"anchors\.sizes holds \[16\]"),
        ({"sizes": [[0.5], [0.0], [0.5]]}, r"anchors\.sizes holds \[0\.0\]"),
        ({"sizes": [[0.5], [0.5], [float("nan")]]}, r"anchors\.sizes holds \[nan\]"),
    ],
)
def test_anchors_that_fit_no_image_are_refused_by_name(wrong, message):
    with pytest.raises(ValueError, match=message):
        Anchors(**{"image_size": 64, "sizes": [[0.5]], "ratios": [1.0], **wrong})


@pytest.mark.parametrize("shape", [(64, 64), (2, 64, 64), (1, 1, 64, 64)])
def test_an_image_of_another_shape_is_refused_by_name(shape):
    with pytest.raises(ValueError, match=r"expected \[1 or 3, h, w\]"):
        PadAndNormalize([0.5] * 3, [0.5] * 3)([torch.zeros(shape)])


def test_a_three_channel_image_passes_into_a_three_channel_stem():
    batch, _ = PadAndNormalize([0.0] * 3, [1.0] * 3)([torch.arange(3.0).view(3, 1, 1).expand(3, 32, 32)])
    assert batch.tensors[0, :, 0, 0].tolist() == [0.0, 1.0, 2.0]
