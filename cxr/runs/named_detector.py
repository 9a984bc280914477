"""What ``ckpt=`` names: one checkpoint, or several that answer as one detector.

A folder of a sweep stands for the best checkpoint of each of its jobs, a list for its checkpoints. Both are an ensemble
(``cxr.detect.ensemble``). So is one checkpoint with more than the plain view of a film.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cxr.config.errors import ConfigError
from cxr.detect.ensemble import Ensemble, EnsembleDetector
from cxr.detect.film_detector import FilmDetector
from cxr.detect.prediction import Threshold
from cxr.detect.views import View, first_views
from cxr.files import short_digest_of
from cxr.measure.operating_point import OperatingPoint
from cxr.measure.shift import of_pixels
from cxr.report.without_paths import text_without_paths
from cxr.runs.checkpoint import Checkpoint, entry_at, read_checkpoint
from cxr.runs.ensemble_file import Frozen, read_frozen
from cxr.runs.restore import load_task, of_studies
from cxr.runs.restored_network import operating_point
from cxr.runs.sweep_report import read_jobs

BEST = Path("checkpoints") / "best.ckpt"
DEFAULT_THRESHOLD = 0.3
"""Boxes are shown from this score up where nothing else was chosen."""


@dataclass(frozen=True)
class NamedDetector:
    """The checkpoints of a detector, and how they answer.

    Args:
        ckpt: what was typed, for messages.
        members: the checkpoints; all know the same findings and read the same films.
        digests: of their files.
        views: of each film.
        folder: of the sweep; None where checkpoints were named.
        frozen: what the sweep's out-of-fold films chose (``cxr.runs.ensemble_file``); None where nothing was.
        left_out: how many checkpoints of the sweep, or of the list, are no members.
    """

    ckpt: str
    members: tuple[Checkpoint, ...]
    digests: tuple[str, ...]
    views: tuple[View, ...]
    folder: Path | None = None
    frozen: Frozen | None = None
    left_out: int = 0

    @property
    def single(self) -> bool:
        """Whether it is one checkpoint that looks at films as they are: no ensemble."""
        return self.folder is None and len(self.members) == 1 and all(view.plain for view in self.views)

    @property
    def digest(self) -> str:
        """A hash of all that decides about the answers: the checkpoint's own where it is one alone."""
        if self.single:
            return self.digests[0]
        chosen = None if self.frozen is None else asdict(self.frozen)
        # what files of before do not hold leaves their digest as it was
        frozen = chosen and {name: value for name, value in chosen.items() if value is not None}
        text = f"{self.digests} {[asdict(view) for view in self.views]} {frozen}"
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    @property
    def checkpoint(self) -> Checkpoint:
        """What all members share, as one checkpoint: it has the first one's weights, and the films of all."""
        first = self.members[0]
        if self.single:
            return first
        films = {
            split: np.unique(np.concatenate([member.films[split] for member in self.members]))
            for split in first.films
            if all(member.films for member in self.members)
        }
        point = None if self.frozen is None else self.frozen.point.as_dict()
        known = tuple(one for member in self.members for one in member.known)
        promises = None if self.frozen is None else self.frozen.promises
        shared = of_pixels([member.reference for member in self.members if member.reference is not None])
        return replace(
            first,
            path=Path(self.ckpt),
            operating_point=point,
            films=films,
            known=known,
            groups=None,
            reference=shared,
            promises=promises,
        )

    @property
    def operating_point(self) -> OperatingPoint | None:
        """The point of screening: a checkpoint's own, or what the out-of-fold films of a sweep chose."""
        return operating_point(self.checkpoint)

    @property
    def validates_on_training_films(self) -> bool:
        """Whether validation films of one member are training films of another, or it is not known which films are."""
        if len(self.members) == 1:
            return False
        if not all(member.films for member in self.members):
            return True
        films = self.checkpoint.films
        return bool(np.isin(films["val"], films["train"]).any())

    @property
    def thresholds(self) -> dict[str, float] | None:
        """From which score up boxes of each finding are shown, as the out-of-fold films of a sweep chose; else None.

        ``DEFAULT_THRESHOLD`` for a finding that nobody marked on them.
        """
        if self.frozen is None:
            return None
        return {name: self.frozen.thresholds.get(name, DEFAULT_THRESHOLD) for name in self.members[0].findings.names}

    @property
    def in_words(self) -> str:
        """Its checkpoint and digest, or how many checkpoints and views it is."""
        ckpt = text_without_paths(self.ckpt)
        if self.single:
            return f"{ckpt}, {self.digest}"
        views = "1 view" if len(self.views) == 1 else f"{len(self.views)} views"
        return f"{ckpt}, {self.digest}, {len(self.members)} checkpoints as one detector, {views} of a film"

    @property
    def paths(self) -> dict[str, str]:
        """Path of each checkpoint within the sweep's folder, with the digest of its file."""
        names = (str(member.path.relative_to(self.folder or "")) for member in self.members)
        return dict(zip(names, self.digests, strict=True))

    @property
    def no_point(self) -> str:
        """Why there is no operating point, and what to do."""
        if self.single:
            return "the checkpoint holds no operating point"
        if self.folder is None and len(self.members) == 1:
            return "a checkpoint's operating point holds for films as they are, not for more views"
        if self.folder is None:
            return "checkpoints that answer as one have no operating point; the folder of a sweep over folds may have"
        return f"no operating point was chosen for these views; type ckpt={self.folder} split=out_of_fold first"

    def detector(self) -> FilmDetector:
        """Return what detects, in eval mode, on the GPU where there is one."""
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        tasks = [load_task(member).to(device) for member in self.members]
        if self.single:
            return tasks[0]
        findings = self.members[0].findings
        curves = {} if self.frozen is None else {findings.index(name): c for name, c in self.frozen.curves.items()}
        ensemble = Ensemble([task.detector for task in tasks], len(findings.names), self.views, curves)
        return EnsembleDetector(findings, ensemble.eval())

    def alone(self, number: int) -> "NamedDetector":
        """Return one member as a detector with the same views, without what was frozen for all."""
        return replace(self, members=(self.members[number],), digests=(self.digests[number],), frozen=None)


