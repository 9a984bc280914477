"""What a run leaves of its epochs."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import torch
from lightning.pytorch import LightningModule, Trainer

from cxr.report.callbacks import EpochTable, read_epochs


def epoch(table: EpochTable, number: int, printed: list[str], **figures: float) -> None:
    metrics = {name.replace("_", "/", 1): torch.tensor(value) for name, value in figures.items()}
    trainer = SimpleNamespace(current_epoch=number, callback_metrics=metrics, print=printed.append)
    table.on_train_epoch_start(cast(Trainer, trainer), cast(LightningModule, None))
    table.on_train_epoch_end(cast(Trainer, trainer), cast(LightningModule, None))


def begin(path: Path, at_epoch: int) -> EpochTable:
    table = EpochTable(str(path))
    table.on_train_start(cast(Any, SimpleNamespace(current_epoch=at_epoch)), cast(LightningModule, None))
    return table


def test_a_resumed_run_goes_on_in_the_same_table(tmp_path: Path) -> None:
    path, printed = tmp_path / "metrics.csv", list[str]()
    table = begin(path, 0)
    epoch(table, 0, printed, train_loss=4.0)
    epoch(table, 1, printed, train_loss=3.0)
    # killed after the second epoch's row and before its checkpoint: the second epoch is trained again
    table = begin(path, 1)
    epoch(table, 1, printed, train_loss=3.5, val_loss=2.0)
    assert read_epochs(path) == [{"epoch": 0, "train/loss": 4}, {"epoch": 1, "train/loss": 3.5, "val/loss": 2}]
    assert "epoch   2" in printed[-1]
    assert "validation loss 2.000" in printed[-1]
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.csv"]


def test_there_are_no_epochs_before_the_first(tmp_path: Path) -> None:
    assert read_epochs(tmp_path / "metrics.csv") == []
