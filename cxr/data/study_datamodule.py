"""Studies → batches: what Lightning asks for, the same with any number of workers and after a resume."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal, cast

import lightning as L  # noqa: N812  the name its documentation uses
import torch
from torch.utils.data import DataLoader

from cxr.data.cube_dataset import Sample, VolumeDataset
from cxr.data.cubes import VolumeCache
from cxr.data.dataset import EpochSampler, share, start_worker
from cxr.data.splits import split_films
from cxr.data.study import Study
from cxr.findings import FindingVocabulary
from cxr.read.dicom import ReadError
from cxr.read.preprocessing import Preprocessing

_log = logging.getLogger(__name__)

_LEAST_SIZE = 16  # voxels: one cell of the coarsest maps, with stride 16


class VolumeDataModule(L.LightningDataModule):
    """A data set of volumes read, kept as cubes in a cache, split by patient, and served in batches.

    A batch is a dict of ``volume`` float32 [B, C, size, size, size] in 0..1, ``labels`` float32 [B, K] of 0 and 1, and
    ``item`` int64 [B], indices into ``films[split]``. Where a trainer has several processes, each is served its share.

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
        batch_size: studies a step, in each process.
        workers: loader processes; 0: none, as a cube comes ready from the cache. Samples do not depend on it.
        val_fraction, test_fraction: see ``split_films``.
        seed: of splits, shuffling and rotation.
        on_unreadable: "skip" leaves unreadable studies out and names them, "raise" stops at them.
        modality: "CT", "MR": take these and leave the others out. ``None`` takes all, and refuses a mixture.

    Raises ``ValueError`` for a setting that no data set can be served with, before any data are read.
    """

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
        workers: int = 0,
        val_fraction: float = 0.2,
        test_fraction: float = 0.2,
        seed: int = 0,
        on_unreadable: Literal["skip", "raise"] = "skip",
        modality: str | None = None,
    ) -> None:
        super().__init__()
        _check("size", size, size >= _LEAST_SIZE, f"at least {_LEAST_SIZE} voxels")
        _check("voxel_mm", voxel_mm, voxel_mm is None or voxel_mm > 0, "above 0, or null to hold the whole volume")
        _check("max_gap_mm", max_gap_mm, max_gap_mm >= 0, "at least 0")
        _check("rotate_degrees", rotate_degrees, 0 <= rotate_degrees <= 180, "0..180")
        _check("batch_size", batch_size, batch_size >= 1, "at least 1")
        _check("val_fraction", val_fraction, 0 <= val_fraction < 1, "0 <= val_fraction < 1")
        _check("test_fraction", test_fraction, 0 <= test_fraction < 1, "0 <= test_fraction < 1")
        _check("on_unreadable", on_unreadable, on_unreadable in ("skip", "raise"), "'skip' or 'raise'")
        self.root = Path(root)
        self.read = read
        self.findings = findings
        self.rotate_degrees = rotate_degrees
        self.cache = VolumeCache(cache, intensity, size, voxel_mm, max_gap_mm)
        self.batch_size = batch_size
        self.workers = workers
        self.val_fraction = val_fraction
        self.test_fraction = test_fraction
        self.seed = seed
        self.on_unreadable = on_unreadable
        self.modality = modality
        self.films: dict[str, list[Study]] = {}
        self.unreadable: list[ReadError] = []

    def prepare_data(self) -> None:
        """Read the data set and make the cubes that the cache lacks."""
        self._readable  # noqa: B018  reading is what it is for

    def setup(self, stage: str | None = None) -> None:
        """Split the readable studies; ``films`` has them from then on. A second call changes nothing."""
        if self.films:
            return
        # it asks of a film what a study has too: patient, findings and split
        films = cast(Any, self._readable)
        splits = cast(Any, split_films(films, self.val_fraction, self.test_fraction, self.seed))
        for split, asked in (("train", True), ("val", self.val_fraction > 0)):
            if asked and not splits[split]:
                raise ValueError(
                    f"{self.root}: no study is left for {split} of {len(films)}: give more, or other fractions"
                )
        self.films = splits

    def fingerprint(self) -> str:
        """Return 16 hex digits that change when a study's voxels, findings or split do."""
        digest = blake2b(digest_size=8)
        for split, studies in sorted(self.films.items()):
            for study in sorted(studies, key=lambda study: study.id):
                digest.update("|".join((split, study.id, *study.findings, self.cache.get(study).digest)).encode())
        return digest.hexdigest()

    @property
    def channels(self) -> int:
        """Channels of a volume, all of them: what the stem of the network must take."""
        return len(self.cache.get(self._readable[0]).voxels)

    def dataset(self, split: str) -> VolumeDataset:
        """Return the data set of "train", "val" or "test"."""
        degrees = self.rotate_degrees if split == "train" else 0.0
        return VolumeDataset(self.films[split], self.findings, self.cache, degrees, self.seed)

    def train_dataloader(self) -> DataLoader[Sample]:
        """Return batches of turned cubes in a new order each epoch; a last batch that is not full is left out."""
        dataset = self.dataset("train")
        sampler = EpochSampler(len(dataset), self.seed, *self._place())
        return self._loader(dataset, sampler, drop_last=len(sampler) >= self.batch_size)

    def val_dataloader(self) -> DataLoader[Sample]:
        """Return batches of validation studies, in order."""
        return self._in_order("val")

    def test_dataloader(self) -> DataLoader[Sample]:
        """Return batches of test studies, in order."""
        return self._in_order("test")

    @cached_property
    def _readable(self) -> list[Study]:
        """Return the studies that can be read, of one modality; what cannot is put in ``unreadable``."""
        studies = self._of_one_modality(self.read(self.root, self.findings))
        failures = self.cache.fill(studies)
        self.unreadable = [failures[study] for study in studies if study in failures]
        if failures:
            listing = "\n  ".join(str(error) for error in self.unreadable)
            message = f"{len(failures)} of {len(studies)} studies cannot be read:\n  {listing}"
            if self.on_unreadable == "raise" or len(failures) == len(studies):
                raise ReadError(message)
            _log.warning("%s\nThey are left out.", message)
        readable = [study for study in studies if study not in failures]
        self._tell_problems(readable)
        return readable

    def _of_one_modality(self, studies: list[Study]) -> list[Study]:
        counts = Counter(study.modality for study in studies if study.modality)  # "": unreadable, which is told later
        listed = ", ".join(f"{count} {modality}" for modality, count in counts.most_common())
        if self.modality is None and len(counts) > 1:
            choices = " or ".join(f"data.modality={modality}" for modality in sorted(counts))
            raise ValueError(f"{self.root}: volumes of several modalities ({listed}), expected one. Type {choices}")
        kept = [study for study in studies if self.modality in (None, study.modality)]
        if not kept:
            raise ValueError(
                f"{self.root}: the data set has no volume of {self.modality or 'any modality'} ({listed or 'none'})"
            )
        if len(kept) < len(studies):
            _log.warning(
                "%d of %d volumes are not of %s and left out.", len(studies) - len(kept), len(studies), self.modality
            )
        return kept

    def _tell_problems(self, studies: Iterable[Study]) -> None:
        mended = [(study, problems) for study in studies if (problems := self.cache.get(study).problems)]
        if mended:
            listing = "\n  ".join(f"study {study.study}: {'; '.join(problems)}" for study, problems in mended)
            _log.warning("%d series are not as they should be, and were read all the same:\n  %s", len(mended), listing)

    def _place(self) -> tuple[int, int]:
        """Return which process of how many this is to the trainer."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _in_order(self, split: str) -> DataLoader[Sample]:
        dataset = self.dataset(split)
        return self._loader(dataset, share(range(len(dataset)), *self._place()))

    def _loader(
        self, dataset: VolumeDataset, sampler: Iterable[int | tuple[int, int]], drop_last: bool = False
    ) -> DataLoader[Sample]:
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
            # spawn: forking a process that runs threads, as torch and progress bars do, can hang
            multiprocessing_context="spawn" if self.workers else None,
        )


def _check(setting: str, value: object, allowed: bool, expected: str) -> None:
    if not allowed:
        raise ValueError(f"data.{setting} is {value!r}, expected {expected}")