def named_detector(
    ckpt: str | Sequence[str],
    trust: str | Sequence[str] = (),
    members: int | Sequence[int] | None = None,
    views: int | Sequence[Mapping[str, Any]] = 1,
    fresh: bool = False,
) -> NamedDetector:
    """Return the detector that ``ckpt`` names.

    Args:
        ckpt: a checkpoint, the folder of a sweep, or a list of checkpoints.
        trust: modules of the user's own that the checkpoints may name.
        members: how many of them, the first ones, or which, by number from 0; None: all.
        views: the first so many of ``VIEWS``, or settings of each ``View``.
        fresh: leave out what a sweep's folder has frozen, because it is about to be chosen anew.

    Raises ``ConfigError``: no such checkpoint, a job that did not complete, members that differ in what they read or
    know, or a sweep whose checkpoints are not those that its ``ensemble.json`` was chosen for.
    """
    folder = Path(ckpt) if isinstance(ckpt, str) and Path(ckpt).is_dir() else None
    named = [ckpt] if isinstance(ckpt, str) else ckpt
    paths = [Path(path) for path in named] if folder is None else checkpoints_of_jobs(folder)
    digests = {path: short_digest_of(path) if path.is_file() else "" for path in paths}
    chosen = [paths[number] for number in _numbers(members, len(paths))]
    read = tuple(read_checkpoint(path, trust) for path in chosen)
    looked = _views(views)
    frozen = None
    if folder is not None and not fresh:
        names = {str(path.relative_to(folder)): digest for path, digest in digests.items()}
        frozen = read_frozen(folder, names, looked, read[0].findings)
    if len(read) > 1:
        _refuse_unlike(read)
    left_out = len(paths) - len(chosen)
    text = ckpt if isinstance(ckpt, str) else ",".join(map(str, ckpt))
    return NamedDetector(text, read, tuple(digests[path] for path in chosen), looked, folder, frozen, left_out)


def shown_from(typed: Any, frozen: Mapping[str, float] | None) -> Threshold:
    """Return the score from which up boxes are shown: what was typed, else what a sweep has frozen for each finding.

    Raises ``ConfigError`` where no score was typed. Promises are read by ``cxr.runs.promised``.
    """
    if typed is not None:
        if not isinstance(typed, float | int) or isinstance(typed, bool) or not 0 <= typed <= 1:
            raise ConfigError(
                f"threshold is {typed}, expected a score of 0 to 1; predict.py and serve.py also take risk and"
                " {risk: 0.05} (docs/promises.md)"
            )
        return typed
    return DEFAULT_THRESHOLD if frozen is None else frozen


def checkpoints_of_jobs(folder: Path) -> list[Path]:
    """Return the best checkpoint of each job of a sweep, by the names of the jobs."""
    jobs = read_jobs(folder)
    if not jobs:
        raise ConfigError(f"ckpt={folder}: a folder that holds no job of a sweep, expected one of `train.py -m …`")
    if open_ends := [f"{job.folder.name} ({job.status})" for job in jobs if job.status != "completed"]:
        raise ConfigError(
            f"ckpt={folder}: {len(open_ends)} of {len(jobs)} jobs did not complete: {'; '.join(open_ends)}. The"
            " sweep's own command goes on with them"
        )
    return [job.folder / BEST for job in jobs]


def _numbers(members: int | Sequence[int] | None, count: int) -> list[int]:
    """Return which of ``count`` checkpoints are members."""
    if members is None:
        return list(range(count))
    numbers = list(range(members)) if isinstance(members, int) else list(members)
    whole = all(isinstance(n, int) and not isinstance(n, bool) and 0 <= n < count for n in numbers)
    if isinstance(members, bool) or not numbers or not whole or len(set(numbers)) < len(numbers):
        raise ConfigError(
            f"members is {members!r}, expected null, how many of the {count} checkpoints, or which: [0,…,{count - 1}]"
        )
    return numbers


def _views(views: int | Sequence[Mapping[str, Any]]) -> tuple[View, ...]:
    try:
        if isinstance(views, int) and not isinstance(views, bool):
            return tuple(first_views(views))
        if not isinstance(views, Sequence) or isinstance(views, str) or not views:
            raise ValueError(f"views is {views!r}, expected a number or a list such as [{{}},{{scale: 1.1}}]")
        return tuple(View(**view) for view in views)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"views: {error}") from error


def _refuse_unlike(members: Sequence[Checkpoint]) -> None:
    """Raise ``ConfigError`` unless all members know the same findings and read the same films."""
    if studies := [member.path for member in members if of_studies(member)]:
        raise ConfigError(f"{studies[0]}: of a network for whole studies; only detectors answer together")
    first = _reads(members[0])
    for member in members[1:]:
        for what, value in _reads(member).items():
            if value != first[what]:
                raise ConfigError(
                    f"{members[0].path} and {member.path} cannot answer as one detector: their {what} differ,"
                    f" {first[what]} and {value}"
                )


def _reads(member: Checkpoint) -> dict[str, Any]:
    """Return what a detector knows and which films it reads, by name."""
    return {
        "findings": member.findings.names,
        "data.size": member.size,
        "data.intensity": entry_at(member, "data.intensity", dict),
        "kinds of films": member.kind,
    }
