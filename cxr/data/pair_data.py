"""Patients with a film, a series or both as a data module: what a network that joins the two learns from."""

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from cxr.data.augment import Augment
from cxr.data.cubes import VolumeCache
from cxr.data.datamodule import DataModule, Decoded, require
from cxr.data.dataset import stream
from cxr.data.pair import Patient
from cxr.data.series_data import require_voxels
from cxr.findings import FindingVocabulary
from cxr.read.cache import FilmCache
from cxr.read.frame import to_longest_side
from cxr.read.preprocessing import Preprocessing

_LEAST_SIZES = 16, 8  # px of the film and voxels of the cube


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
        return {
            "film": torch.from_numpy(self._film(patient, epoch, index))[None],
            "volume": torch.from_numpy(self._volume(patient)),
            "present": torch.tensor([patient.film is not None, patient.series is not None]),
            "labels": torch.tensor([float(name in patient.findings) for name in self.findings.names]),
            "item": torch.tensor(index),
        }

    def _film(self, patient: Patient, epoch: int, index: int) -> NDArray[np.float32]:
        side = self.film_cache.size
        canvas = np.zeros((side, side), np.float32)
        if patient.film is not None:
            pixels = to_longest_side(self.film_cache.get(patient.film).pixels, side)
            nothing = np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
            image, _, _ = self.augment(pixels, *nothing, stream(self.seed, epoch, index))
            top, left = ((side - length) // 2 for length in image.shape)
            canvas[top : top + image.shape[0], left : left + image.shape[1]] = image
        return canvas

    def _volume(self, patient: Patient) -> NDArray[np.float32]:
        if patient.series is None:
            return np.zeros((self.channels, *[self.volume_cache.size] * 3), np.float32)
        return self.volume_cache.get(patient.series).voxels.astype(np.float32) / np.float32(65535)


class PairDataModule(DataModule[Patient]):
    """Patients of a data set; ``films`` has them by split, and ``PatientDataset`` says what a sample is.

    A film or a series that cannot be read counts as missing and is reported. A patient with neither is left out.

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
        batch_size, workers, val_fraction, test_fraction, seed, on_unreadable: see ``DataModule``.
    """

    serves = "studies"
    noun = ("patient", "patients")
    without = "What cannot be read counts as missing."

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
        workers: int | None = 0,
        val_fraction: float = 0.15,
        test_fraction: float = 0.15,
        seed: int = 0,
        on_unreadable: Literal["skip", "raise"] = "skip",
    ) -> None:
        super().__init__(root, batch_size, workers, seed, val_fraction, test_fraction, on_unreadable=on_unreadable)
        require("film_size", film_size, film_size >= _LEAST_SIZES[0], f"at least {_LEAST_SIZES[0]} px")
        require("size", size, size >= _LEAST_SIZES[1], f"at least {_LEAST_SIZES[1]} voxels")
        require_voxels(voxel_mm, max_gap_mm)
        self.read = read
        self.findings = findings
        self.film_cache = FilmCache(Path(cache) / "films", intensity, film_size)
        self.volume_cache = VolumeCache(Path(cache) / "volumes", volume_intensity, size, voxel_mm, max_gap_mm)
        self.augment = augment

    def listed(self) -> list[Patient]:
        """Return the patients of the data set."""
        return self.read(self.root, self.findings)

    def decode(self, items: list[Patient]) -> Decoded[Patient]:
        """Return the patients with what of them can be read, those of whom nothing can left out."""
        films = self.film_cache.fill([patient.film for patient in items if patient.film])
        series = self.volume_cache.fill([patient.series for patient in items if patient.series])
        kept = [
            replace(
                patient,
                film=None if patient.film in films else patient.film,
                series=None if patient.series in series else patient.series,
            )
            for patient in items
        ]
        damaged = sum(left != patient for left, patient in zip(kept, items, strict=True))
        errors = [*sorted(films.items()), *((study.path, error) for study, error in series.items())]
        return Decoded([patient for patient in kept if patient.film or patient.series], errors, damaged)

    def digest(self, item: Patient) -> str:
        """Return the digests of the film's pixels and of the series' voxels, "" for one that is missing."""
        film = self.film_cache.get(item.film).digest if item.film else ""
        return f"{film}|{self.volume_cache.get(item.series).digest if item.series else ''}"

    def dataset(self, split: str) -> PatientDataset:
        """Return the data set of "train", "val" or "test", augmented for training only."""
        augment = self.augment if split == "train" else None
        return PatientDataset(
            self.films[split], self.findings, self.film_cache, self.volume_cache, self._channels, augment, self.seed
        )

    @cached_property
    def _channels(self) -> int:
        series = next((patient.series for patient in self.readable if patient.series), None)
        return len(self.volume_cache.get(series).voxels) if series else 1
