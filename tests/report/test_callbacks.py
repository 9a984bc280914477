"""What a run leaves of its epochs and its films."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import ImageColor

from cxr.data.film import Film
from cxr.findings import FindingVocabulary
from cxr.palette import colour
from cxr.read.radiograph import pseudonym
from cxr.report import callbacks  # TestPage by way of it: pytest would collect the name
from cxr.report.callbacks import EpochTable, ValidationPictures
from cxr.report.epochs import read_epochs

BOXES = np.array([[4, 4, 24, 24]], np.float32)


def epoch(table: EpochTable, number: int, printed: list[str], **figures: float) -> None:
    metrics = {name.replace("_", "/", 1): torch.tensor(value) for name, value in figures.items()}
    trainer = SimpleNamespace(current_epoch=number, callback_metrics=metrics, print=printed.append)
    trainer.is_global_zero, trainer.max_epochs = True, 3
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
    assert "epoch 2 of 3" in printed[-1]
    assert "validation loss 2.000" in printed[-1]
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.csv"]


def test_there_are_no_epochs_before_the_first(tmp_path: Path) -> None:
    assert read_epochs(tmp_path / "metrics.csv") == []


def batch(*sizes: tuple[int, int]) -> tuple[Any, dict[str, Any]]:
    """Films with a box marked at 4..24 px of the original, and seen there; images are half as large."""
    box, label = torch.from_numpy(BOXES), torch.tensor([1])
    seen = {"boxes": box.repeat(2, 1), "labels": torch.tensor([1, 2]), "scores": torch.tensor([0.9, 0.1])}
    # the image's own boxes are empty, as those of a box that is too small for it
    target = {"boxes": torch.zeros((0, 4)), "labels": label[:0], "scale": torch.tensor([0.5, 0.5])}
    target |= {"original_boxes": box, "original_labels": label}
    images = [torch.zeros((1, *size)) for size in sizes]
    targets = [{**target, "film": torch.tensor(i)} for i in range(len(sizes))]
    return (images, targets), {"measured": [seen] * len(sizes)}


TASK = cast(Any, SimpleNamespace(findings=FindingVocabulary([{"name": "heart"}, {"name": "spine"}]), card={}))


def test_tensorboard_gets_the_first_films_of_validation_and_no_more(tmp_path: Path) -> None:
    logger = TensorBoardLogger(str(tmp_path))
    sent = []
    logger.experiment.add_image = lambda name, picture, *_, **__: sent.append((name, picture))
    module = SimpleNamespace(films={"val": [SimpleNamespace(path=tmp_path / "gone.dcm")] * 2})
    trainer = cast(Any, SimpleNamespace(loggers=[logger], current_epoch=0, is_global_zero=True, datamodule=module))
    pictures = ValidationPictures(films=3)
    for i in range(3):
        films, outputs = batch((60, 30), (30, 60))
        pictures.on_validation_batch_end(trainer, TASK, outputs, films, i)
    pictures.on_validation_end(trainer, TASK)
    assert [name for name, _ in sent] == ["validation/0", "validation/1", "validation/2"]
    assert [picture.shape for _, picture in sent] == [(960, 480, 3), (240, 480, 3), (960, 480, 3)]
    heart = ImageColor.getrgb(colour(TASK.findings, "heart"))
    # the marked box stands at 2..12 px of images that are shown 16 times as large, and a broad one 8 times
    assert tuple(sent[0][1][32, 100]) == tuple(sent[0][1][192, 100]) == tuple(sent[1][1][96, 60]) == heart


def test_the_page_shows_the_first_test_films_by_their_pseudonyms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    films = [Film(tmp_path, str(i), f"study{i}", f"p{i}", BOXES, ("heart",), 60, 120) for i in range(4)]
    module = SimpleNamespace(films={"test": films})
    trainer = cast(Any, SimpleNamespace(datamodule=module, callback_metrics={}, is_global_zero=True))
    trainer.checkpoint_callbacks = [ModelCheckpoint(), ModelCheckpoint(monitor="val/map")]
    task = SimpleNamespace(findings=TASK.findings, card={"config": {"data": {"root": "/ward/Lin_Yu-Ting"}}})
    chosen_by: list[str] = []
    monkeypatch.setattr("cxr.report.callbacks.epoch_curves", lambda rows, monitor: chosen_by.append(monitor))
    shown: dict[str, Any] = {}
    monkeypatch.setattr("cxr.report.callbacks.run_page", lambda *_, **words: shown.update(words))
    page = callbacks.TestPage(str(tmp_path), films=3)
    for i in range(2):
        batched, outputs = batch((60, 30), (60, 30))
        batched[1][0]["film"], batched[1][1]["film"] = torch.tensor(2 * i), torch.tensor(2 * i + 1)
        page.on_test_batch_end(trainer, TASK, outputs, batched, i)
    page.on_test_end(trainer, cast(Any, task))
    assert chosen_by == ["val/map"]
    assert f"films of {pseudonym('Lin_Yu-Ting')}" in shown["run"]
    assert "Lin" not in shown["run"]
    assert [card.study for card in shown["cards"]] == ["study0", "study1", "study2"]
    assert {(*card.truth, "|", *card.detected) for card in shown["cards"]} == {
        ("heart", "|", "heart")
    }  # spine scored 0.1
