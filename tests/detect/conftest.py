"""Films of noise with boxes, small enough to train on within a test, and what is trained on them."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L  # noqa: N812
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from cxr.config.models import builder
from cxr.data.dataset import collate
from cxr.detect.detector import Detector, finish
from cxr.detect.task import DetectionTask
from cxr.findings import FindingVocabulary

SGD = partial(torch.optim.SGD, lr=0.01, momentum=0.9)

Film = tuple[Tensor, dict[str, Tensor]]


@pytest.fixture
def film() -> Callable[..., Film]:
    """Make a film: noise, a bright rectangle in every box, and a target as the data set gives it (2 × downscaled)."""

    def make(seed: int, size: tuple[int, int] = (64, 64), boxes: list[list[float]] | None = None) -> Film:
        generator = torch.Generator().manual_seed(seed)
        image = 0.3 * torch.rand((1, *size), generator=generator)
        corners = torch.tensor([[8.0, 8.0, 40.0, 48.0]] if boxes is None else boxes).reshape(-1, 4)
        for x1, y1, x2, y2 in corners.int().tolist():
            image[:, y1:y2, x1:x2] += 0.6
        target = {
            "boxes": corners,
            "labels": torch.arange(len(corners)) % 3 + 1,
            "original_boxes": 2 * corners,
            "original_labels": torch.arange(len(corners)) % 3 + 1,
            "scale": torch.tensor([0.5, 0.5]),
            "size": torch.tensor([2 * size[0], 2 * size[1]]),
            "film": torch.tensor(seed),
        }
        return image, target

    return make


class Films(Dataset[Film]):
    """Films with noise that follows from the epoch, as a data module has them."""

    def __init__(self, films: list[Film], task: DetectionTask | None) -> None:
        self.films, self.task = films, task

    def __len__(self) -> int:
        return len(self.films)

    def __getitem__(self, i: int) -> Film:
        image, target = self.films[i]
        epoch = self.task.current_epoch if self.task else 0
        generator = torch.Generator().manual_seed(1000 * epoch + i)
        return image + 0.05 * torch.rand(image.shape, generator=generator), target


def load(films: list[Film], batch: int, task: DetectionTask | None = None) -> DataLoader[Film]:
    return DataLoader(Films(films, task), batch, collate_fn=collate)


def make_trainer(folder: Path, epochs: int = 1, callbacks: Sequence[L.Callback] = (), **settings: Any) -> L.Trainer:
    return L.Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, default_root_dir=folder,
        enable_checkpointing=bool(callbacks), enable_progress_bar=False, enable_model_summary=False,
        num_sanity_val_steps=0, callbacks=list(callbacks), **settings,
    )  # fmt: skip


def fit_task(task: DetectionTask, films: list[Film], folder: Path, resume: Path | None = None, **settings: Any) -> Any:
    """Train on films in batches of three, validate on them in batches of four, and return what was logged."""
    trainer = make_trainer(folder, **settings)
    trainer.fit(task, load(films, 3, task), load(films, 4), ckpt_path=resume, weights_only=True)
    return trainer.callback_metrics


@pytest.fixture
def films(film: Callable[..., Film]) -> list[Film]:
    """Seven films of two sizes, two of them normal."""
    return [film(i, (64, 64 if i % 2 else 48), [] if i % 3 == 2 else None) for i in range(7)]


@pytest.fixture
def make_task(vocabulary: FindingVocabulary) -> Callable[..., DetectionTask]:
    """Make the task of a small detector, or of ``model``, from the same random numbers each time."""

    def make(model: Any = None, optimizer: Any = SGD, **settings: Any) -> DetectionTask:
        torch.manual_seed(7)
        return DetectionTask(vocabulary, model or builder("fasterrcnn_tiny"), optimizer, **settings)

    return make


@pytest.fixture
def loader() -> Callable[..., DataLoader[Film]]:
    return load


@pytest.fixture
def trainer() -> Callable[..., L.Trainer]:
    return make_trainer


@pytest.fixture
def fit() -> Callable[..., Any]:
    return fit_task


class Stub(Detector):
    """A detector with the losses and detections that it is given."""

    def __init__(self, num_classes: int, losses: Any = None, detections: Any = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.given, self.detections = losses, detections
        self.backbone = nn.Identity()
        finish(self, num_classes, [0.0], [1.0], False, False, None, None)

    def losses_of(self, pyramid: Any, targets: Any) -> dict[str, Tensor]:
        return {name: value * self.weight for name, value in self.given.items()}

    def boxes_of(self, pyramid: Any) -> list[dict[str, Tensor]]:
        return [self.detections for _ in pyramid.films]


@pytest.fixture
def stub() -> type[Stub]:
    return Stub


@pytest.fixture
def batch(film: Callable[..., Film]) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """Two sizes, a normal film, and a box on the border."""
    return collate([film(0, (70, 50), [[0.0, 0.0, 50.0, 70.0], [5.0, 8.0, 20.0, 60.0]]), film(1, (40, 96), [])])
