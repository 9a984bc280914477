"""Phantom films and their layers as samples and batches: what the network that suppresses bones learns from."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from cxr.data.datamodule import DataModule, Decoded, require
from cxr.data.item import SPLITS
from cxr.phantom.anatomy import draw_findings, draw_thorax
from cxr.phantom.canvas import Map
from cxr.phantom.layers import PARTS, draw_layered
from cxr.read.frame import to_square
from cxr.read.freed_memory import keep_freed_memory
from cxr.read.intensity import Intensity
from cxr.read.radiograph import Radiograph, pseudonym

_PATIENTS = 2_024_1101  # of their own: none of them is in a phantom data set of the same seed
_STEP = 16  # of a square's side: the network halves it four times

Sample = dict[str, Tensor]


@dataclass(frozen=True)
class LayeredPatient:
    """A drawn patient: the film, and the film without bones and vessels, follow from ``seed``.

    Args:
        seed: of the geometry.
        findings: what is drawn; () is a normal film.
        patient, study: pseudonyms.
        split: which the patient is drawn for.
    """

    seed: tuple[int, ...]
    findings: tuple[str, ...]
    patient: str
    study: str
    split: str

    @property
    def id(self) -> str:
        """The pseudonym of the film, the only name it has."""
        return self.study

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


class LayeredDataModule(DataModule[LayeredPatient]):
    """Drawn films with their layers, of other patients in each split; nothing is read and nothing is kept.

    A training patient comes in a new pose and exposure each epoch. Films follow from (seed, epoch, index) alone.

    Args:
        intensity: stored values → what the network sees; ``Suppressed`` stands behind the same steps.
        size: side in pixels of the square that the network sees, a multiple of 16.
        films, val_films, test_films: patients of each split, one film each.
        normal_fraction: share of patients without a finding.
        batch_size, workers: see ``DataModule``; the workers draw, and 0 draws between the steps.
        seed: of patients, films and their order.

    Raises ``ValueError`` for a setting that no network can be trained with.
    """

    serves = "layers"
    noun = ("patient", "patients")

    def __init__(
        self,
        intensity: Intensity,
        size: int = 256,
        films: int = 240,
        val_films: int = 32,
        test_films: int = 60,
        normal_fraction: float = 0.25,
        batch_size: int = 8,
        workers: int | None = 0,
        seed: int = 0,
    ) -> None:
        super().__init__("drawn films", batch_size, workers, seed)
        require("films", films, films >= 1, "at least 1")
        require("val_films", val_films, val_films >= 0, "at least 0")
        require("test_films", test_films, test_films >= 0, "at least 0")
        require("normal_fraction", normal_fraction, 0 <= normal_fraction <= 1, "0 <= normal_fraction <= 1")
        below = max(_STEP, size // _STEP * _STEP)
        multiple = f"a multiple of {_STEP}: type data.size={below} or {below + _STEP}"
        require("size", size, size >= 1 and size % _STEP == 0, multiple)
        self.intensity = intensity
        self.size = size
        self.counts = dict(zip(SPLITS, (films, val_films, test_films), strict=True))
        self.normal_fraction = normal_fraction

    def listed(self) -> list[LayeredPatient]:
        """Draw who the patients are."""
        counts = enumerate(self.counts.items())
        return [self._patient(number, split, index) for number, (split, count) in counts for index in range(count)]

    def decode(self, items: list[LayeredPatient]) -> Decoded[LayeredPatient]:
        """Return all patients: films are drawn when they are asked for."""
        return Decoded(items, [], 0)

    def digest(self, item: LayeredPatient) -> str:
        """Return the seed that the patient's films follow from."""
        return str(item.seed)

    def fingerprint(self) -> str:
        """Return 16 hex digits that change with the patients, their split and how films are drawn."""
        digest = blake2b(f"{super().fingerprint()} {self.size} {self.intensity.fingerprint()}".encode(), digest_size=8)
        for value in self.dataset("train")[0].values():  # one film shows how they are drawn
            digest.update(value.numpy().tobytes())
        return digest.hexdigest()

    def dataset(self, split: str) -> LayeredDataset:
        """Return the data set of "train", "val" or "test"."""
        return LayeredDataset(self.films[split], self.intensity, self.size)

    def _patient(self, number: int, split: str, index: int) -> LayeredPatient:
        seed = (self.seed, _PATIENTS, number, index)
        chance = np.random.default_rng([*seed, 0])
        findings = () if chance.uniform() < self.normal_fraction else tuple(sorted(draw_findings(chance)))
        name = f"layered {seed}"
        return LayeredPatient(seed, findings, pseudonym(name), pseudonym(f"{name} film"), split)
