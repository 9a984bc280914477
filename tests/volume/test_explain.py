"""Explained studies: a damaged record is made again, and what is not finite is told and kept nowhere."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image

from cxr.findings import FindingVocabulary
from cxr.volume import explain as module
from cxr.volume.explain import explain_studies

FINDINGS = FindingVocabulary([{"name": "nodule"}, {"name": "effusion"}])
STUDIES = [SimpleNamespace(study=f"p{n}", patient=f"q{n}", findings=(), normal=True) for n in (1, 2)]
SAMPLES: Any = [{"volume": torch.full((1, 4, 4, 4), float(n))} for n in (1, 2)]


class Network:
    """Stands for a task: scores every study alike, but for those that it is told to lose."""

    device = torch.device("cpu")

    def __init__(self, lost: float = -1) -> None:
        self.lost = lost

    def eval(self) -> "Network":
        return self

    def classify(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        score = float("nan") if batch["volume"].max() == self.lost else 0.5
        return torch.tensor([[score, 0.25]])


@pytest.fixture(autouse=True)
def picture(monkeypatch: pytest.MonkeyPatch) -> None:
    made = (Image.new("L", (4, 4)), torch.ones(4, 4, 4).numpy())
    monkeypatch.setattr(module, "study_picture", lambda *arguments: made)


def explained(folder: Path, network: Network) -> tuple[list[str], dict[str, str]]:
    failed: dict[str, str] = {}
    task: Any = network
    done = explain_studies(
        task, SAMPLES, STUDIES, folder, FINDINGS, failed=lambda study, error: failed.update({study: str(error)})
    )
    return [study.study for _, study in done], failed


@pytest.mark.parametrize("damage", ["", '{"study": "p1"', "[]", "{}"])
def test_a_damaged_record_is_made_again(tmp_path: Path, damage: str) -> None:
    assert explained(tmp_path, Network()) == (["p1", "p2"], {})
    record = tmp_path / "studies" / "p1" / "study.json"
    whole = record.read_text()
    record.write_text(damage)
    assert explained(tmp_path, Network()) == (["p1", "p2"], {})
    assert record.read_text() == whole


def test_a_study_whose_scores_are_not_finite_is_told_and_the_others_go_on(tmp_path: Path) -> None:
    done, failed = explained(tmp_path, Network(lost=1))
    assert done == ["p2"]
    assert failed == {"p1": "the network's scores are not finite: NaN or infinity"}
    assert not (tmp_path / "studies" / "p1" / "study.json").exists()
