import logging
import urllib.error

import pytest
import torch
from torch import nn
from torchvision.models.detection import (
    FasterRCNN_ResNet50_FPN_Weights,
    fasterrcnn_mobilenet_v3_large_fpn,
    ssdlite320_mobilenet_v3_large,
)
from torchvision.ops import FrozenBatchNorm2d

from cxr.config.models import build
from cxr.learn.weights import WeightsError, group_norm

RPN_HEAD = "rpn.head.conv.0.0"


@pytest.fixture
def tiny(tmp_path):
    torch.manual_seed(0)
    detector = build("fasterrcnn_tiny", 4)
    path = tmp_path / "tiny.pth"
    torch.save(detector.state_dict(), path)
    return detector, path


def random_statistics(detector):
    """Stand-in for pretrained weights: statistics as far from a fresh network's as real ones."""
    generator = torch.Generator().manual_seed(0)
    for module in detector.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.1, 1.0, generator=generator)
    return detector.eval()


def test_default_without_a_network_says_what_to_type_instead(monkeypatch):
    def fail(self, **kwargs):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(FasterRCNN_ResNet50_FPN_Weights, "get_state_dict", fail)
    with pytest.raises(
        WeightsError, match=r"258fb6c6.pth could not be fetched .*model.weights=/path.*model.weights=null"
    ):
        build("fasterrcnn", 4, weights="DEFAULT")


def test_the_tiny_detector_has_no_default():
    with pytest.raises(WeightsError, match=r"model.weights=null"):
        build("fasterrcnn_tiny", 4, weights="DEFAULT")


def test_a_file_of_the_same_detector_is_loaded_whole_without_a_word(tiny, caplog):
    detector, path = tiny
    loaded = build("fasterrcnn_tiny", 4, weights=str(path))
    torch.testing.assert_close(loaded.state_dict(), detector.state_dict(), rtol=0, atol=0)
    assert caplog.records == []


def test_other_findings_and_anchors_resize_the_heads_and_the_message_names_them(tiny, caplog):
    detector, path = tiny
    caplog.set_level(logging.WARNING)
    loaded = build("fasterrcnn_tiny", 8, weights=str(path), anchors__ratios=(0.5, 1.0))
    (record,) = caplog.records
    for name in ("roi_heads.box_predictor.cls_score.weight [4, 256] → [8, 256]", "rpn.head.bbox_pred.bias [40] → [16]"):
        assert name in record.message
    before, after = detector.state_dict(), loaded.state_dict()
    same = [key for key in after if after[key].shape == before[key].shape]
    assert len(after) - len(same) == 8  # weight and bias of class, box, objectness and anchor regression
    for key in same:
        assert torch.equal(after[key], before[key]), key


def test_a_lightning_checkpoint_gives_its_detector(tiny, tmp_path):
    detector, _ = tiny
    path = tmp_path / "best.ckpt"
    state = {f"detector.{key}": value for key, value in detector.state_dict().items()}
    torch.save({"state_dict": state, "epoch": 3, "cxr": {"config": {}}}, path)
    loaded = build("fasterrcnn_tiny", 4, weights=str(path))
    torch.testing.assert_close(loaded.state_dict(), detector.state_dict(), rtol=0, atol=0)


def test_another_shape_outside_the_heads_is_an_error_that_names_the_layer(tiny, tmp_path):
    detector, _ = tiny
    state = detector.state_dict()
    state["fpn"] = state.pop("backbone.body.layer1.0.0.weight")[:, :1]
    path = tmp_path / "other.pth"
    torch.save(state, path)
    with pytest.raises(WeightsError, match=r"backbone.body.layer1.0.0.weight missing, fpn unknown"):
        build("fasterrcnn_tiny", 4, weights=str(path))
    state["backbone.body.layer1.0.0.weight"] = state.pop("fpn")
    torch.save(state, path)
    with pytest.raises(WeightsError, match=r"size mismatch for backbone.body.layer1.0.0.weight"):
        build("fasterrcnn_tiny", 4, weights=str(path))


def test_weights_of_another_network_are_an_error(tiny):
    with pytest.raises(WeightsError, match=r"tiny.pth: made for another network"):
        build("fasterrcnn_mobilenet", 4, weights=str(tiny[1]))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"conv1.weight": torch.zeros(1)}, "holds no detector"),
        (torch.zeros(3), "holds no detector"),
        ({"state_dict": [1, 2]}, "holds no detector"),
        (nn.Linear(1, 1), "not a file of weights that can be read safely"),  # a pickled object: could run anything
    ],
)
def test_an_unrelated_file_is_an_error(tmp_path, content, message):
    path = tmp_path / "unrelated.pth"
    torch.save(content, path)
    with pytest.raises(WeightsError, match=rf"unrelated.pth: {message}"):
        build("fasterrcnn_tiny", 4, weights=str(path))


