"""A training says where it is and how long it takes."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import lightning as L  # noqa: N812
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from cxr import progress
from cxr.report import run_progress
from cxr.report.run_progress import Pace, RunProgress


def test_the_time_of_a_training_follows_from_its_steps_before_a_validation_is_measured() -> None:
    pace = Pace(epochs=10, steps=100, validation=30, test=60)
    pace.stepped(50.0)  # the first one allocates
    pace.stepped(2.0)
    pace.stepped(4.0)
    assert pace.step_s == 3.0
    assert pace.epoch_s == 100 * 3 + 30 * 2  # two passes forward a batch: two thirds of a step
    assert pace.left_s(0, 3) == 10 * 360 - 3 * 3 + 60 * 2


def test_a_validation_that_was_measured_counts_for_the_others_and_for_the_test() -> None:
    pace = Pace(epochs=10, steps=100, validation=30, test=60)
    pace.stepped(3.0)
    pace.validated(15.0)
    assert pace.epoch_s == 315
    assert pace.left_s(9, 100) == 15 + 30


class Data(L.LightningDataModule):
    """Batches of one number each: 40 steps, 4 of validation."""

    def __init__(self) -> None:
        super().__init__()
        self.films = {"train": range(320), "val": range(32), "test": range(64)}

    def train_dataloader(self) -> DataLoader[Tensor]:
        return DataLoader(cast(Any, torch.ones(40, 1)))

    def val_dataloader(self) -> DataLoader[Tensor]:
        return DataLoader(cast(Any, torch.ones(4, 1)))


class Slow(L.LightningModule):
    """A model whose steps take ``step_s`` by the clock of the test, and which ends after ``most`` of them."""

    def __init__(self, clock: list[float], step_s: float, most: int) -> None:
        super().__init__()
        self.clock, self.step_s, self.most = clock, step_s, most
        self.layer = nn.Linear(1, 1)
        self.last_losses = {"loss_classifier": torch.tensor(0.25), "loss_box_reg": torch.tensor(0.5)}

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        self.clock[0] += self.step_s
        progress._voice.tick()  # what the thread would say now
        if self.global_step + 1 >= self.most:
            self.trainer.should_stop = True
        return cast(Tensor, self.layer(batch).sum())

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.clock[0] += 30
        progress._voice.tick()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(progress, "_voice", progress._Voice())
    monkeypatch.setattr(progress, "_POLL_S", 1e6)
    monkeypatch.setattr(progress, "_clock", lambda: now[0])
    monkeypatch.setattr(run_progress, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def fit(clock: list[float], folder: Path, step_s: float, most: int, epochs: int) -> None:
    words = "model=fasterrcnn_tiny trainer=cpu data.size=256"
    trainer = L.Trainer(
        accelerator="cpu", max_epochs=epochs, callbacks=[RunProgress(quicker=words)], logger=False,
        enable_checkpointing=False, enable_model_summary=False, num_sanity_val_steps=0, default_root_dir=folder,
    )  # fmt: skip
    trainer.fit(Slow(clock, step_s, most), Data())


@pytest.mark.filterwarnings("ignore:The '\\w+' does not have many workers")
def test_a_training_of_hours_says_so_after_its_first_steps_and_what_is_quicker(
    clock: list[float], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(clock, tmp_path, step_s=30.0, most=5, epochs=20)
    plan, first, latest, *rest = (line for line in capsys.readouterr().err.splitlines() if "epoch" in line)
    assert plan == "training: epochs 1 to 20, 40 steps each; 320 films in train, 32 films in val, 64 films in test"
    assert first == "epoch 1 of 20: step 0 of 40, 30 s"
    # 20 epochs of 40 steps of 30 s and 4 batches of validation of 20 s, but for 2 steps; 8 batches of the test
    assert latest.startswith("epoch 1 of 20: step 1 of 40, 60 s, about 7 h")
    assert latest.endswith(" left, loss 0.750 (classifier 0.250, box_reg 0.500)")
    assert rest[0] == (
        "about 7 h 8 min left: a step takes 30 s, an epoch 21 min with its validation, on this CPU. Quicker:"
        " model=fasterrcnn_tiny trainer=cpu data.size=256, or fewer films, or trainer.max_epochs=2, which takes an hour"
    )
    assert any(line.startswith("validating after epoch 1 of 20: batch 1 of 4, 60 s") for line in rest)


@pytest.mark.filterwarnings("ignore:The '\\w+' does not have many workers")
def test_a_training_of_minutes_tells_its_time_and_nothing_more(
    clock: list[float], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(clock, tmp_path, step_s=3.0, most=80, epochs=2)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("about")]
    assert lines == ["about 4 min left: a step takes 3 s, an epoch 2 min"]  # 78 steps, 2 × 4 and 8 looks of 2 s: 266 s


@pytest.mark.filterwarnings("ignore:The '\\w+' does not have many workers")
def test_a_training_that_fails_leaves_nothing_that_speaks(
    clock: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise FloatingPointError("the loss is not finite")

    monkeypatch.setattr(Slow, "validation_step", fail)
    with pytest.raises(FloatingPointError):
        fit(clock, tmp_path, step_s=1.0, most=80, epochs=2)
    assert progress._voice._works == []


@pytest.mark.filterwarnings("ignore:The '\\w+' does not have many workers")
def test_of_several_processes_the_others_say_nothing_of_the_training(
    clock: list[float], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(L.Trainer, "is_global_zero", property(lambda _: False))
    fit(clock, tmp_path, step_s=30.0, most=5, epochs=20)
    assert "epoch" not in capsys.readouterr().err
