"""A page of films, each with the films whose features are most like its own: what a pretrained backbone holds alike."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize

from cxr.data.film import Film
from cxr.data.unmarked import UnmarkedDataModule
from cxr.read.film_text import without_film_text
from cxr.report.epochs import read_epochs
from cxr.report.figures import figure_of_curves
from cxr.report.page import Card, Chip, write_page
from cxr.report.words import words

_HEIGHT = 200  # pixels of a film in a picture
_GAP = 24  # between a film and those that are like it

_CURVES = {
    "loss": ("train/loss", "val/loss"),
    "invariance": ("val/loss_invariance", "val/loss_local_invariance"),
    "variance": ("val/loss_variance", "val/loss_local_variance"),
    "spread, probe AUC": ("val/spread", "val/probe_auc"),
}


class NeighboursPage(Callback):
    """After the test, write ``folder/index.html``: ``films`` validation films, each with its ``nearest`` other films.

    Films of the same patient are left out of the nearest. ``language`` is ``en`` or ``zh``.
    """

    def __init__(self, folder: str, films: int = 12, nearest: int = 4, language: str = "en") -> None:
        words(language)  # an unknown language is an error now, not after the training
        self.folder = Path(folder)
        self.films = films
        self.nearest = nearest
        self.language = language
        self._features: list[Tensor] = []
        self._indices: list[Tensor] = []

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *args: Any, **kwargs: Any
    ) -> None:
        """Keep the features of the batch's films."""
        self._features.append(outputs["measured"])
        self._indices.append(batch["film"].cpu())

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the page."""
        data: UnmarkedDataModule = trainer.datamodule  # type: ignore[attr-defined]  # not declared by Lightning
        films = [data.films["val"][i] for i in torch.cat(self._indices).tolist()]
        features = torch.cat(self._features)
        self._features, self._indices = [], []
        if not trainer.is_global_zero:
            return
        shown = np.unique(np.linspace(0, len(films) - 1, min(self.films, len(films))).round().astype(int)).tolist()
        similar = nearest(features, [film.patient for film in films], shown, self.nearest)
        write_page(
            self.folder / "index.html",
            "neighbours.html",
            self.language,
            cards=[_card(data, films, row, like) for row, like in zip(shown, similar, strict=True)],
            curves=figure_of_curves(read_epochs(self.folder / "metrics.csv"), _CURVES),
            total=len(films),
            trained=len(data.films["train"]),
            left_out=data.left_out,
        )


def nearest(
    features: Tensor, patients: Sequence[str], shown: Sequence[int], count: int
) -> list[list[tuple[int, float]]]:
    """Return for each film of ``shown`` up to ``count`` others by falling similarity: (index, cosine of the angle).

    Features [n, D] are taken as differences from the mean film, and films of the same patient are left out.
    """
    directions = normalize(features - features.mean(0), dim=1)
    rows = []
    for index in shown:
        cosines = directions @ directions[index]
        others = [i for i in cosines.argsort(descending=True, stable=True).tolist() if patients[i] != patients[index]]
        rows.append([(i, float(cosines[i])) for i in others[:count]])
    return rows


def _card(data: UnmarkedDataModule, films: Sequence[Film], index: int, similar: Sequence[tuple[int, float]]) -> Card:
    pictures = [_picture(data, films[i]) for i in (index, *(i for i, _ in similar))]
    width = sum(one.shape[1] for one in pictures) + _GAP
    strip = np.zeros((_HEIGHT, width), np.uint8)
    left = 0
    for number, one in enumerate(pictures):
        strip[: one.shape[0], left : left + one.shape[1]] = one
        left += one.shape[1] + (_GAP if number == 0 else 0)
    chips = [Chip(f"{films[i].study} · {cosine:.2f}") for i, cosine in similar]
    return Card(films[index].study, Image.fromarray(strip), chips)


def _picture(data: UnmarkedDataModule, film: Film) -> NDArray[np.uint8]:
    pixels = data.cache.get(film.path).pixels
    levels = np.asarray((pixels if pixels.ndim == 2 else pixels[..., 0]) >> 8, np.uint8)
    grey = Image.fromarray(without_film_text(levels, film.path))
    return np.asarray(grey.resize((max(1, round(grey.width * _HEIGHT / grey.height)), _HEIGHT)))
