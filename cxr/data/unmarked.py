"""Films that nobody has marked as a data module: what a backbone is pretrained on."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from cxr.data.datamodule import DataModule, Decoded, require
from cxr.data.dataset import RadiographDataset, channels_first, stream
from cxr.data.film import Film
from cxr.data.film_data import FilmDataModule
from cxr.data.modalities import modality_and_kind, of_one_kind, wanted
from cxr.data.unmarked_films import HeldBack, allowed, films_below, held_back, without_copies
from cxr.data.views import Views
from cxr.read.cache import FilmCache
from cxr.read.dicom import ReadError
from cxr.read.frame import to_longest_side
from cxr.read.freed_memory import keep_freed_memory
from cxr.read.preprocessing import Preprocessing

_log = logging.getLogger(__name__)

_LEAST_SIZE = 64  # px: a view then has at least two cells of the coarsest map along its side


class ViewDataset(Dataset[dict[str, Tensor]]):
    """Films as pretraining takes them; ``dataset[epoch, i]`` has the views of an epoch, ``dataset[i]`` those of 0.

    A sample is views float32 [2, C, s, s] in 0..1; places float32 [2, N, 2] (``TwoViews``); film int64, the index into
    ``films``; and with ``whole`` the film itself, float32 [C, size, size], in the upper left of a square of 0.
    """

    def __init__(
        self, films: Sequence[Film], cache: FilmCache, size: int, views: Views, seed: int = 0, whole: bool = False
    ) -> None:
        keep_freed_memory()
        self.films = list(films)
        self.cache = cache
        self.size = size
        self.views = views
        self.seed = seed
        self.whole = whole

    def __len__(self) -> int:
        return len(self.films)

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Tensor]:
        epoch, index = key if isinstance(key, tuple) else (0, key)
        pixels = to_longest_side(self.cache.get(self.films[index].path).pixels, self.size)
        made = self.views(pixels, self.size, stream(self.seed, epoch, index))
        sample = {
            "views": torch.stack([channels_first(view) for view in made.views]),
            "places": torch.from_numpy(made.places),
            "film": torch.tensor(index),
        }
        if self.whole:
            image = channels_first(np.multiply(pixels, np.float32(1 / 65535), dtype=np.float32))
            square = image.new_zeros((image.shape[0], self.size, self.size))
            square[:, : image.shape[1], : image.shape[2]] = image
            sample["whole"] = square
        return sample


class UnmarkedDataModule(DataModule[Film]):
    """All films below a folder without boxes; ``ViewDataset`` says what a sample is.

    Films are DICOM files, or pictures where there is no DICOM file. Of several copies of a film one is taken.

    There is no test set: what was learnt is judged by the detectors that start from it. A test of the trainer measures
    the validation films.

    Args:
        root: the folder, or one film.
        intensity: stored values → what the network sees; that of the detector which will start from it.
        views: makes two views of a film.
        marked: the marked films that a detector will be trained on. Films of its validation and test patients are left
            out, known by their pseudonyms or by their pixels, and a probe is measured on it. None: nothing is known.
        size: longest side of the network frame in pixels.
        cache: folder of the decoded films.
        modality: take the films of this Modality, or of these; see ``FilmDataModule``.
        batch_size, workers, val_fraction, seed, on_unreadable: see ``DataModule``.

    Attributes:
        left_out: how many films were left out because the marked films hold them, or their patients, back.
    """

    serves = "views"
    noun = ("film", "films")

    def __init__(
        self,
        root: Path | str,
        intensity: Preprocessing,
        views: Views,
        marked: FilmDataModule | None = None,
        size: int = 256,
        cache: Path | str = ".cache/films",
        batch_size: int = 16,
        workers: int | None = None,
        val_fraction: float = 0.1,
        seed: int = 0,
        on_unreadable: Literal["skip", "raise"] = "skip",
        modality: str | Sequence[str] | None = None,
    ) -> None:
        super().__init__(root, batch_size, workers, seed, val_fraction, on_unreadable=on_unreadable)
        require("size", size, size >= _LEAST_SIZE, f"at least {_LEAST_SIZE} px")
        require("batch_size", batch_size, batch_size >= 2, "at least 2: films are told apart from one another")
        require("val_fraction", val_fraction, val_fraction > 0, "above 0: collapse is seen on films not trained on")
        self.views = views
        self.size = size
        self.cache = FilmCache(Path(cache), intensity, size)
        self.modality = wanted(modality)
        self.marked = marked
        if marked is not None:  # its films are decoded once, as pretraining sees them
            marked.size, marked.cache = size, self.cache
        self.left_out = 0
        self._unopened: list[tuple[Path, ReadError]] = []

    def listed(self) -> list[Film]:
        """Return the films below the folder whose headers can be read, of the modalities that are wanted."""
        films, self._unopened = films_below(self.root)
        return of_one_kind(films, self._modality_and_kind, self.modality, self.root)

    def decode(self, items: list[Film]) -> Decoded[Film]:
        """Return the films that can be read and may be learnt from."""
        held = self._held()
        films = allowed(items, held)
        failures = self.cache.fill([film.path for film in films])
        readable = [film for film in films if film.path not in failures]
        kept = [film for film in readable if self.digest(film) not in held.digests]
        self.left_out = len(items) - len(films) + len(readable) - len(kept)
        if self.left_out:
            _log.warning(
                "%d of %d films are left out, as the marked films keep them for validation and test: %d by the"
                " pseudonyms of their patients, %d more by their pixels",
                self.left_out, len(items), len(items) - len(films), len(readable) - len(kept),
            )  # fmt: skip
        if items and not kept and not failures:
            raise ValueError(f"{self.root}: no film is left: all are of patients that validate or test the marked set")
        errors = sorted([*self._unopened, *failures.items()], key=lambda failure: failure[0])
        return Decoded(without_copies(kept, self.cache), errors, len(errors))

    def digest(self, item: Film) -> str:
        """Return the digest of the film's pixels."""
        return self.cache.get(item.path).digest

    @property
    def kind(self) -> str:
        """What the films are, all of them; see ``Preprocessing.kind``."""
        film = self.readable[0]
        return self.cache.intensity.kind(*self.cache.modality(film.path), film.path)

    def dataset(self, split: str) -> ViewDataset:
        """Return the data set of "train" or "val"; the second has whole films too."""
        return ViewDataset(self.films[split], self.cache, self.size, self.views, self.seed, whole=split != "train")

    def test_dataloader(self) -> torch.utils.data.DataLoader[dict[str, Tensor]]:
        """Return batches of the validation films."""
        return self.val_dataloader()

    def probed(self, split: str) -> RadiographDataset:
        """Return the marked films of "train" or "val", whole and not augmented. There must be marked films."""
        if self.marked is None:
            raise ValueError("data.marked is null: there are no marked films to probe")
        return RadiographDataset(self.marked.films[split], self.marked.findings, self.cache, self.size)

    def _held(self) -> HeldBack:
        """Return what validates and tests the marked set; nothing where there is none."""
        if self.marked is None:
            return HeldBack(frozenset(), frozenset())
        self.marked.prepare_data()
        self.marked.setup()
        return held_back(self.marked.films, self.cache)

    def _modality_and_kind(self, film: Film) -> tuple[str | None, str]:
        return modality_and_kind(film, self.cache)
