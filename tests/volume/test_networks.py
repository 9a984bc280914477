"""Networks on volumes: shapes, what weights may fill them, what they are told."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision.models.video import r3d_18

from cxr.learn.weights import WeightsError
from cxr.volume.networks import cnn3d, pool, r3d


def cube(channels: int = 1, size: int = 32, batch: int = 2) -> dict[str, torch.Tensor]:
    return {"volume": torch.rand((batch, channels, size, size, size), generator=torch.Generator().manual_seed(0))}


@pytest.mark.parametrize("channels", [1, 3])
def test_a_logit_for_each_finding_and_none_for_the_background(channels: int) -> None:
    assert r3d(4, width=8, in_channels=channels)(cube(channels))["study"].shape == (2, 3)
    assert cnn3d(4, channels=(4, 8, 8), strides=(2, 2), in_channels=channels)(cube(channels))["study"].shape == (2, 3)


def test_the_maps_keep_the_detail_that_the_strides_leave() -> None:
    volume = cube(size=32)["volume"]
    assert r3d(2, width=8).trunk(volume).shape == (2, 64, 2, 2, 2)  # 32 / (2 · 1 · 2 · 2 · 2)
    assert r3d(2, width=8, strides=(1, 2, 2, 1)).trunk(volume).shape == (2, 64, 4, 4, 4)
    assert r3d(2, width=8, stem_stride=(1, 2, 2)).trunk(volume).shape == (2, 64, 4, 2, 2)
    assert cnn3d(2).trunk(volume).shape == (2, 96, 4, 4, 4)


def test_one_bright_cell_is_not_drowned_in_the_mean() -> None:
    maps = torch.zeros((1, 1, 10, 10, 10))
    maps[0, 0, 3, 4, 5] = 1
    assert pool(maps)[0].tolist() == pytest.approx([0.001, 1])


def test_a_study_is_judged_the_same_whoever_shares_its_batch() -> None:
    network = r3d(2, width=8).train()  # GroupNorm: BatchNorm would mix the studies in train mode
    batch = cube(batch=2)
    alone = network({"volume": batch["volume"][:1]})["study"]
    assert torch.allclose(network(batch)["study"][:1], alone, atol=1e-5)


@pytest.fixture(scope="module")
def kinetics(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "r3d_18.pth"
    torch.save(r3d_18().state_dict(), path)
    return path


def test_torchvisions_weights_fit_and_a_grey_volume_is_answered_as_a_grey_video_was(kinetics: Path) -> None:
    video = r3d_18()
    video.load_state_dict(torch.load(kinetics, weights_only=True))
    grey = cube(size=16)["volume"]
    theirs = nn.Sequential(video.stem, video.layer1, video.layer2, video.layer3, video.layer4).eval()
    for channels in (1, 2):  # two windows that look alike
        trunk = r3d(2, in_channels=channels, stem_stride=(1, 2, 2), weights=str(kinetics)).trunk.eval()
        with torch.no_grad():
            expected = theirs((grey.repeat(1, 3, 1, 1, 1) - 0.401) / 0.222)
            assert torch.allclose(trunk(grey.repeat(1, channels, 1, 1, 1)), expected, atol=1e-4)


def test_a_checkpoint_of_the_project_fills_all_but_a_head_for_other_findings(tmp_path: Path) -> None:
    first = cnn3d(3, channels=(4, 8, 8), strides=(2, 2))
    torch.save({"state_dict": {f"network.{k}": v for k, v in first.state_dict().items()}}, tmp_path / "best.ckpt")
    same = cnn3d(3, channels=(4, 8, 8), strides=(2, 2), weights=str(tmp_path / "best.ckpt"))
    assert torch.equal(same(cube())["study"], first(cube())["study"])
    other = cnn3d(4, channels=(4, 8, 8), strides=(2, 2), weights=str(tmp_path / "best.ckpt"))
    assert torch.equal(other.trunk(cube()["volume"]), first.trunk(cube()["volume"]))


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": {f"network.{k}": v for k, v in cnn3d(3).state_dict().items()}}, tmp_path / "best.ckpt")
    with pytest.raises(WeightsError, match="made for another network"):
        r3d(3, width=8, weights=str(tmp_path / "best.ckpt"))
    with pytest.raises(WeightsError, match="made for another network"):
        cnn3d(3, channels=(4, 8, 8, 8), weights=str(tmp_path / "best.ckpt"))
    with pytest.raises(WeightsError, match="no such file"):
        cnn3d(3, weights="absent.ckpt")


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    state = cnn3d(3).state_dict()
    state["head.bias"][0] = float("inf")
    torch.save({"state_dict": {f"network.{k}": v for k, v in state.items()}}, tmp_path / "best.ckpt")
    with pytest.raises(WeightsError, match=r"best\.ckpt: .* 1 of 2 values of network\.head\.bias are not finite"):
        cnn3d(3, weights=str(tmp_path / "best.ckpt"))
