"""The test films of a training are scored as evaluate.py and predict.py compute, whatever the training computed in."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch.utils.data import DataLoader

from cxr.runs import train


class Task(LightningModule):
    """Notes in what it is asked to validate and to test."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.seen: dict[str, torch.dtype] = {}

    def validation_step(self, batch: torch.Tensor) -> None:
        self.seen["val"] = self.layer(batch).dtype

    def test_step(self, batch: torch.Tensor) -> None:
        self.seen["test"] = self.layer(batch).dtype


@pytest.mark.filterwarnings("ignore")  # of Lightning: few workers, no logger
def test_a_training_in_bfloat16_is_tested_in_float32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task, films = Task(), DataLoader(cast(Any, [torch.ones(1)]))
    quiet: Any = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(precision="bf16-mixed", accelerator="cpu", default_root_dir=tmp_path, **quiet)
    trainer.validate(task, films, verbose=False)
    tested = trainer.test
    monkeypatch.setattr(trainer, "test", lambda task, datamodule, verbose: tested(task, films, verbose=verbose))
    folder = SimpleNamespace(read_best=lambda: (tmp_path, {"state_dict": task.state_dict()}))
    train.test(cast(Any, SimpleNamespace(trainer=trainer, task=task, data=None)), cast(Any, folder))
    assert task.seen == {"val": torch.bfloat16, "test": torch.float32}
