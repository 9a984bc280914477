"""A detector that evaluate.py measures: its films, what it says of them, and its operating point of screening."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, ListConfig

from cxr.config.errors import ConfigError, film_errors
from cxr.data.dataset import RadiographDataset
from cxr.data.film_data import FilmDataModule
from cxr.data.film_digests import film_digests
from cxr.detect.inference import film_results
from cxr.files import write_json
from cxr.measure.box_scores import box_calibration_error
from cxr.measure.evaluation import Evaluation
from cxr.measure.folds import FoldFigures
from cxr.measure.kept_results import as_plain, from_kept, from_plain, read_kept
from cxr.measure.operating_point import OperatingPoint, choose_operating_point
from cxr.measure.promises import Promises, Reached
from cxr.measure.results import FilmResult, with_calibrated_scores
from cxr.measure.seen import CHOSEN_NOW, CHOSEN_OUT_OF_FOLD, FROZEN, FROZEN_FOR_SWEEP, TESTED_ON, Seen, seen
from cxr.progress import track
from cxr.report.promise_table import KeptHere
from cxr.runs.checkpoint import Checkpoint
from cxr.runs.ensemble_file import Frozen
from cxr.runs.evaluated_findings import asked_findings, vocabulary_to_read
from cxr.runs.named_detector import NamedDetector, named_detector
from cxr.runs.out_of_fold import OUT_OF_FOLD, Fold, chosen_on, folds_of, in_order, out_of_fold_results
from cxr.runs.restore import load_data, of_studies

ALL = "all"


@dataclass
class Measured:
    """A detector, its films, what it says of them, and how good that is.

    Args:
        name: "A" or "B".
        named: its checkpoints.
        data: set up; of a sweep that is judged out of fold, those of its first fold.
        films: that it is measured on.
        folds: of these films, where each is judged by the member that did not see its patient; else none.
        results: of the films, in their order; the scores of boxes are calibrated where there are curves for them.
        frozen: what the films of the folds have chosen.
        uncalibrated: the calibration error of the boxes before these curves, NaN where there are none.
        point, point_from: of screening, and where it comes from, in words.
        seen: what these films were to it before; set once there are results.
        evaluation: its figures; set last.
        by_fold: those of each fold.
        reached: what these films gave of each promise of the detector.
    """

    name: str
    named: NamedDetector
    data: FilmDataModule
    films: RadiographDataset
    folds: Sequence[Fold] = ()
    results: list[FilmResult] = field(default_factory=list)
    frozen: Frozen | None = None
    uncalibrated: float = float("nan")
    point: OperatingPoint | None = None
    point_from: str = ""
    seen: Seen = field(init=False)
    evaluation: Evaluation = field(init=False)
    by_fold: list[FoldFigures] = field(default_factory=list)
    reached: list[Reached] = field(default_factory=list)

    @property
    def checkpoint(self) -> Checkpoint:
        """What reports say of it: its checkpoint, or what its checkpoints share."""
        return self.named.checkpoint

    def elsewhere(self, films: RadiographDataset) -> bool:
        """Whether none of these films is of the data that it was trained, chosen or tested on."""
        its_own = np.concatenate(list(self.checkpoint.films.values()))
        return not np.isin(film_digests(films.films, films.cache), its_own).any()

    @property
    def promises(self) -> Promises | None:
        """What the detector promises; of a sweep judged out of fold, what its films have just chosen."""
        return self.checkpoint.promises if self.frozen is None else self.frozen.promises

    @property
    def kept_here(self) -> KeptHere | None:
        """The promises beside what these films gave; None where there are none."""
        if self.promises is None:
            return None
        return KeptHere(self.reached, self.promises.split, self.promises.films, self.seen.best_epoch_on)

    @property
    def places(self) -> list[list[int]]:
        """The places of each fold's films among the results."""
        fold_of = {film.study: number for number, fold in enumerate(self.folds) for film in fold.films}
        numbers = [fold_of[result.study] for result in self.results] if self.folds else []
        return [[i for i, n in enumerate(numbers) if n == number] for number in range(len(self.folds))]


def measured(name: str, ckpt: str | Sequence[str], cfg: DictConfig) -> Measured:
    """Return the detector that ``ckpt`` names, with the films it is measured on. Raises ``ConfigError``."""
    out_of_fold = cfg.split == OUT_OF_FOLD
    alone = isinstance(cfg.ckpt, ListConfig) and isinstance(ckpt, str) and not Path(ckpt).is_dir()
    members = None if alone else cfg.members  # of a checkpoint that an ensemble is compared with there is one
    named = named_detector(ckpt, cfg.trust, members, cfg.views, fresh=out_of_fold)
    if lacking := [member.path for member in named.members if not member.films and not of_studies(member)]:
        raise ConfigError(f"{lacking[0]}: cxr.films is missing, expected a digest of each film, as train.py writes")
    if out_of_fold:
        return _on_folds(name, named, cfg)
    checkpoint = named.checkpoint
    readable = replace(checkpoint, findings=vocabulary_to_read(asked_findings(cfg), checkpoint.findings))
    with film_errors():
        data = load_data(readable, cfg.data)
        data.prepare_data()
        data.setup()
    return Measured(name, named, data, films_of(data, cfg.split))


