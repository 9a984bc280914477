"""What every detector of conf/model keeps, with every backbone of conf/model/backbone that it can be composed with."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from cxr.config.models import build

CONF = Path(__file__).parents[2] / "conf" / "model"
FINDINGS = 3
FASTER_RCNN = {"loss_classifier", "loss_box_reg", "loss_objectness", "loss_rpn_box_reg"}
LOSSES = {
    "fasterrcnn": FASTER_RCNN,
    "retinanet": {"classification", "bbox_regression"},
    "fcos": {"classification", "bbox_regression", "bbox_ctrness"},
    "ssdlite": {"classification", "bbox_regression"},
    "yolov8": {"loss_box", "loss_cls", "loss_dfl"},
    "rtdetr": {"loss_vfl", "loss_bbox", "loss_giou", "loss_auxiliary", "loss_denoising"},
}
OF_BOXES = {  # losses that have nothing to measure where no box is
    *("loss_box_reg", "loss_rpn_box_reg", "bbox_regression", "bbox_ctrness", "loss_box", "loss_dfl"),
    *("loss_bbox", "loss_giou", "loss_denoising"),
}
# Fewer regions and queries than a run has: what is asked here does not follow from their number
SMALL: dict[str, dict[str, Any]] = {
    "fasterrcnn": {"proposals__post_nms_top_n": 20, "regions__batch_size": 8, "regions__width": 32},
    "rtdetr": {"queries": 20, "denoising": 20},
}
EXTRAS = {"efficientnet_lite0": "timm", "timm": "timm", "yolov8": "ultralytics", "rtdetr": "transformers"}
STRIDES = {  # of the pyramid's maps, and their channels
    "fasterrcnn": ([4, 8, 16, 32, 64], 256),
    "fasterrcnn_v2": ([4, 8, 16, 32, 64], 256),
    "fasterrcnn_mobilenet": ([32, 64], 256),
    "fasterrcnn_tiny": ([8, 16, 32], 64),
    "retinanet": ([8, 16, 32, 64, 128], 256),
    "fcos": ([8, 16, 32, 64, 128], 256),
}


def choices() -> Iterator[Any]:
    """Yield each detector, and each backbone where it takes one.

    Marked slow are those that are neither what a YAML of conf/model names nor the smallest detector with a backbone.
    """
    backbones = sorted(path.stem for path in (CONF / "backbone").glob("*.yaml"))
    for path in sorted(CONF.glob("*.yaml")):
        text = path.read_text(encoding="utf-8")
        usual = re.search(r"- (?:override )?backbone: (\w+)", text)
        if "/task@" in text:  # of a network that is no detector
            continue
        for backbone in backbones if usual else [None]:
            fast = usual is None or backbone == usual[1] or path.stem == "fasterrcnn_tiny"
            marks = () if fast else pytest.mark.slow
            yield pytest.param((path.stem, backbone), marks=marks, id="-".join(filter(None, (path.stem, backbone))))


def small(name: str, backbone: str | None) -> Any:
    """Return a detector with an image head, as train.py would build it, smaller where that is no matter."""
    settings: dict[str, Any] = {"image_head": True, "score_thresh": 1e-3, **SMALL.get(family(name), {})}
    if backbone is not None:
        settings["backbone"] = backbone
    if backbone == "timm":
        settings["backbone__name"] = "mobilenetv3_small_050"
    if name == "fasterrcnn_mobilenet" and backbone != "mobilenet_v3":  # which gives two maps of stride 32
        settings["anchors__sizes"] = [[0.125, 0.25], [0.5, 0.75]]
    return build(name, FINDINGS + 1, **settings)


def family(name: str) -> str:
    return name.partition("_")[0]


@pytest.fixture(scope="module", params=choices())
def choice(request: pytest.FixtureRequest) -> tuple[str, str | None]:
    for part in request.param:
        if part in EXTRAS:
            pytest.importorskip(EXTRAS[part], reason="an extra that is not installed")
    name, backbone = request.param
    return name, backbone


@pytest.fixture(scope="module")
def detector(choice: tuple[str, str | None]) -> Any:
    torch.manual_seed(0)
    return small(*choice)


def test_every_part_learns_from_two_sizes_with_a_normal_film_among_them(choice: Any, detector: Any, batch: Any) -> None:
    detector.train().zero_grad()
    losses = detector.losses(*batch)
    assert set(losses) == LOSSES[family(choice[0])] | {"loss_image"}
    assert all(0 < loss < torch.inf for loss in losses.values())  # of a detector that has learnt nothing yet
    sum(losses.values()).backward()
    assert [name for name, p in detector.named_parameters() if p.requires_grad and p.grad is None] == []


def test_normal_films_teach_scores_and_no_box_in_either_mode(choice: Any, detector: Any, film: Any) -> None:
    images, targets = zip(*(film(i, boxes=[]) for i in range(2)), strict=True)
    for mode in (True, False):
        modes = [module.training for module in detector.train(mode).modules()]
        with torch.no_grad():
            losses = detector.losses(list(images), list(targets))
        taught = {name for name, loss in losses.items() if 0 < loss < torch.inf}
        # SSD learns from three places without a box for each with one, film by film: here from none
        assert taught == set(losses) - OF_BOXES - ({"classification"} if choice[0] == "ssdlite" else set())
        assert all(loss == 0 for name, loss in losses.items() if name not in taught)
        assert [module.training for module in detector.modules()] == modes


def test_boxes_come_back_in_the_frame_of_their_own_image(detector: Any, batch: Any) -> None:
    images, _ = batch
    with torch.no_grad():
        films = detector.eval().detect(images)
    for image, answer in zip(images, films, strict=True):
        height, width = image.shape[-2:]
        assert 0 < len(answer["boxes"]) == len(answer["labels"]) == len(answer["scores"]) <= 100
        assert answer["boxes"].min() >= 0
        assert answer["boxes"][:, [0, 2]].max() <= width
        assert answer["boxes"][:, [1, 3]].max() <= height
        assert answer["labels"].dtype == torch.int64
        assert set(answer["labels"].tolist()) <= {1, 2, 3}
        assert answer["scores"].diff().max() <= 0
        assert answer["finding_scores"].shape == (FINDINGS,)
        for name in ("scores", "finding_scores", "abnormal"):
            assert answer[name].min() >= 0
            assert answer[name].max() <= 1


def test_the_canvas_holds_the_films_unscaled_in_air(detector: Any, batch: Any) -> None:
    images, _ = batch
    with torch.no_grad():
        canvas = detector.eval().pyramid(images).images.tensors
    mean, std = (getattr(detector.transform, key) for key in ("mean", "std"))
    assert canvas.shape == (2, len(mean), 96, 96)  # the largest height 70 and width 96, up to multiples of 32
    torch.testing.assert_close(canvas[0, :, :70, :50], (images[0] - mean) / std)
    torch.testing.assert_close(canvas[1, :, 40:], ((0 - mean) / std).expand(-1, 56, 96))


def test_the_maps_of_the_pyramid_are_as_its_levels_say(choice: Any, detector: Any) -> None:
    name, backbone = choice
    if backbone is None:
        pytest.skip("made in one piece: it states no levels")
    with torch.no_grad():
        maps = detector.eval().pyramid([torch.rand(1, 256, 256)]).maps.values()
    measured = [(256 // one.shape[2], one.shape[1]) for one in maps]
    assert measured == [tuple(level) for level in detector.backbone.levels]
    strides, channels = STRIDES[name]
    if name == "fasterrcnn_mobilenet" and backbone == "mobilenet_v3":
        strides = [32, 32, 64]
    assert measured == [(stride, channels) for stride in strides]


def test_a_fresh_detector_with_these_weights_says_the_same(choice: Any, detector: Any, batch: Any) -> None:
    torch.manual_seed(1)
    fresh = small(*choice)
    fresh.load_state_dict(detector.state_dict())
    with torch.no_grad():
        expected, detections = (some.eval().detect(batch[0]) for some in (detector, fresh))
    torch.testing.assert_close(detections, expected, rtol=0, atol=0)


def test_without_weights_every_layer_learns_and_normalises_in_groups(detector: Any) -> None:
    frozen = [name for name, p in detector.named_parameters() if not p.requires_grad]
    assert frozen in ([], ["head.dfl.conv.weight"])  # the numbers 0 to 15 of YOLO
    assert not any(isinstance(module, FrozenBatchNorm2d | nn.BatchNorm2d) for module in detector.modules())
    groups = [module for module in detector.backbone.modules() if isinstance(module, nn.GroupNorm)]
    assert groups
    assert all(module.num_channels // module.num_groups >= 4 for module in groups)


@pytest.mark.parametrize("labelled", [True, False])
def test_a_film_teaches_nothing_of_a_finding_its_readers_did_not_look_for(
    detector: Any, film: Any, labelled: bool
) -> None:
    image, target = film(0, (64, 64), [[4.0, 4.0, 40.0, 44.0]])
    target |= {"labels": torch.tensor([1]), "labelled": torch.tensor([True, labelled, True, True])}
    detector.train().zero_grad()
    losses = detector.losses([image, image], [target, target])
    (sum(losses.values()) - losses["loss_image"]).backward()
    moved = [bool(rows_of(weight, 2).any()) for weight in class_weights(detector)]
    assert moved
    assert any(moved) == labelled


def class_weights(detector: Any) -> list[nn.Parameter]:
    """Return the weights and biases that give the class scores, after a backward pass."""
    if hasattr(detector, "roi_heads"):
        layers = [detector.roi_heads.box_predictor.cls_score]
    elif hasattr(detector.head, "classification_head"):
        head = detector.head.classification_head
        layers = (
            [head.cls_logits] if hasattr(head, "cls_logits") else [list(m.children())[-1] for m in head.module_list]
        )
    elif hasattr(detector.head, "cv3"):
        layers = [branch[-1] for branch in detector.head.cv3]
    else:
        layers = [detector.head.enc_score_head, *detector.head.decoder.class_embed]
    return [parameter for layer in layers for parameter in layer.parameters() if parameter.grad is not None]


def rows_of(weight: nn.Parameter, label: int) -> torch.Tensor:
    """Return the gradient of one finding's rows; a layer has the classes of each anchor in turn."""
    assert weight.grad is not None
    classes = FINDINGS + 1 if len(weight) % (FINDINGS + 1) == 0 else FINDINGS  # some have no background
    return weight.grad.reshape(-1, classes, *weight.shape[1:])[:, label - (classes == FINDINGS)]
