"""Studies classified: losses, figures known by hand, thresholds frozen on validation studies."""

from collections.abc import Mapping
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from cxr.findings import FindingVocabulary
from cxr.measure.studies import study_estimates, study_results, study_values
from cxr.volume.study_scores import StudyScores
from cxr.volume.task import StudyTask

FINDINGS = FindingVocabulary([{"name": "nodule"}])
SCORES = torch.tensor([0.9, 0.6, 0.7, 0.2, 0.1])
LABELS = torch.tensor([1.0, 1.0, 0.0, 0.0, 0.0])


class Told(nn.Module):
    """The logit is the volume's own value."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.trunk = nn.Identity()
        self.scale = nn.Parameter(torch.ones(num_classes - 1))

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {"study": self.scale * batch["volume"].mean((2, 3, 4))}


class Studies(Dataset[dict[str, Tensor]]):
    def __init__(self) -> None:
        self.studies = [SimpleNamespace(patient=f"p{i}") for i in range(len(SCORES))]

    def __len__(self) -> int:
        return len(SCORES)

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        volume = SCORES[i].logit().expand(1, 2, 2, 2)
        return {"volume": volume, "labels": LABELS[i : i + 1], "item": torch.tensor(i)}


def task(**settings: object) -> StudyTask:
    return StudyTask(FINDINGS, Told, partial(torch.optim.SGD, lr=0.1), **settings)  # type: ignore[arg-type]


def batch() -> dict[str, Tensor]:
    return torch.utils.data.default_collate([Studies()[i] for i in range(len(SCORES))])  # type: ignore[no-any-return]


def test_the_area_counts_pairs_in_the_right_order() -> None:
    measured = task().eval()
    measured.measure(batch())
    figures = measured.figures()
    assert figures["auc/nodule"] == pytest.approx(5 / 6)  # of 2 × 3 pairs only 0.6 before 0.7 is wrong
    assert figures["auc"] == figures["auc/nodule"]
    assert figures["sensitivity/nodule"] == 1  # at 0.5
    assert figures["specificity/nodule"] == pytest.approx(2 / 3)


def test_the_threshold_is_that_of_the_highest_sensitivity_and_specificity_and_stays_with_the_weights() -> None:
    chosen = task()
    card = chosen.calibrate(Studies())
    assert card["thresholds"]["nodule"] == pytest.approx(0.6)  # 1 + 2/3; 0.9 gives 1/2 + 1
    assert card["operating_point"]["threshold"] == pytest.approx(0.6)  # misses no ill one
    other = task()
    other.load_state_dict(chosen.state_dict())
    assert other.thresholds.tolist() == pytest.approx([0.6, 0.6])


def test_a_positive_study_counts_as_often_as_told() -> None:
    plain, weighted = task().losses(batch())["loss_study"], task(pos_weight=[3.0]).losses(batch())["loss_study"]
    positive = -(torch.log(SCORES[:2])).sum() / 5
    assert (weighted - plain).item() == pytest.approx(2 * positive.item(), abs=1e-5)
    with pytest.raises(ValueError, match="pos_weight has 2 numbers, expected 1"):
        task(pos_weight=[1.0, 2.0])


def test_a_study_that_two_processes_had_counts_once() -> None:
    scores = StudyScores()
    for _ in range(2):
        scores.update(torch.arange(5), SCORES[:, None], LABELS[:, None])
    items, _, labels = scores.compute()
    assert items.tolist() == [0, 1, 2, 3, 4]
    assert labels.sum() == 2


def test_intervals_are_over_patients_and_hold_the_value() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = (torch.arange(60) % 2).float()[:, None]
    scores = (0.3 * labels + torch.rand((60, 1), generator=generator)) / 1.3
    patients = [f"p{i // 2}" for i in range(60)]
    results = study_results(np.arange(60), scores.numpy(), labels.numpy(), patients)
    area = study_estimates(results, ["nodule"], [0.5, 0.5], samples=200)["auc/nodule"]
    assert area.low < area.value < area.high
    assert area.value == pytest.approx(study_values(results, ["nodule"], [0.5, 0.5])["auc/nodule"])


def test_a_finding_that_no_study_bears_has_no_area_and_the_table_says_so() -> None:
    results = study_results(np.arange(3), np.full((3, 1), 0.5, np.float32), np.zeros((3, 1), np.float32))
    values = study_values(results, ["nodule"], [0.5, 0.5])
    assert values["auc"] != values["auc"]
    items = [SimpleNamespace(normal=True, findings=())] * 3
    table = task().table({f"test/{name}": value for name, value in values.items()}, items)
    assert list(table.columns[2].cells) == ["–", "–"]