def films_of(data: FilmDataModule, split: str) -> RadiographDataset:
    """Return the films of a split, or of all. Raises ``ConfigError`` where there is no such split, or no film in it."""
    if split not in (*data.films, ALL):
        expected = ", ".join((*data.films, ALL, OUT_OF_FOLD))
        raise ConfigError(f"split is {split!r}, expected one of {expected}")
    films = [film for name, some in data.films.items() for film in some if split in (name, ALL)]
    if not films:
        raise ConfigError(f"split={split}: these data have no such films")
    return RadiographDataset(films, data.findings, data.cache, data.size)


def results_of(model: Measured, split: str, kept: Path) -> list[FilmResult]:
    """Return the detections on a split: those kept of this detector on these very films, else new ones."""
    films = films_of(model.data, split) if split != OUT_OF_FOLD else model.films
    fingerprints = [fold.data.fingerprint() for fold in model.folds] or [model.data.fingerprint()]
    key, before = f"{model.named.digest} {' '.join(fingerprints)} {split}", read_kept(kept)
    if (kept_results := from_kept(before.get(key), len(films))) is not None:
        return kept_results
    if split == OUT_OF_FOLD:
        before[key] = [as_plain(result) for result in out_of_fold_results(model.named, model.folds)]
    else:
        results = film_results(model.named.detector(), films, model.data.batch_size)
        told = track(results, f"detecting {model.checkpoint.path.name}", len(films))
        before[key] = [as_plain(result) for result in told]
    write_json(kept, before)
    return [from_plain(film) for film in before[key]]  # by way of the file: a second call gives the same to the bit


def choose(model: Measured, cfg: Mapping[str, Any], kept: Path) -> None:
    """Set the operating point of screening; of a sweep judged out of fold, also what its films choose for its boxes."""
    if not model.folds:
        model.point, model.point_from = _operating_point(model, cfg, kept)
        return
    findings = model.checkpoint.findings
    model.frozen = chosen_on(model.results, findings.names, cfg["screening"]["sensitivity"])
    model.uncalibrated = box_calibration_error(model.results)
    curves = {findings.index(name): curve for name, curve in model.frozen.curves.items()}
    model.results = with_calibrated_scores(model.results, curves)
    model.point, model.point_from = model.frozen.point, CHOSEN_OUT_OF_FOLD


def what_was_seen(model: Measured, films: RadiographDataset) -> Seen:
    """Return what the films were to a detector before: all are known by their pixels."""
    training = dict(model.checkpoint.films)
    these = film_digests(films.films, films.cache)
    if model.folds:  # no film is judged by what was trained on it
        pretrained = [
            np.intersect1d(
                film_digests(fold.films, fold.data.cache), model.named.members[fold.number].films["pretrained"]
            )
            for fold in model.folds
        ]
        without = {"train": np.zeros(0, np.int64), "pretrained": np.concatenate(pretrained)}
        return seen(these, training | without, these)
    point_films = {FROZEN: training["val"], FROZEN_FOR_SWEEP: training["val"], TESTED_ON: these}
    if model.point_from == CHOSEN_NOW:
        point_films[CHOSEN_NOW] = film_digests(model.data.films["val"], model.data.cache)
    known = seen(these, training, point_films.get(model.point_from))
    # a film of an ensemble's folds was judged by a member that had not learnt from it, though others had
    return replace(known, point_trained_on=0) if model.point_from == FROZEN_FOR_SWEEP else known


def _on_folds(name: str, named: NamedDetector, cfg: DictConfig) -> Measured:
    if asked_findings(cfg) is not None:
        raise ConfigError("split=out_of_fold measures all findings of the sweep: leave findings=… out")
    if cfg.screening.derive_on is not None:
        raise ConfigError("split=out_of_fold chooses the operating point itself: leave screening.derive_on=… out")
    with film_errors():
        folds = folds_of(named, cfg.data)
    data = folds[0].data
    films = RadiographDataset(in_order(folds), data.findings, data.cache, data.size)
    return Measured(name, named, data, films, folds)


def _operating_point(model: Measured, cfg: Mapping[str, Any], kept: Path) -> tuple[OperatingPoint | None, str]:
    """Return the point of screening and where it comes from; test films are not used for it unless asked by name."""
    wanted, derive_on = cfg["screening"]["sensitivity"], cfg["screening"]["derive_on"]
    if derive_on not in (None, "val", "test"):
        raise ConfigError(f"screening.derive_on is {derive_on!r}, expected null, val or test")
    if derive_on is None and (frozen := model.named.operating_point) is not None:
        return frozen, FROZEN if model.named.single else FROZEN_FOR_SWEEP
    if derive_on == "test":
        return choose_operating_point(model.results, wanted), TESTED_ON
    lack = "" if model.data.films["val"] else "these data have no validation films to choose one on"
    if model.named.validates_on_training_films:
        lack = "the validation films of one member are training films of another"
    if lack:
        reason = (
            f"not measured: {model.named.no_point}, and {lack}; screening.derive_on=test derives it on the films it is"
            " measured on, which flatters it"
        )
        return None, reason
    finite = [result for result in results_of(model, "val", kept) if result.finite]
    return choose_operating_point(finite, wanted), CHOSEN_NOW
