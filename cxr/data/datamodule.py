"""Items of a data set → batches: what Lightning asks for, the same with any number of workers and after a resume."""

import logging
import multiprocessing
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal

import lightning as L  # noqa: N812  the name its documentation uses
import torch
from torch.utils.data import DataLoader, Dataset

from cxr.data.dataset import EpochSampler, share, start_worker
from cxr.data.item import AnyItem
from cxr.data.splits import split_items
from cxr.read.dicom import ReadError
from cxr.read.workers import usable_cores

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Decoded(Generic[AnyItem]):
    """What came of decoding the items that a data set lists.

    Args:
        items: those that can be read, wholly or in part.
        errors: the files that cannot be read, each with the reason.
        damaged: how many of the listed items lost something that no copy replaces.
    """

    items: list[AnyItem]
    errors: list[tuple[Path, ReadError]]
    damaged: int


class DataModule(L.LightningDataModule, ABC, Generic[AnyItem]):
    """Items read, decoded once into a cache, split by patient, and served in batches.

    A data module of one kind of item says what the data set lists (``listed``), which of it can be read (``decode``),
    how one item's pixels are distinguished from another's (``digest``), and what its samples are (``dataset``).

    Where a trainer has several processes, each is served its ``share`` of the items: in training of one shuffled order,
    in validation and test of the split's own order. In these the last items may come in two processes.

    Args:
        root: where the data set is.
        batch_size: items a step, in each process.
        workers: loader processes; ``None`` takes none without a GPU or with two cores or fewer, where a process more
            only takes time from training, else up to 8. Samples do not depend on it.
        val_fraction, test_fraction, folds, fold: see ``split_items``.
        seed: of splits, shuffling and augmentation.
        on_unreadable: "skip" goes on without what cannot be read and names it, "raise" stops at it.

    Raises ``ValueError`` for a setting that no data set can be served with, before any data are read.
    """

    serves: ClassVar[str] = ""
    """What the batches hold, in a task's word ``learns_from``; "": not checked before the data are read."""
    noun: ClassVar[tuple[str, str]] = ("item", "items")
    """What one item and several are called in messages."""
    without: ClassVar[str] = "They are left out."
    """What becomes of items that cannot be read, as the warning says it."""
    collate: ClassVar[Callable[..., Any] | None] = None
    """What makes a batch of samples; ``None``: torch's own way."""

    def __init__(
        self,
        root: Path | str,
        batch_size: int,
        workers: int | None,
        seed: int,
        val_fraction: float = 0.0,
        test_fraction: float = 0.0,
        folds: int | None = None,
        fold: int = 0,
        on_unreadable: Literal["skip", "raise"] = "skip",
    ) -> None:
        super().__init__()
        require("batch_size", batch_size, batch_size >= 1, "at least 1")
        require("workers", workers, workers is None or workers >= 0, "at least 0, or null for what fits the machine")
        require("val_fraction", val_fraction, 0 <= val_fraction < 1, "0 <= val_fraction < 1")
        require("test_fraction", test_fraction, 0 <= test_fraction < 1, "0 <= test_fraction < 1")
        require("folds", folds, folds is None or folds >= 2, "at least 2, or null for one split")
        require("fold", fold, folds is None or 0 <= fold < folds, f"0..{(folds or 1) - 1}, as data.folds is {folds}")
        require("on_unreadable", on_unreadable, on_unreadable in ("skip", "raise"), "'skip' or 'raise'")
        self.root = Path(root)
        self.batch_size = batch_size
        self.workers = _workers() if workers is None else workers
        self.val_fraction = val_fraction
        self.test_fraction = test_fraction
        self.folds = folds
        self.fold = fold
        self.seed = seed
        self.on_unreadable = on_unreadable
        self.films: dict[str, list[AnyItem]] = {}  # the items of each split, from ``setup`` on
        self.unreadable: list[ReadError] = []
        self.unreadable_files: list[Path] = []  # of these errors, in their order

    @abstractmethod
    def listed(self) -> list[AnyItem]:
        """Return what the data set lists, of one kind, not yet decoded."""

    @abstractmethod
    def decode(self, items: list[AnyItem]) -> Decoded[AnyItem]:
        """Decode what the cache lacks, and return what can be read."""

    @abstractmethod
    def digest(self, item: AnyItem) -> str:
        """Return digits that are the same for items of the same pixels alone."""

    @abstractmethod
    def dataset(self, split: str) -> Dataset[Any]:
        """Return the samples of "train", "val" or "test"; ``dataset[epoch, i]`` is item i as augmented for an epoch."""

    def marks(self, item: AnyItem) -> bytes:
        """Return what is known of an item beside its findings."""
        return b""

    def arranged(self, splits: dict[str, list[AnyItem]]) -> dict[str, list[AnyItem]]:
        """Return the splits as they are to be served, where a setting leaves out or changes items."""
        return splits

    def repeats(self) -> Sequence[float] | None:
        """Return how often each training item is shown an epoch; ``None``: once."""
        return None

    def apart(self) -> Sequence[bool] | None:
        """Return which training items are spread evenly among the others; ``None``: none."""
        return None

    @property
    def kind(self) -> str | None:
        """What the films are, all of them, where they are single films (``Preprocessing.kind``)."""
        return None

    def prepare_data(self) -> None:
        """Read the data set and decode what the cache lacks; processes that start together decode an item once."""
        self.readable  # noqa: B018  reading is what it is for

    def setup(self, stage: str | None = None) -> None:
        """Split the readable items; ``films`` has them from then on. A second call changes nothing."""
        if self.films:
            return
        fractions = self.val_fraction, self.test_fraction
        splits = self.arranged(split_items(self.readable, *fractions, self.seed, self.folds, self.fold))
        if not splits["train"]:
            raise ValueError(f"{self.root}: no {self.noun[0]} is left for training")
        if not splits["val"] and (self.folds or self.val_fraction > 0):
            raise ValueError(self._without_validation(splits))
        self._warn_of_shared_pixels(splits)
        self.films = splits

    def fingerprint(self) -> str:
        """Return 16 hex digits that change when the pixels, marks, findings or split of an item do."""
        digest = blake2b(digest_size=8)
        for split, items in sorted(self.films.items()):
            for item in sorted(items, key=lambda item: item.id):
                digest.update("|".join((split, item.id, *item.findings, self.digest(item))).encode() + self.marks(item))
        return digest.hexdigest()

    def train_dataloader(self) -> DataLoader[Any]:
        """Return batches of augmented items in a new order each epoch; a last batch that is not full is left out."""
        length = len(self.films["train"])
        sampler = EpochSampler(length, self.seed, *self._place(), repeats=self.repeats(), apart=self.apart())
        return self._loader("train", sampler, drop_last=len(sampler) >= self.batch_size)

    def val_dataloader(self) -> DataLoader[Any]:
        """Return batches of validation items, in order."""
        return self._in_order("val")

    def test_dataloader(self) -> DataLoader[Any]:
        """Return batches of test items, in order."""
        return self._in_order("test")

    @cached_property
    def readable(self) -> list[AnyItem]:
        """The items that can be read. Others are reported, and stand in ``unreadable``."""
        listed = self.listed()
        if not listed:
            raise ValueError(f"{self.root}: the data set has no {self.noun[1]}")
        decoded = self.decode(listed)
        self.unreadable_files = [path for path, _ in decoded.errors]
        self.unreadable = [error for _, error in decoded.errors]
        if self.unreadable:
            listing = "\n  ".join(str(error) for error in self.unreadable)
            counts = f"{decoded.damaged} of {len(listed)} {self.noun[1]} cannot be read"
            message = f"{counts}, {len(self.unreadable)} files or folders:\n  {listing}"
            if not decoded.items or (decoded.damaged and self.on_unreadable == "raise"):
                raise ReadError(message)
            _log.warning("%s\n%s", message, self.without)
        return decoded.items

    def _without_validation(self, splits: dict[str, list[AnyItem]]) -> str:
        """Say why no item validates, and what to type."""
        items = [item for some in splits.values() for item in some]
        counts = f"{len(items)} {self.noun[1]} of {len({item.patient for item in items})} patients"
        parts = ", ".join(f"{len(some)} {split}" for split, some in splits.items())
        asked = f"fold {self.fold} of {self.folds}" if self.folds else f"data.val_fraction {self.val_fraction}"
        hint = "a smaller data.folds" if self.folds else "a larger data.val_fraction"
        return f"{self.root}: no {self.noun[0]} is left for validation: {counts} give {parts} with {asked}. Give {hint}"

    def _warn_of_shared_pixels(self, splits: dict[str, list[AnyItem]]) -> None:
        """Warn of items in different splits that are one picture: a score on them is worth nothing."""
        places: dict[str, dict[str, AnyItem]] = defaultdict(dict)
        for split, items in splits.items():
            for item in items:
                places[self.digest(item)].setdefault(split, item)
        if shared := [list(place.items()) for place in places.values() if len(place) > 1]:
            (split, item), (other_split, other) = shared[0][:2]
            _log.warning(
                "%d pictures stand in more than one split; the first is study %s (%s) and study %s (%s). "
                "`python -m cxr.data.audit ROOT` lists those of films.",
                len(shared), item.study, split, other.study, other_split,
            )  # fmt: skip

    def _place(self) -> tuple[int, int]:
        """Return which process of how many this is to the trainer."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _in_order(self, split: str) -> DataLoader[Any]:
        return self._loader(split, share(range(len(self.films[split])), *self._place()))

    def _loader(self, split: str, sampler: Iterable[int | tuple[int, int]], drop_last: bool = False) -> DataLoader[Any]:
        return DataLoader(
            self.dataset(split),
            self.batch_size,
            sampler=sampler,
            drop_last=drop_last,
            collate_fn=type(self).collate,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            worker_init_fn=start_worker,
            pin_memory=torch.cuda.is_available(),
            # A generator of its own: drawing from torch's would make training depend on how often loaders start
            generator=torch.Generator().manual_seed(self.seed),
            multiprocessing_context=_context() if self.workers else None,
        )


def require(setting: str, value: object, allowed: bool, expected: str) -> None:
    """Raise ``ValueError`` with what is expected, unless the value of ``data.<setting>`` is allowed."""
    if not allowed:
        raise ValueError(f"data.{setting} is {value!r}, expected {expected}")


def _workers() -> int:
    cores = usable_cores()
    return min(8, cores - 1) if torch.cuda.is_available() and cores > 2 else 0


def _context() -> BaseContext:
    """Return how to start workers: forking a process that runs threads, as torch and progress bars do, can hang."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["cxr.data.dataset"])  # imports torch once for all workers: seconds each
    return context
