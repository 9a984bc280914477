"""Films with boxes as a data module: what a detector learns from."""

from collections.abc import Callable, Container, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from cxr.data import rare
from cxr.data.augment import Augment
from cxr.data.datamodule import DataModule, Decoded, require
from cxr.data.dataset import RadiographDataset, collate
from cxr.data.film import Film
from cxr.data.modalities import modality_and_kind, of_one_kind, wanted
from cxr.data.splits import set_normal_fraction
from cxr.data.unmarked_films import unmarked_films
from cxr.findings import FindingVocabulary
from cxr.read.cache import FilmCache
from cxr.read.preprocessing import Preprocessing

_LEAST_SIZE = 32  # px: one cell of the coarsest feature map, with stride 32


class FilmDataModule(DataModule[Film]):
    """Films of a data set; ``films`` has them by split, and ``RadiographDataset`` says what a sample is.

    A target's ``film`` is the same for two samples of one film, which several processes may be served.

    Args:
        root: where the data set is, given to ``read``.
        read: ``read_course``, ``read_coco``, …: (root, findings) → films.
        findings: the vocabulary that gives boxes their class indices.
        intensity: stored values → what the detector sees.
        augment: for training films only.
        size: longest side of the network frame, pixels.
        cache: folder of the decoded films; may be shared between runs and processes.
        normal_fraction: share of normal films in training; ``None`` takes them as they are.
        repeat_threshold: films of findings on a smaller share of the training films than this are shown more often
            (``repeat_factors``); ``None`` shows each film once an epoch.
        withhold: findings that training and validation films do not tell of (``withhold``); the test films do.
        shots: train on so many films of each finding and so many normal ones (``few_shots``); ``None`` on all.
        unmarked: folder of films that nobody marked, which join the training films (``unmarked_films``) and tell of no
            finding; a teacher marks them (``cxr.detect.teacher``). ``None``: there are none.
        unmarked_share: how many of them are shown an epoch for each marked film.
        modality: take the films of this Modality, or of these; the others are counted and left out. ``None`` takes all,
            and refuses films of more than one kind (``Preprocessing.kind``).
        batch_size, workers, val_fraction, test_fraction, folds, fold, seed, on_unreadable: see ``DataModule``.
    """

    serves = "films"
    noun = ("film", "films")
    without = "Films with a readable copy are read from it, others left out."
    collate = staticmethod(collate)

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
        unmarked: Path | str | None = None,
        unmarked_share: float = 1.0,
        val_fraction: float = 0.15,
        test_fraction: float = 0.15,
        folds: int | None = None,
        fold: int = 0,
        seed: int = 0,
        on_unreadable: Literal["skip", "raise"] = "skip",
        modality: str | Sequence[str] | None = None,
    ) -> None:
        super().__init__(
            root, batch_size, workers, seed, val_fraction, test_fraction, folds, fold, on_unreadable=on_unreadable
        )
        require("size", size, size >= _LEAST_SIZE, f"at least {_LEAST_SIZE} px: a detector halves a film five times")
        share_allowed = normal_fraction is None or 0 <= normal_fraction < 1
        require("normal_fraction", normal_fraction, share_allowed, "0 <= normal_fraction < 1, or null for all films")
        threshold_allowed = repeat_threshold is None or 0 < repeat_threshold <= 1
        require("repeat_threshold", repeat_threshold, threshold_allowed, "0 < repeat_threshold <= 1, or null")
        require("shots", shots, shots is None or shots >= 1, "at least 1, or null for all films")
        share_fits = unmarked is None or 0 < unmarked_share <= batch_size - 1
        fitting = f"above 0 and at most {batch_size - 1}, so that each batch of {batch_size} holds a marked film"
        require("unmarked_share", unmarked_share, share_fits, fitting)
        self.read = read
        self.findings = findings
        self.augment = augment
        self.size = size
        self.cache = FilmCache(Path(cache), intensity, size)
        self.normal_fraction = normal_fraction
        self.repeat_threshold = repeat_threshold
        self.withhold = tuple(findings.resolve(withhold, source="data.withhold"))
        self.shots = shots
        self.unmarked = None if unmarked is None else Path(unmarked)
        self.unmarked_share = unmarked_share
        self.modality = wanted(modality)

    def listed(self) -> list[Film]:
        """Return the films of the data set, of the modalities that are wanted."""
        films = self.read(self.root, self.findings)
        return of_one_kind(films, self._modality_and_kind, self.modality, self.root)

    def decode(self, items: list[Film]) -> Decoded[Film]:
        """Return the films of which one file can be read, their own or a copy."""
        failures = self.cache.fill([film.path for film in items])
        failures |= self.cache.fill([copy for film in items if film.path in failures for copy in film.copies])
        readable = [film for film in (_first_readable(film, failures) for film in items) if film is not None]
        if failures:
            of_one_kind(readable, self._modality_and_kind, None, self.root)  # a copy may be of another kind
        self._check_sizes(readable)
        return Decoded(readable, sorted(failures.items()), len(items) - len(readable))

    def digest(self, item: Film) -> str:
        """Return the digest of the film's pixels."""
        return self.cache.get(item.path).digest

    def marks(self, item: Film) -> bytes:
        """Return the boxes of a film, and which findings its readers looked for."""
        return item.boxes.tobytes() + "|".join(sorted(item.labelled or ())).encode()

    def arranged(self, splits: dict[str, list[Film]]) -> dict[str, list[Film]]:
        """Return the splits without withheld findings, with as many normal films and shots as are asked for.

        Unmarked films join the training films at last.
        """
        if self.withhold:
            splits |= {split: rare.withhold(splits[split], self.withhold, self.findings) for split in ("train", "val")}
        train = set_normal_fraction(splits["train"], self.normal_fraction, self.seed)
        train = train if self.shots is None else rare.few_shots(train, self.shots, self.seed)
        if self.unmarked is None:
            return splits | {"train": train}
        unmarked, errors = unmarked_films(self.unmarked, splits, train, self.cache)
        of_one_kind([*train, *unmarked], self._modality_and_kind, None, self.unmarked)
        self.unreadable_files += [path for path, _ in errors]
        self.unreadable += [error for _, error in errors]
        return splits | {"train": train + unmarked}

    def repeats(self) -> Sequence[float] | None:
        """Return how often each training film is shown an epoch."""
        films = self.films["train"]
        marked = [film for film in films if not film.unmarked]
        threshold = self.repeat_threshold
        if threshold is None and len(marked) == len(films):
            return None
        factors = [1.0] * len(marked) if threshold is None else rare.repeat_factors(marked, threshold)
        unmarked = len(films) - len(marked)
        return [*factors, *[self.unmarked_share * sum(factors) / unmarked for _ in range(unmarked)]]

    def apart(self) -> Sequence[bool] | None:
        """Return which training films are unmarked: each batch has its share of them."""
        return None if self.unmarked is None else [film.unmarked for film in self.films["train"]]

    @property
    def kind(self) -> str:
        """What the films are, all of them: "radiograph", "CT", …; see ``Preprocessing.kind``."""
        film = self.readable[0]
        return self.cache.intensity.kind(*self.cache.modality(film.path), film.path)

    def dataset(self, split: str) -> RadiographDataset:
        """Return the data set of "train", "val" or "test"."""
        augment = self.augment if split == "train" else None
        return RadiographDataset(self.films[split], self.findings, self.cache, self.size, augment, self.seed)

    def _modality_and_kind(self, film: Film) -> tuple[str | None, str]:
        return modality_and_kind(film, self.cache)

    def _check_sizes(self, films: list[Film]) -> None:
        """Raise ``ValueError`` for films that are not of the size their boxes were drawn for."""
        sized = [(film, self.cache.get(film.path)) for film in films]
        if other := [(f, c) for f, c in sized if (f.width, f.height) != (c.width, c.height)]:
            film, cached = other[0]
            raise ValueError(
                f"{len(other)} films are not of the size their boxes are given for; the first, {film.path}, "
                f"has {cached.width} x {cached.height} px, expected {film.width} x {film.height}"
            )


def _first_readable(film: Film, failures: Container[Path]) -> Film | None:
    """Return the film, read from its first file that did not fail; ``None`` when all did."""
    files = (film.path, *film.copies)
    path = next((file for file in files if file not in failures), None)
    return None if path is None else replace(film, path=path, copies=tuple(file for file in files if file != path))
