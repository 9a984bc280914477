"""Films and boxes → batches: what Lightning asks for, the same with any number of workers and after a resume."""

import logging
import multiprocessing
import os
from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from hashlib import blake2b
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Literal

import lightning as L  # noqa: N812  the name its documentation uses
import numpy as np
import torch
from torch.utils.data import DataLoader

from cxr.data import rare
from cxr.data.augment import Augment
from cxr.data.dataset import EpochSampler, RadiographDataset, Sample, collate, share, start_worker
from cxr.data.film import Film
from cxr.data.modalities import kind_of, of_one_kind
from cxr.data.splits import set_normal_fraction, split_films
from cxr.findings import FindingVocabulary
from cxr.read.cache import FilmCache
from cxr.read.dicom import ReadError
from cxr.read.preprocessing import Preprocessing

_log = logging.getLogger(__name__)

_LEAST_SIZE = 32  # px: one cell of the coarsest feature map, with stride 32


class RadiographDataModule(L.LightningDataModule):
    """A data set read, decoded once into a cache, split by patient, and served in batches.

    Where a trainer has several processes, each is served its ``share`` of the films: in training of one shuffled order,
    in validation and test of the split's own order. In these the last films may come in two processes, and a target's
    ``film`` tells that they are the same.

    Args:
        root: where the data set is, given to ``read``.
        read: ``read_course``, ``read_coco``, …: (root, findings) → films.
        findings: the vocabulary that gives boxes their class indices.
        intensity: stored values → what the detector sees.
        augment: for training films only.
        size: longest side of the network frame, pixels.
        cache: folder of the decoded films; may be shared between runs and processes.
        batch_size: films a step, in each process.
        workers: loader processes; ``None`` takes none without a GPU or with two cores or fewer, where a process more
            only takes time from training, else up to 8. Samples do not depend on it.
        normal_fraction: share of normal films in training; ``None`` takes them as they are.
        repeat_threshold: films of findings on a smaller share of the training films than this are shown more often
            (``repeat_factors``); ``None`` shows each film once an epoch.
        withhold: findings that training and validation films do not tell of (``withhold``); the test films do.
        shots: train on so many films of each finding and so many normal ones (``few_shots``); ``None`` on all.
        val_fraction, test_fraction, folds, fold: see ``split_films``.
        seed: of splits, shuffling and augmentation.
        on_unreadable: "skip" leaves unreadable films out and names them, "raise" stops at them.
        modality: take the films of this Modality, or of these; the others are counted and left out. ``None`` takes all,
            and refuses films of more than one kind (``Preprocessing.kind``).

    Raises ``ValueError`` for a setting that no data set can be served with, before any data are read.
    """

    def __init__(
        self,
        root: Path | str,
        read: Callable[[Path, FindingVocabulary], list[Film]],
        findings: FindingVocabulary,
        intensity: Preprocessing,
        augment: Augment | None = None,
        size: int = 512,
        cache: Path | str = ".cache/films",
        batch_size: int = 8,
        workers: int | None = None,
        normal_fraction: float | None = None,
        repeat_threshold: float | None = None,
        withhold: Sequence[str] = (),
        shots: int | None = None,
        val_fraction: float = 0.15,
        test_fraction: float = 0.15,
        folds: int | None = None,
        fold: int = 0,
        seed: int = 0,
        on_unreadable: Literal["skip", "raise"] = "skip",
        modality: str | Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        _check("batch_size", batch_size, batch_size >= 1, "at least 1")
        _check("size", size, size >= _LEAST_SIZE, f"at least {_LEAST_SIZE} px: a detector halves a film five times")
        _check("val_fraction", val_fraction, 0 <= val_fraction < 1, "0 <= val_fraction < 1")
        _check("test_fraction", test_fraction, 0 <= test_fraction < 1, "0 <= test_fraction < 1")
        share_allowed = normal_fraction is None or 0 <= normal_fraction < 1
        _check("normal_fraction", normal_fraction, share_allowed, "0 <= normal_fraction < 1, or null for all films")
        threshold_allowed = repeat_threshold is None or 0 < repeat_threshold <= 1
        _check("repeat_threshold", repeat_threshold, threshold_allowed, "0 < repeat_threshold <= 1, or null")
        _check("shots", shots, shots is None or shots >= 1, "at least 1, or null for all films")
        _check("folds", folds, folds is None or folds >= 2, "at least 2, or null for one split")
        _check("fold", fold, folds is None or 0 <= fold < folds, f"0..{(folds or 1) - 1}, as data.folds is {folds}")
        _check("on_unreadable", on_unreadable, on_unreadable in ("skip", "raise"), "'skip' or 'raise'")
        self.root = Path(root)
        self.read = read
        self.findings = findings
        self.augment = augment
        self.size = size
        self.cache = FilmCache(Path(cache), intensity, size)
        self.batch_size = batch_size
        self.workers = _workers() if workers is None else workers
        self.normal_fraction = normal_fraction
        self.repeat_threshold = repeat_threshold
        self.withhold = tuple(findings.resolve(withhold, source="data.withhold"))
        self.shots = shots
        self.val_fraction = val_fraction
        self.test_fraction = test_fraction
        self.folds = folds
        self.fold = fold
        self.seed = seed
        self.on_unreadable = on_unreadable
        wanted = [modality] if isinstance(modality, str) else modality
        self.modality = None if wanted is None else [name.upper() for name in wanted]
        self.films: dict[str, list[Film]] = {}
        self.unreadable: list[ReadError] = []
        self.unreadable_files: list[Path] = []  # of these errors, in their order

    def prepare_data(self) -> None:
        """Read the data set and decode what the cache lacks; processes that start together decode a film once."""
        self._readable  # noqa: B018  reading is what it is for

    def setup(self, stage: str | None = None) -> None:
        """Split the readable films; ``films`` has them from then on. A second call changes nothing."""
        if self.films:
            return
        splits = split_films(self._readable, self.val_fraction, self.test_fraction, self.seed, self.folds, self.fold)
        if self.withhold:
            splits |= {split: rare.withhold(splits[split], self.withhold, self.findings) for split in ("train", "val")}
        splits["train"] = set_normal_fraction(splits["train"], self.normal_fraction, self.seed)
        if self.shots is not None:
            splits["train"] = rare.few_shots(splits["train"], self.shots, self.seed)
        if not splits["train"]:
            raise ValueError(f"{self.root}: no film is left for training")
        if not splits["val"] and (self.folds or self.val_fraction > 0):
            raise ValueError(self._without_validation(splits))
        self._warn_of_shared_pixels(splits)
        self.films = splits

    def fingerprint(self) -> str:
        """Return 16 hex digits that change when a film's pixels, boxes, findings or split do."""
        digest = blake2b(digest_size=8)
        for split, films in sorted(self.films.items()):
            for film in sorted(films, key=lambda film: film.id):
                names = "|".join((split, film.id, *film.findings, self.cache.get(film.path).digest))
                digest.update(names.encode() + film.boxes.tobytes())
                if film.labelled is not None:
                    digest.update("|".join(sorted(film.labelled)).encode())
        return digest.hexdigest()

    @property
    def kind(self) -> str:
        """What the films are, all of them: "radiograph", "CT", …; see ``Preprocessing.kind``."""
        return kind_of(self._readable[0], self.cache)

    @property
    def channels(self) -> int:
        """Channels of an image, all of them: what the stem of the network must take, if it is more than one."""
        return int(np.prod(self.cache.get(self._readable[0].path).pixels.shape[2:]))

    def dataset(self, split: str) -> RadiographDataset:
        """Return the data set of "train", "val" or "test"."""
        augment = self.augment if split == "train" else None
        return RadiographDataset(self.films[split], self.findings, self.cache, self.size, augment, self.seed)

    def train_dataloader(self) -> DataLoader[Sample]:
        """Return batches of augmented films in a new order each epoch; a last batch that is not full is left out."""
        dataset = self.dataset("train")
        threshold = self.repeat_threshold
        repeats = None if threshold is None else rare.repeat_factors(dataset.films, threshold)
        sampler = EpochSampler(len(dataset), self.seed, *self._place(), repeats=repeats)
        return self._loader(dataset, sampler, drop_last=len(sampler) >= self.batch_size)

    def val_dataloader(self) -> DataLoader[Sample]:
        """Return batches of validation films, in order."""
        return self._in_order("val")

    def test_dataloader(self) -> DataLoader[Sample]:
        """Return batches of test films, in order."""
        return self._in_order("test")

    @cached_property
    def _readable(self) -> list[Film]:
        """Return the readable films; what is not is put in ``unreadable``."""
        films = self.read(self.root, self.findings)
        if not films:
            raise ValueError(f"{self.root}: the data set has no films")
        films = of_one_kind(films, self.cache, self.modality, self.root)
        failures = self.cache.fill([film.path for film in films])
        failures |= self.cache.fill([copy for film in films if film.path in failures for copy in film.copies])
        self.unreadable_files = sorted(failures)
        self.unreadable = [failures[path] for path in self.unreadable_files]
        found = (_first_readable(film, failures) for film in films)
        readable = [film for film in found if film is not None]
        if failures:
            listing = "\n  ".join(str(error) for error in self.unreadable)
            lost = len(films) - len(readable)
            message = f"{lost} of {len(films)} films cannot be read, {len(failures)} files:\n  {listing}"
            if lost and self.on_unreadable == "raise":
                raise ReadError(message)
            _log.warning("%s\nFilms with a readable copy are read from it, others left out.", message)
            of_one_kind(readable, self.cache, None, self.root)  # a copy may be of another kind
        self._check_sizes(readable)
        return readable

    def _without_validation(self, splits: dict[str, list[Film]]) -> str:
        """Say why no film validates, and what to type."""
        films = [film for some in splits.values() for film in some]
        counts = f"{len(films)} films of {len({film.patient for film in films})} patients"
        parts = ", ".join(f"{len(some)} {split}" for split, some in splits.items())
        asked = f"fold {self.fold} of {self.folds}" if self.folds else f"data.val_fraction {self.val_fraction}"
        hint = "a smaller data.folds" if self.folds else "a larger data.val_fraction"
        return f"{self.root}: no film is left for validation: {counts} give {parts} with {asked}. Give {hint}"

    def _warn_of_shared_pixels(self, splits: dict[str, list[Film]]) -> None:
        """Warn of films in different splits that are one picture: a score on them is worth nothing."""
        places: dict[str, dict[str, Film]] = defaultdict(dict)
        for split, films in splits.items():
            for film in films:
                places[self.cache.get(film.path).digest].setdefault(split, film)
        if shared := [list(place.items()) for place in places.values() if len(place) > 1]:
            (split, film), (other_split, other) = shared[0][:2]
            _log.warning(
                "%d pictures stand in more than one split; the first is study %s (%s) and study %s (%s). "
                "`python -m cxr.data.audit ROOT` lists them all.",
                len(shared), film.study, split, other.study, other_split,
            )  # fmt: skip

    def _check_sizes(self, films: list[Film]) -> None:
        """Raise ``ValueError`` for films that are not of the size their boxes were drawn for."""
        found = [(film, self.cache.get(film.path)) for film in films]
        if other := [(f, c) for f, c in found if (f.width, f.height) != (c.width, c.height)]:
            film, cached = other[0]
            raise ValueError(
                f"{len(other)} films are not of the size their boxes are given for; the first, {film.path}, "
                f"has {cached.width} x {cached.height} px, expected {film.width} x {film.height}"
            )

    def _place(self) -> tuple[int, int]:
        """Return which process of how many this is to the trainer."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _in_order(self, split: str) -> DataLoader[Sample]:
        dataset = self.dataset(split)
        return self._loader(dataset, share(range(len(dataset)), *self._place()))

    def _loader(
        self, dataset: RadiographDataset, sampler: Iterable[int | tuple[int, int]], drop_last: bool = False
    ) -> DataLoader[Sample]:
        return DataLoader(
            dataset,
            self.batch_size,
            sampler=sampler,
            drop_last=drop_last,
            collate_fn=collate,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            worker_init_fn=start_worker,
            pin_memory=torch.cuda.is_available(),
            # A generator of its own: drawing from torch's would make training depend on how often loaders start
            generator=torch.Generator().manual_seed(self.seed),
            multiprocessing_context=_context() if self.workers else None,
        )


def _check(setting: str, value: object, allowed: bool, expected: str) -> None:
    if not allowed:
        raise ValueError(f"data.{setting} is {value!r}, expected {expected}")


def _first_readable(film: Film, failures: Container[Path]) -> Film | None:
    """Return the film, read from its first file that did not fail; ``None`` when all did."""
    files = (film.path, *film.copies)
    path = next((file for file in files if file not in failures), None)
    return None if path is None else replace(film, path=path, copies=tuple(file for file in files if file != path))


def _workers() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(8, cores - 1) if torch.cuda.is_available() and cores > 2 else 0


def _context() -> BaseContext:
    """Return how to start workers: forking a process that runs threads, as torch and progress bars do, can hang."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["cxr.data.dataset"])  # imports torch once for all workers: seconds each
    return context
