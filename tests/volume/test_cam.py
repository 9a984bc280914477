"""3D Grad-CAM: on a network whose map is known by hand."""

from collections.abc import Mapping
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cxr.findings import FindingVocabulary
from cxr.volume.cam import energy_inside, grad_cam
from cxr.volume.fusion import fusion
from cxr.volume.task import StudyTask

FINDINGS = FindingVocabulary([{"name": "nodule"}, {"name": "fluid"}])


class Known(nn.Module):
    """Maps: the volume and its negative, at half its size. Logits: +2 × the first's mean, -1 × it."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.trunk = nn.Conv3d(1, 2, 2, 2, bias=False)
        self.head = nn.Linear(2, num_classes - 1, bias=False)
        with torch.no_grad():
            self.trunk.weight[0], self.trunk.weight[1] = 1 / 8, -1 / 8
            self.head.weight.copy_(torch.tensor([[2.0, 0.0], [-1.0, 0.0]]))

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {"study": self.head(self.trunk(batch["volume"]).mean((2, 3, 4)))}


def task() -> StudyTask:
    return StudyTask(FINDINGS, Known, partial(torch.optim.SGD, lr=0.1))


def bright_cell() -> dict[str, Tensor]:
    volume = torch.zeros((1, 1, 8, 8, 8))
    volume[0, 0, 4:6, 2:4, 0:2] = 1  # the cell (2, 1, 0) of the maps
    return {"volume": volume}


def test_the_map_is_what_raises_the_logit_and_its_peak_is_one() -> None:
    heat = grad_cam(task(), bright_cell(), 1)
    assert heat.shape == (1, 8, 8, 8)
    assert heat.max() == 1
    assert np.unravel_index(int(heat.argmax()), (8, 8, 8))[0] in (4, 5)
    assert heat[0, 4:6, 2:4, 0:2].min() > 0.5
    assert heat[0, 0].sum() == 0


def test_what_lowers_a_logit_leaves_a_map_of_zeros() -> None:
    assert grad_cam(task(), bright_cell(), 2).sum() == 0  # and no division by its maximum


def test_it_works_within_lightnings_inference_mode_and_on_frozen_parts() -> None:
    frozen = task()
    frozen.requires_grad_(False)
    expected = grad_cam(task(), bright_cell(), 1)
    with torch.inference_mode():
        evidence = grad_cam(frozen, bright_cell(), 1)
    assert torch.equal(evidence, expected)


def test_mode_and_gradients_are_left_as_they_were() -> None:
    trained = task().train()
    grad_cam(trained, bright_cell(), 1)
    assert trained.training
    assert all(p.grad is None for p in trained.parameters())


def test_energy_is_the_share_of_the_map_within_the_lesion() -> None:
    heat = np.zeros((4, 4, 4), np.float32)
    heat[0, 0, 0], heat[3, 3, 3] = 3, 1
    lesion = np.zeros(heat.shape, np.bool_)
    lesion[0, 0, 0] = True
    assert energy_inside(heat, lesion) == pytest.approx(0.75)
    assert np.isnan(energy_inside(np.zeros_like(heat), lesion))


def test_a_network_that_does_not_look_at_the_volume_has_a_map_of_zeros() -> None:
    findings = FindingVocabulary([{"name": "disease"}])
    only_film = partial(fusion, channels=(4, 8), strides=(2,), modalities=["film"])
    task = StudyTask(findings, only_film, partial(torch.optim.SGD, lr=0.1))
    batch = {"film": torch.rand(2, 1, 64, 64), "volume": torch.rand(2, 1, 16, 16, 16)}
    maps = grad_cam(task, batch | {"present": torch.ones(2, 2, dtype=torch.bool)}, 1)
    assert maps.shape == (2, 16, 16, 16)
    assert not maps.any()
