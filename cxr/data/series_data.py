"""CT and MR series as a data module: what a network of whole volumes learns from."""

import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal

from cxr.data.cube_dataset import VolumeDataset
from cxr.data.cubes import VolumeCache
from cxr.data.datamodule import DataModule, Decoded, require
from cxr.data.modalities import of_one_kind, wanted
from cxr.data.study import Study
from cxr.findings import FindingVocabulary
from cxr.read.preprocessing import Preprocessing

_log = logging.getLogger(__name__)

_LEAST_SIZE = 16  # voxels: one cell of the coarsest maps, with stride 16


class SeriesDataModule(DataModule[Study]):
    """Series of a data set, kept as cubes; ``films`` has them by split.

    A batch is a dict of ``volume`` float32 [B, C, size, size, size] in 0..1, ``labels`` float32 [B, K] of 0 and 1, and
    ``item`` int64 [B], indices into ``films[split]``.

    Args:
        root: where the data set is, given to ``read``.
        read: ``read_volume``, ``read_phantom_volume``: (root, findings) → studies.
        findings: the vocabulary.
        intensity: values (CT: Hounsfield units) → 0..1, after resampling.
        size: voxels along each side of the cube.
        voxel_mm: side of a voxel; ``None``: as large as it takes to hold the whole volume.
        max_gap_mm: widest gap between slices that is filled by interpolation; with a wider one a series is unreadable.
        rotate_degrees: training cubes are turned about a random axis by up to so much.
        cache: folder of the cubes; may be shared between runs and processes.
        modality: "CT", "MR": take these and leave the others out. ``None`` takes all, and refuses a mixture.
        batch_size, workers, val_fraction, test_fraction, seed, on_unreadable: see ``DataModule``.
    """

    serves = "studies"
    noun = ("series", "series")

    def __init__(
        self,
        root: Path | str,
        read: Callable[[Path, FindingVocabulary], list[Study]],
        findings: FindingVocabulary,
        intensity: Preprocessing,
        size: int = 64,
        voxel_mm: float | None = None,
        max_gap_mm: float = 12.0,
        rotate_degrees: float = 5.0,
        cache: Path | str = ".cache/volumes",
        batch_size: int = 8,
        workers: int | None = 0,
        val_fraction: float = 0.2,
        test_fraction: float = 0.2,
        seed: int = 0,
        on_unreadable: Literal["skip", "raise"] = "skip",
        modality: str | Sequence[str] | None = None,
    ) -> None:
        super().__init__(root, batch_size, workers, seed, val_fraction, test_fraction, on_unreadable=on_unreadable)
        require("size", size, size >= _LEAST_SIZE, f"at least {_LEAST_SIZE} voxels")
        require_voxels(voxel_mm, max_gap_mm)
        require("rotate_degrees", rotate_degrees, 0 <= rotate_degrees <= 180, "0..180")
        self.read = read
        self.findings = findings
        self.rotate_degrees = rotate_degrees
        self.cache = VolumeCache(cache, intensity, size, voxel_mm, max_gap_mm)
        self.modality = wanted(modality)

    def listed(self) -> list[Study]:
        """Return the series of the data set, of one modality."""
        studies = self.read(self.root, self.findings)
        # a folder without a modality holds nothing readable, which is reported when it is read
        return of_one_kind(studies, lambda study: (study.modality or None, study.modality), self.modality, self.root)

    def decode(self, items: list[Study]) -> Decoded[Study]:
        """Return the series that can be read as cubes."""
        failures = self.cache.fill(items)
        readable = [study for study in items if study not in failures]
        self._tell_problems(readable)
        return Decoded(readable, [(study.path, failures[study]) for study in items if study in failures], len(failures))

    def digest(self, item: Study) -> str:
        """Return the digest of the cube's voxels."""
        return self.cache.get(item).digest

    def dataset(self, split: str) -> VolumeDataset:
        """Return the data set of "train", "val" or "test"; only training cubes are turned."""
        degrees = self.rotate_degrees if split == "train" else 0.0
        return VolumeDataset(self.films[split], self.findings, self.cache, degrees, self.seed)

    def _tell_problems(self, studies: Iterable[Study]) -> None:
        mended = [(study, problems) for study in studies if (problems := self.cache.get(study).problems)]
        if mended:
            listing = "\n  ".join(f"study {study.study}: {'; '.join(problems)}" for study, problems in mended)
            _log.warning("%d series are not as they should be, and were read all the same:\n  %s", len(mended), listing)


def require_voxels(voxel_mm: float | None, max_gap_mm: float) -> None:
    """Raise ``ValueError`` for settings that no series can be resampled with."""
    require("voxel_mm", voxel_mm, voxel_mm is None or voxel_mm > 0, "above 0, or null to hold the whole volume")
    require("max_gap_mm", max_gap_mm, max_gap_mm >= 0, "at least 0")
