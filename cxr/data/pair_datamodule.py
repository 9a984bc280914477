"""Patients with a film, a series or both → batches: what a network that joins the two takes."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal, cast

import lightning as L  # noqa: N812  the name its documentation uses
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from cxr.data.augment import Augment
from cxr.data.cubes import VolumeCache
from cxr.data.dataset import EpochSampler, share, start_worker
from cxr.data.pair import Patient
from cxr.data.splits import split_films
from cxr.findings import FindingVocabulary
from cxr.read.cache import FilmCache
from cxr.read.dicom import ReadError
from cxr.read.frame import to_longest_side
from cxr.read.preprocessing import Preprocessing

_log = logging.getLogger(__name__)


class PatientDataset(Dataset[dict[str, Tensor]]):
    """Patients as a fusion takes them; ``dataset[epoch, i]`` is patient i as augmented for an epoch.

    A sample is film float32 [1, s, s] (centred on a black square) and volume float32 [C, n, n, n], both in 0..1, air
    dark, and all zero where the patient has none; present bool [2], film and volume; labels float32 [K], 0 or 1; item
    int64, the index into ``studies``.

    Args:
        patients: of a split.
        findings: the vocabulary of the labels.
        films: decoded films, at the side ``s``.
        volumes: decoded series, of ``n`` voxels a side.
        channels: of the volumes; those of patients without one have as many.
        augment: of the films; None: none.
        seed: of the augmentation.
    """

    def __init__(
        self,
        patients: list[Patient],
        findings: FindingVocabulary,
        films: FilmCache,
        volumes: VolumeCache,
        channels: int,
        augment: Augment | None = None,
        seed: int = 0,
    ) -> None:
        self.studies = list(patients)
        self.findings = findings
        self.film_cache = films
        self.volume_cache = volumes
        self.channels = channels
        self.augment = augment or Augment()
        self.seed = seed

    def __len__(self) -> int:
        return len(self.studies)

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Tensor]:
        epoch, index = key if isinstance(key, tuple) else (0, key)
        patient = self.studies[index]
        labels = torch.tensor([float(name in patient.findings) for name in self.findings.names])
        return {
            "film": torch.from_numpy(self._film(patient, epoch, index))[None],
            "volume": torch.from_numpy(self._volume(patient)),
            "present": torch.tensor([patient.film is not None, patient.series is not None]),
            "labels": labels,
            "item": torch.tensor(index),
        }

    def _film(self, patient: Patient, epoch: int, index: int) -> NDArray[np.float32]:
        side = self.film_cache.size
        canvas = np.zeros((side, side), np.float32)
        if patient.film is not None:
            pixels = to_longest_side(self.film_cache.get(patient.film).pixels, side)
            seed = int(np.random.SeedSequence((self.seed, epoch, index)).generate_state(1)[0])
            image, _, _ = self.augment(pixels, np.zeros((0, 4), np.float32), np.zeros(0, np.int64), seed)
            top, left = ((side - length) // 2 for length in image.shape)
            canvas[top : top + image.shape[0], left : left + image.shape[1]] = image
        return canvas

    def _volume(self, patient: Patient) -> NDArray[np.float32]:
        if patient.series is None:
            return np.zeros((self.channels, *[self.volume_cache.size] * 3), np.float32)
        return self.volume_cache.get(patient.series).voxels.astype(np.float32) / np.float32(65535)


class FusionDataModule(L.LightningDataModule):
    """Patients read, decoded once into caches, split by patient, and served in batches.

    A film or a series that cannot be read counts as missing and is told of; a patient with neither is left out.

    Args:
        root: where the data set is, given to ``read``.
        read: ``read_patients`` or ``read_phantom_patients``: (root, findings) → patients.
        findings: the vocabulary of the labels.
        intensity: of the films.
        volume_intensity: of the series.
        augment: of training films; volumes are not augmented here.
        film_size: side of the square the film stands on, pixels.
        size: voxels along each side of the cube.
        voxel_mm: side of a voxel; None: as large as it takes to hold the whole series.
        max_gap_mm: see ``read_series``.
        cache: folder of the decoded films and volumes.
        batch_size: patients a step, in each process.
        workers: loader processes.
        val_fraction: see ``split_films``.
        test_fraction: see ``split_films``.
        seed: of splits, shuffling and augmentation.
        on_unreadable: "skip" counts what cannot be read as missing, "raise" stops at it.
    """

    def __init__(
        self,
        root: Path | str,
        read: Callable[[Path, FindingVocabulary], list[Patient]],
        findings: FindingVocabulary,
        intensity: Preprocessing,
        volume_intensity: Preprocessing,
        augment: Augment | None = None,
        film_size: int = 128,
        size: int = 32,
        voxel_mm: float | None = None,
        max_gap_mm: float = 12.0,
        cache: Path | str = ".cache",
        batch_size: int = 8,
        workers: int = 0,
        val_fraction: float = 0.15,
        test_fraction: float = 0.15,
        seed: int = 0,
        on_unreadable: Literal["skip", "raise"] = "skip",
    ) -> None:
        super().__init__()
        self.root = Path(root)
        self.read = read
        self.findings = findings
        self.film_cache = FilmCache(Path(cache) / "films", intensity, film_size)
        self.volume_cache = VolumeCache(Path(cache) / "volumes", volume_intensity, size, voxel_mm, max_gap_mm)
        self.augment = augment
        self.batch_size = batch_size
        self.workers = workers
        self.val_fraction = val_fraction
        self.test_fraction = test_fraction
        self.seed = seed
        self.on_unreadable = on_unreadable
        self.films: dict[str, list[Patient]] = {}
        self.unreadable: list[ReadError] = []

    def prepare_data(self) -> None:
        """Read the data set and decode what the caches lack."""
        self._readable  # noqa: B018  reading is what it is for

    def setup(self, stage: str | None = None) -> None:
        """Split the patients; ``films`` has them from then on. A second call changes nothing."""
        if self.films:
            return
        # it asks of a film what a patient has too: patient, findings, split
        films = cast(Any, self._readable)
        splits = cast(Any, split_films(films, self.val_fraction, self.test_fraction, self.seed))
        if not splits["train"] or not splits["val"]:
            counts = ", ".join(f"{len(some)} {split}" for split, some in splits.items())
            raise ValueError(f"{self.root}: too few patients to train and validate on: {counts}")
        self.films = splits

    def dataset(self, split: str) -> PatientDataset:
        """Return a split as a data set, augmented for training only."""
        augment = self.augment if split == "train" else None
        return PatientDataset(
            self.films[split], self.findings, self.film_cache, self.volume_cache, self._channels, augment, self.seed
        )

    def fingerprint(self) -> str:
        """Return 16 hex digits that change when a patient's film, series, findings or split do."""
        digest = blake2b(digest_size=8)
        for split, patients in sorted(self.films.items()):
            for patient in sorted(patients, key=lambda patient: patient.study):
                film = self.film_cache.get(patient.film).digest if patient.film else ""
                series = self.volume_cache.get(patient.series).digest if patient.series else ""
                digest.update("|".join((split, patient.study, *patient.findings, film, series)).encode())
        return digest.hexdigest()

    def train_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        """Return batches in a new order each epoch; a last batch that is not full is left out."""
        dataset = self.dataset("train")
        sampler = EpochSampler(len(dataset), self.seed, *self._place())
        return self._loader(dataset, sampler, drop_last=len(sampler) >= self.batch_size)

    def val_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        """Return batches of validation patients, in order."""
        return self._in_order("val")

    def test_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        """Return batches of test patients, in order."""
        return self._in_order("test")

    @cached_property
    def _readable(self) -> list[Patient]:
        """Return the patients with what of them can be read; what cannot is put in ``unreadable``."""
        patients = self.read(self.root, self.findings)
        failures = self.film_cache.fill([patient.film for patient in patients if patient.film])
        unread = self.volume_cache.fill([patient.series for patient in patients if patient.series])
        self.unreadable = [*(failures[path] for path in sorted(failures)), *unread.values()]
        if self.unreadable:
            listing = "\n  ".join(str(error) for error in self.unreadable)
            message = f"{len(self.unreadable)} films or series cannot be read:\n  {listing}"
            if self.on_unreadable == "raise":
                raise ReadError(message)
            _log.warning("%s\nThey count as missing.", message)
        kept = (
            replace(
                patient,
                film=None if patient.film in failures else patient.film,
                series=None if patient.series in unread else patient.series,
            )
            for patient in patients
        )
        return [patient for patient in kept if patient.film or patient.series]

    @cached_property
    def _channels(self) -> int:
        series = next((patient.series for patient in self._readable if patient.series), None)
        return len(self.volume_cache.get(series).voxels) if series else 1

    def _place(self) -> tuple[int, int]:
        """Return which process of how many this is to the trainer."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _in_order(self, split: str) -> DataLoader[dict[str, Tensor]]:
        dataset = self.dataset(split)
        return self._loader(dataset, share(range(len(dataset)), *self._place()))

    def _loader(
        self, dataset: PatientDataset, sampler: Iterable[int | tuple[int, int]], drop_last: bool = False
    ) -> DataLoader[dict[str, Tensor]]:
        return DataLoader(
            dataset,
            self.batch_size,
            sampler=sampler,
            drop_last=drop_last,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            worker_init_fn=start_worker,
            pin_memory=torch.cuda.is_available(),
            # A generator of its own: drawing from torch's would make training depend on how often loaders start
            generator=torch.Generator().manual_seed(self.seed),
            multiprocessing_context="spawn" if self.workers else None,
        )