def test_a_file_of_text_is_an_error(tmp_path):
    path = tmp_path / "notes.pth"
    path.write_text("learning rate 0.005 was best")
    with pytest.raises(WeightsError, match=r"notes.pth: not a file of weights"):
        build("fasterrcnn_tiny", 4, weights=str(path))


def test_weights_that_are_not_finite_are_an_error(tiny, tmp_path):
    detector, _ = tiny
    state = {**detector.state_dict()}
    state["backbone.body.layer1.0.0.weight"] = torch.full_like(state["backbone.body.layer1.0.0.weight"], torch.nan)
    path = tmp_path / "diverged.pth"
    torch.save(state, path)
    with pytest.raises(
        WeightsError, match=r"diverged.pth: .* values of backbone.body.layer1.0.0.weight are not finite"
    ):
        build("fasterrcnn_tiny", 4, weights=str(path))


def test_a_file_that_unpacks_to_more_than_is_allowed_is_an_error(tiny, monkeypatch):
    monkeypatch.setenv("CXR_MAX_CHECKPOINT_BYTES", "1000000")
    with pytest.raises(WeightsError, match=r"tiny.pth: .* unpacks to .* bytes, allowed are 1,000,000"):
        build("fasterrcnn_tiny", 4, weights=str(tiny[1]))


@pytest.mark.parametrize("zipped", [True, False])
def test_both_formats_of_torch_are_read(tiny, tmp_path, zipped):
    detector, _ = tiny
    path = tmp_path / "a.pth"
    torch.save(detector.state_dict(), path, _use_new_zipfile_serialization=zipped)
    loaded = build("fasterrcnn_tiny", 4, weights=str(path))
    torch.testing.assert_close(loaded.state_dict(), detector.state_dict(), rtol=0, atol=0)


def test_a_missing_file_is_an_error():
    with pytest.raises(WeightsError, match=r"model.weights=/no/such.pth: no such file; expected DEFAULT, null"):
        build("fasterrcnn_tiny", 4, weights="/no/such.pth")


@pytest.mark.parametrize(
    ("theirs", "name", "settings"),
    [
        (
            fasterrcnn_mobilenet_v3_large_fpn,
            "fasterrcnn_mobilenet",
            {"anchors__ratios": (0.5, 1.0, 2.0), "backbone__trainable_layers": 2},
        ),
        (ssdlite320_mobilenet_v3_large, "ssdlite", {"anchor_ratios": (2, 3), "trainable_layers": 2}),
    ],
)
def test_torchvision_weights_give_torchvisions_features_with_frozen_statistics(
    tmp_path, caplog, theirs, name, settings
):
    torch.manual_seed(0)
    reference = random_statistics(theirs(weights=None, weights_backbone=None, num_classes=91))
    path = tmp_path / "coco.pth"
    torch.save(reference.state_dict(), path)
    detector = build(name, 91, weights=str(path), **settings).eval()
    assert caplog.records == []
    batch = torch.rand(1, 3, 96, 64)
    with torch.no_grad():
        for level, feature in reference.backbone(batch).items():
            scale = feature.abs().max()
            torch.testing.assert_close(detector.backbone(batch)[level] / scale, feature / scale, rtol=0, atol=1e-4)
    assert not any(isinstance(m, (nn.BatchNorm2d, nn.GroupNorm)) for m in detector.modules())
    assert any(isinstance(m, FrozenBatchNorm2d) for m in detector.backbone.modules())
    learning = [name for name, p in detector.backbone.named_parameters() if p.requires_grad]
    assert 0 < len(learning) < len(list(detector.backbone.parameters()))


def test_weights_saved_before_torchvision_renamed_the_rpn_load(tmp_path):
    torch.manual_seed(0)
    detector = build("fasterrcnn_tiny", 4)
    state = dict(detector.state_dict())
    for part in ("weight", "bias"):
        state[f"rpn.head.conv.{part}"] = state.pop(f"{RPN_HEAD}.{part}")
    path = tmp_path / "old.pth"
    torch.save(state, path)
    loaded = build("fasterrcnn_tiny", 4, weights=str(path)).state_dict()
    assert torch.equal(loaded[f"{RPN_HEAD}.weight"], state["rpn.head.conv.weight"])


@pytest.mark.parametrize(("channels", "groups"), [(64, 16), (2048, 32), (24, 6), (40, 10), (3, 1), (1, 1), (7, 1)])
def test_group_norm_has_at_least_four_channels_a_group(channels, groups):
    norm = group_norm(channels)
    assert norm.num_groups == groups
    norm(torch.zeros(1, channels, 2, 2))
