import inspect
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from cxr.config.models import build

RCNN = {"loss_classifier", "loss_box_reg", "loss_objectness", "loss_rpn_box_reg"}
LOSSES = {
    "fasterrcnn": RCNN,
    "fasterrcnn_v2": RCNN,
    "fasterrcnn_mobilenet": RCNN,
    "fasterrcnn_tiny": RCNN,
    "retinanet": {"classification", "bbox_regression"},
    "fcos": {"classification", "bbox_regression", "bbox_ctrness"},
    "ssdlite": {"classification", "bbox_regression"},
}
CONF = Path(__file__).parents[2] / "conf" / "model"


@pytest.fixture(scope="module", params=LOSSES)
def built(request):
    torch.manual_seed(0)
    return request.param, build(request.param, 4, score_thresh=0.001)


@pytest.fixture
def batch(film):
    """Two sizes, a normal film, and a box on the border."""
    films = [film(0, (70, 50), [[0.0, 0.0, 50.0, 70.0], [5.0, 8.0, 20.0, 60.0]]), film(1, (40, 96), [])]
    return [image for image, _ in films], [target for _, target in films]


def test_trains_on_two_sizes_with_a_normal_film_among_them(built, batch):
    name, detector = built
    detector.train().zero_grad()
    losses = detector(*batch)
    assert set(losses) == LOSSES[name]
    total = sum(losses.values())
    assert total.isfinite()
    total.backward()
    assert [n for n, p in detector.named_parameters() if p.grad is None] == []


def test_a_batch_of_normal_films_has_a_finite_loss(built, film):
    _, detector = built
    films = [film(i, boxes=[]) for i in range(2)]
    losses = detector.train()([i for i, _ in films], [t for _, t in films])
    assert all(loss.isfinite() for loss in losses.values())


def test_boxes_come_back_in_the_frame_of_their_own_image(built, batch):
    _, detector = built
    images, _ = batch
    with torch.no_grad():
        found = detector.eval()(images)
    for image, detection in zip(images, found, strict=True):
        height, width = image.shape[-2:]
        boxes = detection["boxes"]
        assert len(boxes) == len(detection["labels"]) == len(detection["scores"]) > 0
        assert boxes.min() >= 0
        assert boxes[:, [0, 2]].max() <= width
        assert boxes[:, [1, 3]].max() <= height
        assert detection["labels"].dtype == torch.int64
        # single-stage detectors have an output for background too, which training pushes to 0
        assert set(detection["labels"].tolist()) <= {0, 1, 2, 3}


def test_nothing_is_resized_and_only_mean_and_std_normalise(built, batch):
    _, detector = built
    images, _ = batch
    seen = []
    hook = detector.backbone.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        detector.eval()(images)
    hook.remove()
    (tensor,) = seen
    mean, std = (getattr(detector.transform, key).view(-1, 1, 1) for key in ("mean", "std"))
    assert tensor.shape == (2, len(mean), 96, 96)  # the largest height 70 and width 96, up to multiples of 32
    torch.testing.assert_close(tensor[0, :, :70, :50], (images[0] - mean) / std)
    air = (0 - mean) / std
    torch.testing.assert_close(tensor[1, :, 40:], air.expand(-1, 56, 96))


def test_without_weights_every_layer_learns_and_normalises_by_itself(built):
    name, detector = built
    assert all(p.requires_grad for p in detector.parameters()), name
    assert not any(isinstance(m, (FrozenBatchNorm2d, nn.BatchNorm2d)) for m in detector.modules())
    groups = [m for m in detector.backbone.modules() if isinstance(m, nn.GroupNorm)]
    assert groups
    assert all(m.num_channels // m.num_groups >= 4 for m in groups)


def test_every_yaml_lists_the_arguments_of_its_builder_with_their_defaults():
    assert {p.stem for p in CONF.glob("*.yaml")} >= set(LOSSES)
    for name in LOSSES:
        config = yaml.safe_load((CONF / f"{name}.yaml").read_text(encoding="utf-8"))
        assert config.pop("_target_") == f"cxr.detect.detectors.{name}"
        assert config.pop("_partial_") is True
        parameters = dict(inspect.signature(getattr(detectors, name)).parameters)
        del parameters["num_classes"]
        if "anchor_sizes" in parameters:  # fixed anchors would not follow data.size
            assert config.pop("image_size") == "${data.size}"
            del parameters["image_size"]
        assert config == {key: _lists(parameter.default) for key, parameter in parameters.items()}, name


def _lists(value):
    return [_lists(v) for v in value] if isinstance(value, tuple) else value


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


OCTAVES = [32, 64, 128, 256, 512]
PIXELS = {
    "fasterrcnn": [[size] for size in OCTAVES],
    "fasterrcnn_v2": [[size] for size in OCTAVES],
    "fasterrcnn_mobilenet": [OCTAVES] * 3,
    "fasterrcnn_tiny": [[16, 24], [40, 64], [104, 168]],
    "retinanet": [[size, int(size * 2 ** (1 / 3)), int(size * 2 ** (2 / 3))] for size in OCTAVES],
}


def test_at_the_default_image_size_anchors_have_the_pixels_they_were_chosen_in(built):
    name, detector = built
    if name in PIXELS:
        generator = detector.anchor_generator if name == "retinanet" else detector.rpn.anchor_generator
        assert [list(level) for level in generator.sizes] == PIXELS[name]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"anchors__image_size": 31}, "image_size is 31"),
        ({"anchors__sizes": [[16], [0.5], [0.5]]}, r"anchor_sizes holds \[16\]"),
        ({"anchors__sizes": [[0.5], [0.0], [0.5]]}, r"anchor_sizes holds \[0\.0\]"),
        ({"anchors__sizes": [[0.5], [0.5], [float("nan")]]}, r"anchor_sizes holds \[nan\]"),
    ],
)
def test_anchors_that_fit_no_image_are_refused_by_name(wrong, message):
    with pytest.raises(ValueError, match=message):
        build("fasterrcnn_tiny", 4, **wrong)


@pytest.mark.parametrize("shape", [(64, 64), (2, 64, 64), (1, 1, 64, 64)])
def test_an_image_of_another_shape_is_refused_by_name(shape):
    with pytest.raises(ValueError, match=r"expected \[1 or 3, h, w\]"):
        PadAndNormalize([0.5] * 3, [0.5] * 3)([torch.zeros(shape)])


def test_a_three_channel_image_passes_into_a_three_channel_stem():
    batch, _ = PadAndNormalize([0.0] * 3, [1.0] * 3)([torch.arange(3.0).view(3, 1, 1).expand(3, 32, 32)])
    assert batch.tensors[0, :, 0, 0].tolist() == [0.0, 1.0, 2.0]
