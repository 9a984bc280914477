"""What a run shows and leaves: a table of its epochs, pictures in TensorBoard, a page of test films.

Of several processes the first one writes them. Figures are those of all films, pictures those of its own share.
"""

import csv
import time
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, cast

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from PIL import Image
from torch import Tensor

from cxr.data.film import Film
from cxr.detect.detector import name_of
from cxr.detect.task import Batch, DetectionTask
from cxr.files import whole_file
from cxr.findings import FindingVocabulary
from cxr.learn.tensorboard import show_pictures
from cxr.report.epochs import read_epochs
from cxr.report.figures import Marks, epoch_curves, film_picture, marks_of
from cxr.report.run_page import FilmCard, run_page
from cxr.report.without_paths import folder_pseudonym
from cxr.report.words import words


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
        figures = {k: float(v) for k, v in sorted(trainer.callback_metrics.items())}  # processes may talk here: all do
        if not trainer.is_global_zero:
            return
        self.rows.append({"epoch": float(trainer.current_epoch), **figures})
        columns = list(dict.fromkeys(key for row in self.rows for key in row))
        with whole_file(self.path) as part, part.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(self.rows)
        trainer.print(_line(self.rows[-1], trainer.max_epochs, time.monotonic() - self._started))

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at the clock."""
        self._started = time.monotonic()


def _line(row: Mapping[str, float], epochs: int | None, seconds: float) -> str:
    shown = [
        f"{word} {row[key]:.3f}"
        for word, key in (
            ("loss", "train/loss"),
            ("validation loss", "val/loss"),
            ("AP50", "val/map_50"),
            ("AP", "val/map"),
            ("false positives per normal film", "val/false_positives_per_normal_film"),
            ("AUC", "val/auc"),
            ("PSNR", "val/psnr"),
            ("spread", "val/spread"),
            ("rank", "val/rank"),
            ("probe AUC", "val/probe_auc"),
        )
        if key in row
    ]
    of = f" of {epochs}" if epochs and epochs > 0 else ""
    return f"epoch {row['epoch'] + 1:.0f}{of}  {seconds:5.1f} s  " + "  ".join(shown)


class ValidationPictures(Callback):
    """Show ``films`` validation films with true and predicted boxes in TensorBoard after each epoch."""

    def __init__(self, films: int, threshold: float = 0.3) -> None:
        self.films = films
        self.threshold = threshold
        self._pictures: list[Image.Image] = []

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *args: Any, **kwargs: Any
    ) -> None:
        """Draw the batch's films while fewer than ``films`` are drawn."""
        if trainer.is_global_zero:
            films, most = _films(trainer, "val"), self.films - len(self._pictures)
            drawn = _draw(pl_module, batch, outputs, films, most, self.threshold, width=480)
            self._pictures += [picture for picture, *_ in drawn]

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Send the pictures to TensorBoard."""
        show_pictures(trainer, self._pictures)
        self._pictures = []


class TestPage(Callback):
    """Write ``folder/index.html``: test figures per finding, the run's curves, and the first ``films`` test films.

    Boxes are shown from the score ``threshold`` up; ``language`` is ``en`` or ``zh``.
    """

    def __init__(self, folder: str, films: int, threshold: float = 0.3, language: str = "en") -> None:
        words(language)  # an unknown language is an error now, not after the training
        self.folder = Path(folder)
        self.films = films
        self.threshold = threshold
        self.language = language
        self._cards: list[FilmCard] = []

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *args: Any, **kwargs: Any
    ) -> None:
        """Draw the batch's films while fewer than ``films`` are drawn."""
        if not trainer.is_global_zero:
            return
        films, most = _films(trainer, "test"), self.films - len(self._cards)
        drawn = _draw(pl_module, batch, outputs, films, most, self.threshold, 560, self.language)
        for (picture, truth, detected), target in zip(drawn, batch[1], strict=False):
            self._cards.append(FilmCard(films[int(target["film"])].study, picture, truth, sorted(set(detected))))

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the page."""
        metrics = {k: float(v) for k, v in trainer.callback_metrics.items()}  # processes may talk here: all do
        if not trainer.is_global_zero:
            return
        films, task = _films(trainer, "test"), cast(DetectionTask, pl_module)
        rows = read_epochs(self.folder / "metrics.csv")
        run_page(
            self.folder / "index.html",
            task.findings,
            boxes={name: sum(f.findings.count(name) for f in films) for name in task.findings.names},
            metrics=metrics,
            curves=epoch_curves(rows, _monitored(trainer)),
            cards=self._cards,
            films=(len(films), sum(f.normal for f in films)),
            threshold=self.threshold,
            run=_describe(task.card),
            language=self.language,
        )
        self._cards = []


def _monitored(trainer: Trainer) -> str:
    """Return the figure of validation that chooses the epoch that is kept; "" where none does."""
    chosen_by = (one.monitor for one in trainer.checkpoint_callbacks if isinstance(one, ModelCheckpoint))
    return next((monitor for monitor in chosen_by if monitor), "")


def _films(trainer: Trainer, split: str) -> Sequence[Film]:
    return trainer.datamodule.films[split]  # type: ignore[attr-defined,no-any-return]  # Lightning's Trainer does not declare it


def _draw(
    task: LightningModule,
    batch: Batch,
    outputs: Mapping[str, Any],
    films: Sequence[Film],
    most: int,
    threshold: float,
    width: int,
    language: str = "en",
) -> list[tuple[Image.Image, Sequence[str], Sequence[str]]]:
    """Draw the first ``most`` films of a batch, ``width`` pixels wide, with detections from ``threshold`` up.

    ``films`` are those of the split that the batch is of.

    Returns pictures, each with the findings that were marked and those that were detected.
    """
    findings = cast(DetectionTask, task).findings
    drawn = []
    for image, target, detection in islice(zip(*batch, outputs["measured"], strict=True), most):
        truth, detected = _marks(findings, target, detection, threshold)
        path = films[int(target["film"])].path
        picture = film_picture(image[0].float().cpu().numpy(), truth, detected, findings, width, language, path)
        drawn.append((picture, truth.findings, detected.findings))
    return drawn


def _marks(
    findings: FindingVocabulary, target: dict[str, Tensor], detection: dict[str, Tensor], threshold: float
) -> tuple[Marks, Marks]:
    """True and detected boxes in the pixels of the network's image; both come in original pixels."""
    scale, keep = target["scale"].cpu().numpy(), detection["scores"] >= threshold
    boxes, labels, scores = (detection[key][keep].float().cpu().numpy() for key in ("boxes", "labels", "scores"))
    marked, names = target["original_boxes"].float().cpu().numpy(), target["original_labels"].tolist()
    return marks_of(findings, marked, names, scale), marks_of(findings, boxes, labels, scale, scores)


def _describe(card: Mapping[str, Any]) -> str:
    """What was trained on what, in a line, from the card a checkpoint carries."""
    cfg = card.get("config", {})
    optimizer = cfg.get("optimizer", {})
    data = cfg.get("data", {})
    parts = (
        name_of(cfg.get("model", {})),
        optimizer.get("optimizer", optimizer).get("_target_", "").rpartition(".")[2],
        f"{data.get('size')} px",
        *([f"films of {folder_pseudonym(data['root'])}"] if data.get("root") else []),
        f"data {card.get('data')}",
    )
    return " · ".join(str(part) for part in parts)
