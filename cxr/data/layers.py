"""Phantom films and their layers as samples and batches: what the network that suppresses bones learns from."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from multiprocessing import get_context
from pathlib import Path

import cv2
import lightning as L  # noqa: N812  the name its documentation uses
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from cxr.data.dataset import EpochSampler, share, start_worker
from cxr.phantom.anatomy import draw_findings, draw_thorax
from cxr.phantom.canvas import Map
from cxr.phantom.layers import PARTS, draw_layered
from cxr.read.frame import to_square
from cxr.read.freed_memory import keep_freed_memory
from cxr.read.intensity import Intensity
from cxr.read.radiograph import Radiograph, ReadError, pseudonym

_PATIENTS = 2_024_1101  # of their own: none of them is in a phantom data set of the same seed
_STEP = 16  # of a square's side: the network halves it four times
_SPLITS = ("train", "val", "test")

Sample = dict[str, Tensor]


@dataclass(frozen=True)
class LayeredPatient:
    """A drawn patient: the film, and the film without bones and vessels, follow from ``seed``.

    Args:
        seed: of the geometry.
        findings: what is drawn; () is a normal film.
        patient, study: pseudonyms.
    """

    seed: tuple[int, ...]
    findings: tuple[str, ...]
    patient: str
    study: str

    @property
    def normal(self) -> bool:
        """Whether nothing is found."""
        return not self.findings


class LayeredDataset(Dataset[Sample]):
    """Drawn films; ``dataset[epoch, i]`` is patient i in the pose and exposure of an epoch, ``dataset[i]`` of 0.

    A sample has float32 maps of one square: ``film`` [1, size, size] in 0..1 with air dark, in its upper left, 0 around
    it; ``residual`` [1, size, size], by how much ``SUPPRESSED`` brighten it; ``masks`` [3, size, size], 0 or 1, of
    ``PARTS``; ``valid`` [1, size, size], 1 on the film.
    """

    def __init__(self, patients: Sequence[LayeredPatient], intensity: Intensity, size: int) -> None:
        keep_freed_memory()
        self.patients = list(patients)
        self.intensity = intensity
        self.size = size

    def __len__(self) -> int:
        return len(self.patients)

    def __getitem__(self, key: int | tuple[int, int]) -> Sample:
        epoch, index = key if isinstance(key, tuple) else (0, key)
        patient = self.patients[index]
        thorax = draw_thorax(np.random.default_rng(patient.seed), patient.findings)
        # twice as large as it is looked at, as a film comes that is shrunk to what the network takes
        drawn = draw_layered(thorax, np.random.default_rng([*patient.seed, epoch]), 2 * self.size)
        film, (height, width) = self._picture(drawn.pixels, patient)
        without, _ = self._picture(drawn.without, patient)
        masks = np.zeros((len(PARTS), self.size, self.size), np.float32)
        for part, mask in zip(masks, drawn.masks, strict=True):
            part[:height, :width] = cv2.resize(mask.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
        valid = np.zeros_like(film)
        valid[:height, :width] = 1
        return {
            "film": torch.from_numpy(film)[None],
            "residual": torch.from_numpy(film - without)[None],
            "masks": torch.from_numpy((masks > 0.5).astype(np.float32)),
            "valid": torch.from_numpy(valid)[None],
        }

    def _picture(self, pixels: NDArray[np.uint16], patient: LayeredPatient) -> tuple[Map, tuple[int, int]]:
        film = Radiograph(Path("drawn film"), pixels, "MONOCHROME1", 12, patient.study, patient.patient)
        return to_square(self.intensity(film), self.size)


class LayeredDataModule(L.LightningDataModule):
    """Drawn films with their layers, of other patients in each split; nothing is read and nothing is kept.

    A training patient comes in a new pose and exposure each epoch. Films follow from (seed, epoch, index) alone.

    Args:
        intensity: stored values → what the network sees; ``Suppressed`` stands behind the same steps.
        size: side in pixels of the square that the network sees, a multiple of 16.
        films, val_films, test_films: patients of each split, one film each.
        normal_fraction: share of patients without a finding.
        batch_size: films a step, in each process.
        workers: processes that draw; 0 draws between the steps.
        seed: of patients, films and their order.

    Raises ``ValueError`` for a setting that no network can be trained with.
    """

    def __init__(
        self,
        intensity: Intensity,
        size: int = 256,
        films: int = 240,
        val_films: int = 32,
        test_films: int = 60,
        normal_fraction: float = 0.25,
        batch_size: int = 8,
        workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if min(films, val_films, test_films, batch_size) < 1:
            raise ValueError(
                f"data.films, val_films, test_films and batch_size are {films}, {val_films}, {test_films} and"
                f" {batch_size}, expected at least 1 of each"
            )
        if size < 1 or size % _STEP:
            below = max(_STEP, size // _STEP * _STEP)
            raise ValueError(
                f"data.size is {size}, expected a multiple of {_STEP}: type data.size={below} or {below + _STEP}"
            )
        self.intensity = intensity
        self.size = size
        self.counts = dict(zip(_SPLITS, (films, val_films, test_films), strict=True))
        self.normal_fraction = normal_fraction
        self.batch_size = batch_size
        self.workers = workers
        self.seed = seed
        self.films: dict[str, list[LayeredPatient]] = {}
        self.unreadable: list[ReadError] = []  # none: nothing is read

    def prepare_data(self) -> None:
        """Do nothing: films are drawn when they are asked for."""

    def setup(self, stage: str | None = None) -> None:
        """Draw who the patients are; ``films`` has them from then on."""
        self.films = {
            split: [self._patient(number, index) for index in range(self.counts[split])]
            for number, split in enumerate(_SPLITS)
        }

    def fingerprint(self) -> str:
        """Return 16 hex digits that change with the patients, their split and how films are drawn."""
        digest = blake2b(digest_size=8)
        digest.update(f"{self.films} {self.size} {self.intensity.fingerprint()}".encode())
        for split in _SPLITS:  # of how they are drawn, one tells
            for value in self.dataset(split)[0].values():
                digest.update(value.numpy().tobytes())
        return digest.hexdigest()

    def dataset(self, split: str) -> LayeredDataset:
        """Return the data set of "train", "val" or "test"."""
        return LayeredDataset(self.films[split], self.intensity, self.size)

    def train_dataloader(self) -> DataLoader[Sample]:
        """Return batches in a new order, pose and exposure each epoch; a last one that is not full is left out."""
        dataset = self.dataset("train")
        sampler = EpochSampler(len(dataset), self.seed, *self._place())
        return self._loader(dataset, sampler, drop_last=len(sampler) >= self.batch_size)

    def val_dataloader(self) -> DataLoader[Sample]:
        """Return batches of validation films, in order."""
        return self._in_order("val")

    def test_dataloader(self) -> DataLoader[Sample]:
        """Return batches of test films, in order."""
        return self._in_order("test")

    def _patient(self, split: int, index: int) -> LayeredPatient:
        seed = (self.seed, _PATIENTS, split, index)
        chance = np.random.default_rng([*seed, 0])
        findings = () if chance.uniform() < self.normal_fraction else tuple(sorted(draw_findings(chance)))
        name = f"layered {seed}"
        return LayeredPatient(seed, findings, pseudonym(name), pseudonym(f"{name} film"))

    def _place(self) -> tuple[int, int]:
        """Return which process of how many this is to the trainer."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _in_order(self, split: str) -> DataLoader[Sample]:
        dataset = self.dataset(split)
        return self._loader(dataset, share(range(len(dataset)), *self._place()))

    def _loader(
        self, dataset: LayeredDataset, sampler: Iterable[int | tuple[int, int]], drop_last: bool = False
    ) -> DataLoader[Sample]:
        return DataLoader(
            dataset,
            self.batch_size,
            sampler=sampler,
            drop_last=drop_last,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            worker_init_fn=start_worker,
            # A generator of its own: drawing from torch's would make training depend on how often loaders start
            generator=torch.Generator().manual_seed(self.seed),
            # forking a process that runs threads, as torch and progress bars do, can hang
            multiprocessing_context=get_context("spawn") if self.workers else None,
        )
