"""Films → samples of a detector, and the order they come in; both follow from (seed, epoch, index) alone."""

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from cxr.data.augment import Augment
from cxr.data.film import Film
from cxr.findings import FindingVocabulary
from cxr.read.cache import FilmCache
from cxr.read.frame import to_longest_side
from cxr.read.freed_memory import keep_freed_memory

Target = dict[str, Tensor]
Sample = tuple[Tensor, Target]


class RadiographDataset(Dataset[Sample]):
    """Films as a detector takes them; ``dataset[epoch, i]`` is film i as augmented for an epoch, ``dataset[i]`` for 0.

    A sample is an image, float32 [1, h, w] in 0..1 with air dark and its longest side exactly ``size`` (a smaller film
    is enlarged: anchors are in network pixels), neither padded nor normalised, and a target as below. Where the
    intensity gives C channels, several windows of a CT, the image is [C, h, w]. The target has

    - ``boxes``: float32 [N, 4] xyxy in pixels of the image; N = 0 on a normal film
    - ``labels``: int64 [N] in 1..K
    - ``original_boxes``, ``original_labels``: float32 [M, 4] and int64 [M], all of the film as its readers marked it,
      in original pixels: what a detector is scored against. Never augmented or cut, so M >= N (a box under a pixel
      of the image is in these only)
    - ``scale``: float32 [2], (sx, sy), image pixels for one original pixel: where nothing is augmented,
      ``boxes / (sx, sy, sx, sy)`` are original pixels
    - ``size``: int64 [2], original (height, width)
    - ``labelled``: bool [K + 1], for class c at c - 1 whether the film's readers looked for it; at last whether no box
      means a normal film
    - ``film``: int64, index into ``films``
    """

    def __init__(
        self,
        films: Sequence[Film],
        findings: FindingVocabulary,
        cache: FilmCache,
        size: int,
        augment: Augment | None = None,
        seed: int = 0,
    ) -> None:
        keep_freed_memory()
        self.films = list(films)
        self.labels = [np.array([findings.index(name) for name in film.findings], np.int64) for film in films]
        self.labelled = [
            torch.tensor([*(film.looked_for(name) for name in findings.names), film.labelled is None]) for film in films
        ]
        self.cache = cache
        self.size = size
        self.augment = augment or Augment()
        self.seed = seed

    def __len__(self) -> int:
        return len(self.films)

    def __getitem__(self, key: int | tuple[int, int]) -> Sample:
        epoch, index = key if isinstance(key, tuple) else (0, key)
        film = self.films[index]
        cached = self.cache.get(film.path)
        pixels = to_longest_side(cached.pixels, self.size)
        height, width = pixels.shape[:2]
        scale = np.array([width / cached.width, height / cached.height], np.float32)
        seed = stream(self.seed, epoch, index)
        image, boxes, labels = self.augment(pixels, film.boxes * np.tile(scale, 2), self.labels[index], seed)
        return channels_first(image), {
            "boxes": torch.from_numpy(boxes),
            "labels": torch.from_numpy(labels),
            "original_boxes": torch.tensor(film.boxes),
            "original_labels": torch.tensor(self.labels[index]),
            "scale": torch.from_numpy(scale),
            "size": torch.tensor([cached.height, cached.width]),
            "labelled": self.labelled[index],
            "film": torch.tensor(index),
        }


def channels_first(image: NDArray[np.float32]) -> Tensor:
    """Return an image [h, w] or [h, w, C] as torch has it, [1, h, w] or [C, h, w]; one channel is not copied."""
    return torch.from_numpy(image)[None] if image.ndim == 2 else torch.from_numpy(image).permute(2, 0, 1).contiguous()


def share(indices: Sequence[int], rank: int, world_size: int) -> list[int]:
    """Return every ``world_size``-th of the indices from ``rank`` on: what one of so many processes takes of them.

    All shares are of one length, so that the processes, which wait for one another in every batch, have the same number
    of batches: where the indices run out they begin again.
    """
    length = -(-len(indices) // world_size) * world_size
    return [int(index) for index in np.resize(np.asarray(indices, np.int64), length)[rank::world_size]]


class EpochSampler(Sampler[tuple[int, int]]):
    """Yields (epoch, index) in an order that follows from (seed, epoch) alone, or one process's share of it.

    The epoch goes along with each index because workers live longer than an epoch and hold a copy of the data set
    that nobody could tell. Lightning calls ``set_epoch`` before each epoch, after a resume too.

    Args:
        length: of the data set.
        seed: of the order.
        rank, world_size: which of so many processes takes its share.
        repeats: how often each index comes an epoch on the average; None: once. An epoch has their sum, rounded; which
            of those with a fraction come once more is drawn anew for each.
        apart: [length] bool, the indices that are spread evenly among the others, so that each batch has its share of
            both; None: they come as they are shuffled.
    """

    def __init__(
        self,
        length: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        repeats: Sequence[float] | None = None,
        apart: Sequence[bool] | None = None,
    ) -> None:
        self.repeats = np.ones(length) if repeats is None else np.asarray(repeats, np.float64)
        self.apart = np.zeros(length, bool) if apart is None else np.asarray(apart, bool)
        # Each part has a number of its own in every epoch, so that epochs are of one length
        self.lengths = [round(float(self.repeats[part].sum())) for part in (~self.apart, self.apart)]
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Make the next pass that of ``epoch``."""
        self.epoch = epoch

    def __len__(self) -> int:
        return sum(-(-length // self.world_size) for length in self.lengths)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        rng = np.random.default_rng([self.seed, self.epoch])
        parts = [self._order(np.flatnonzero(part), rng) for part in (~self.apart, self.apart) if part.any()]
        shares = [share(part.tolist(), self.rank, self.world_size) for part in parts]
        places = np.concatenate([(np.arange(len(part)) + 0.5) / len(part) for part in shares])
        order = np.concatenate(shares)[np.argsort(places, kind="stable")]
        return iter([(self.epoch, int(index)) for index in order])

    def _order(self, indices: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
        """Return some of the indices in the order of an epoch."""
        repeats = self.repeats[indices]
        return rng.permutation(_drawn(indices, repeats, rng) if (repeats != 1).any() else indices)


def _drawn(indices: NDArray[np.int64], repeats: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Return the indices of an epoch, each as often as systematic sampling gives: its mean rounded down or up."""
    shuffled = rng.permutation(len(indices))  # else neighbours would share their luck
    length = round(float(repeats.sum()))
    ends = np.cumsum(repeats[shuffled] * (length / repeats.sum())) + rng.uniform()
    counts = np.diff(np.floor(ends + 1e-9), prepend=0.0).astype(np.int64)
    return np.repeat(indices[shuffled], counts)


def collate(samples: Sequence[Sample]) -> tuple[list[Tensor], list[Target]]:
    """Return the list of images and the list of targets: films differ in size, and the detector does the padding."""
    images, targets = zip(*samples, strict=True)
    return list(images), list(targets)


def start_worker(worker: int) -> None:
    """Leave the other cores to the other workers; torch does the same for itself."""
    cv2.setNumThreads(0)
    keep_freed_memory()


def stream(*numbers: int) -> int:
    """Return a 32-bit seed of a stream of random numbers of its own for each tuple of numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])
