"""What a run shows and leaves: a table of its epochs, pictures in TensorBoard, a page of test films."""

import csv
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from cxr.data.film import Film
from cxr.detect.task import DetectionTask
from cxr.findings import FindingVocabulary
from cxr.report.figures import Marks, epoch_curves, film_picture
from cxr.report.html import FilmCard, test_page


class EpochTable(Callback):
    """Print a line an epoch and write all its figures as a row of ``path``; a resumed run goes on in the same table."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self.rows: list[dict[str, float]] = []
        self._started = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take up the rows of the epochs before the one that begins now."""
        self.rows = [row for row in read_epochs(self.path) if row["epoch"] < trainer.current_epoch]

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add the epoch's row and rewrite the table in one step."""
        figures = {k: float(v) for k, v in sorted(trainer.callback_metrics.items())}
        self.rows.append({"epoch": float(trainer.current_epoch), **figures})
        columns = list(dict.fromkeys(key for row in self.rows for key in row))
        part = self.path.with_suffix(f".{os.getpid()}.part")
        with part.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(self.rows)
        part.replace(self.path)
        trainer.print(_line(self.rows[-1], time.monotonic() - self._started))

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at the clock."""
        self._started = time.monotonic()


def _line(row: Mapping[str, float], seconds: float) -> str:
    shown = [
        f"{word} {row[key]:.3f}"
        for word, key in (
            ("loss", "train/loss"),
            ("validation loss", "val/loss"),
            ("AP50", "val/map_50"),
            ("AP", "val/map"),
            ("false positives per normal film", "val/false_positives_per_normal_film"),
        )
        if key in row
    ]
    return f"epoch {row['epoch'] + 1:3.0f}  {seconds:5.1f} s  " + "  ".join(shown)


def read_epochs(path: Path) -> list[dict[str, float]]:
    """Return the rows of a run's ``metrics.csv``, [] where there is none yet; a figure an epoch lacks is left out."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]


class ValidationPictures(Callback):
    """Show ``films`` validation films with true and predicted boxes in TensorBoard after each epoch."""

    def __init__(self, films: int, threshold: float = 0.3) -> None:
        self.films = films
        self.threshold = threshold
        self._pictures: list[np.ndarray[Any, Any]] = []

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Draw the batch's films while fewer than ``films`` are drawn."""
        findings = cast(DetectionTask, pl_module).findings
        for image, target, detection in zip(*batch, outputs["detections"], strict=True):
            if len(self._pictures) < self.films:
                truth, seen = _marks(findings, target, detection, self.threshold)
                picture = film_picture(_grey(image), truth, seen, findings, width=480)
                self._pictures.append(np.asarray(picture))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Send the pictures to TensorBoard."""
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                for i, picture in enumerate(self._pictures):
                    logger.experiment.add_image(f"validation/{i}", picture, trainer.current_epoch, dataformats="HWC")
        self._pictures = []


class TestPage(Callback):
    """Write ``folder/index.html``: test figures per finding, the run's curves, and the first ``films`` test films."""

    def __init__(self, folder: str, films: int, threshold: float = 0.3) -> None:
        self.folder = Path(folder)
        self.films = films
        self.threshold = threshold
        self._cards: list[FilmCard] = []

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Draw the batch's films while fewer than ``films`` are drawn."""
        findings = cast(DetectionTask, pl_module).findings
        for image, target, detection in zip(*batch, outputs["detections"], strict=True):
            if len(self._cards) < self.films:
                truth, seen = _marks(findings, target, detection, self.threshold)
                study = self._test_films(trainer)[int(target["film"])].study
                picture = film_picture(_grey(image), truth, seen, findings)
                self._cards.append(FilmCard(study, picture, truth.findings, sorted(set(seen.findings))))

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the page."""
        films, task = self._test_films(trainer), cast(DetectionTask, pl_module)
        rows = read_epochs(self.folder / "metrics.csv")
        test_page(
            self.folder / "index.html",
            task.findings,
            boxes={name: sum(f.findings.count(name) for f in films) for name in task.findings.names},
            metrics={k: float(v) for k, v in trainer.callback_metrics.items()},
            curves=epoch_curves(rows, "val/map_50"),
            cards=self._cards,
            films=(len(films), sum(f.normal for f in films)),
            threshold=self.threshold,
            run=_describe(task.card),
        )
        self._cards = []

    @staticmethod
    def _test_films(trainer: Trainer) -> Sequence[Film]:
        return trainer.datamodule.films["test"]  # type: ignore[attr-defined,no-any-return]  # Lightning's Trainer does not declare it


def _marks(
    findings: FindingVocabulary, target: dict[str, Tensor], detection: dict[str, Tensor], threshold: float
) -> tuple[Marks, Marks]:
    """True and detected boxes in the pixels of the network's image; detections come in original pixels."""
    sx, sy = (float(s) for s in target["scale"])
    keep = detection["scores"] >= threshold
    scale = torch.tensor([sx, sy, sx, sy])
    truth = Marks(target["boxes"].cpu().numpy(), [findings.name(int(i)) for i in target["labels"]])
    boxes = detection["boxes"][keep].cpu().float() * scale
    seen = [findings.name(int(i)) for i in detection["labels"][keep]]
    return truth, Marks(boxes.numpy(), seen, detection["scores"][keep].cpu().float().numpy())


def _describe(card: Mapping[str, Any]) -> str:
    """What was trained on what, in a line, from the card a checkpoint carries."""
    cfg = card.get("config", {})
    named = {group: cfg.get(group, {}).get("_target_", "").rpartition(".")[2] for group in ("model", "optimizer")}
    data = cfg.get("data", {})
    parts = (named["model"], named["optimizer"], f"{data.get('size')} px", data.get("root"), f"data {card.get('data')}")
    return " · ".join(str(part) for part in parts)


def _grey(image: Tensor) -> np.ndarray[Any, Any]:
    return image[0].float().cpu().numpy()
