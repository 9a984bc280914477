"""Each film of a sweep over folds, judged by the one detector that did not learn from its patient.

Which detector that is, the folds of the data say. Whether it is true, the checkpoints say: each holds a digest of the
pixels of every film of its training. A film or a patient that a detector was trained on is never judged by it.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cxr.config.errors import ConfigError
from cxr.data.dataset import RadiographDataset
from cxr.data.film import Film
from cxr.data.film_data import FilmDataModule
from cxr.data.film_digests import film_digests
from cxr.detect.inference import film_results
from cxr.measure.box_scores import least_shown, score_curves
from cxr.measure.operating_point import choose_operating_point
from cxr.measure.promises import choose_promises
from cxr.measure.results import FilmResult, with_calibrated_scores, with_known_truth
from cxr.progress import track
from cxr.runs.checkpoint import Checkpoint, entry_at
from cxr.runs.ensemble_file import Frozen
from cxr.runs.named_detector import NamedDetector
from cxr.runs.restore import load_data

OUT_OF_FOLD = "out_of_fold"


@dataclass(frozen=True, eq=False)
class Fold:
    """The films that one member was not trained on: the validation films of its fold.

    Args:
        number: of the member.
        films: of the fold.
        data: the member's data, set up.
    """

    number: int
    films: tuple[Film, ...]
    data: FilmDataModule

    @property
    def dataset(self) -> RadiographDataset:
        """The films as the detector reads them."""
        return RadiographDataset(list(self.films), self.data.findings, self.data.cache, self.data.size)


def folds_of(named: NamedDetector, overrides: Mapping[str, Any]) -> list[Fold]:
    """Return the folds of a sweep, a member each; ``overrides`` are settings over its data (``data.root``).

    Raises ``ConfigError`` where the members are not the folds of one data set, where the films are no longer those that
    they were trained on, or where a member would judge a film or a patient that it was trained on.
    """
    _refuse_no_folds(named)
    if "_target_" in overrides:
        raise ConfigError("split=out_of_fold judges the sweep's own films; leave data=… out, or type data.root=FOLDER")
    folds = []
    for number, member in enumerate(named.members):
        data = load_data(member, overrides)
        data.prepare_data()
        data.setup()
        fold = Fold(number, tuple(data.films["val"]), data)
        _refuse_learnt(member, fold)
        folds.append(fold)
    _refuse_gaps(folds)
    return folds


def in_order(folds: Iterable[Fold]) -> list[Film]:
    """Return the films of all folds in an order that no sweep changes: two sweeps on the same films can be compared."""
    return sorted((film for fold in folds for film in fold.films), key=lambda film: (film.study, film.id))


def out_of_fold_results(named: NamedDetector, folds: Sequence[Fold]) -> list[FilmResult]:
    """Return what is said of each film ``in_order`` by the member that was not trained on it, not yet calibrated."""
    results: dict[str, FilmResult] = {}
    for fold in folds:
        task = named.alone(fold.number).detector()
        detected = film_results(task, fold.dataset, fold.data.batch_size)
        for film, result in zip(fold.films, track(detected, f"fold {fold.number}", len(fold.films)), strict=True):
            results[film.id] = result
    return [results[film.id] for film in in_order(folds)]


def chosen_on(results: Sequence[FilmResult], findings: Sequence[str], sensitivity: float) -> Frozen:
    """Return what films choose for an ensemble: calibration, thresholds of the findings, operating point, promises.

    ``findings`` are the detector's, in the order of their classes.
    """
    curves = score_curves(results, range(1, 1 + len(findings)))
    calibrated = with_calibrated_scores(results, curves)
    shown = {name: least_shown(calibrated, label) for label, name in enumerate(findings, start=1)}
    point = choose_operating_point(with_known_truth(results), sensitivity, split="out-of-fold")
    thresholds = {name: score for name, score in shown.items() if score is not None}
    promises = choose_promises(calibrated, findings, split="out-of-fold")
    return Frozen(point, thresholds, {findings[label - 1]: curve for label, curve in curves.items()}, promises)


def _refuse_no_folds(named: NamedDetector) -> None:
    """Raise ``ConfigError`` unless there is a member for each fold of one division of the films.

    No job of the sweep may be left out either: what is chosen is kept in its folder, for all of its checkpoints.
    """
    data = [entry_at(member, "data", dict) for member in named.members]
    folds, count = [(of.get("fold"), of.get("folds")) for of in data], len(data)
    whole = {(number, count) for number in range(count)}
    if named.folder is None or named.left_out or count < 2 or set(folds) != whole:
        told = ", ".join(f"{number} of {of}" for number, of in folds)
        raise ConfigError(
            f"split=out_of_fold: {named.ckpt} holds the folds {told}; expected the folder of a sweep with each fold"
            " once: `train.py -m … data.folds=5 data.fold=0,1,2,3,4`, and members=null"
        )


def _refuse_learnt(member: Checkpoint, fold: Fold) -> None:
    """Raise ``ConfigError`` where a film of a fold, or another film of its patient, taught the member."""
    learnt, chosen = set(member.films["train"].tolist()), set(member.films["val"].tolist())
    taught = {film.patient for film in fold.data.readable if _digest(film, fold.data) in learnt}
    for film in fold.films:
        digest = _digest(film, fold.data)
        if digest in learnt:
            raise ConfigError(f"{member.path} was trained on film {film.study}, which it would have to judge; refused")
        if film.patient in taught:
            raise ConfigError(
                f"{member.path} was trained on another film of the patient of film {film.study}, which it would have to"
                " judge; refused"
            )
        if digest not in chosen:
            raise ConfigError(
                f"film {film.study} was not there when {member.path} was trained: the films of {fold.data.root} have"
                " changed, and with them the folds. Type data.root=FOLDER with the films as they were, or train anew"
            )


def _refuse_gaps(folds: Sequence[Fold]) -> None:
    """Raise ``ConfigError`` unless each film that any member learnt from is judged once."""
    judged = Counter(film.id for fold in folds for film in fold.films)
    used = {film.id: film for fold in folds for split in ("train", "val") for film in fold.data.films[split]}
    if wrong := [(film.study, judged[key]) for key, film in used.items() if judged[key] != 1]:
        study, times = wrong[0]
        raise ConfigError(
            f"split=out_of_fold: {len(wrong)} films do not lie in one fold, the first is {study}, in {times}; expected"
            " folds of one seed and one data set"
        )


def _digest(film: Film, data: FilmDataModule) -> int:
    return int(film_digests([film], data.cache)[0])
