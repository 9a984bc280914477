"""Splits films by patient, stratified over the findings and seeded. No patient is in two splits."""

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from cxr.data.film import Film
from cxr.findings import NORMAL

_log = logging.getLogger(__name__)


def split_films(
    films: Sequence[Film],
    val_fraction: float = 0.15,
    test_fraction: float = 0.15,
    seed: int = 0,
    folds: int | None = None,
    fold: int = 0,
) -> dict[str, list[Film]]:
    """Return ``{"train": …, "val": …, "test": …}``, each in the order of ``films``. Fractions are shares of all films.

    If the data set itself holds back films (``Film.split == "test"``), these are the test set and ``test_fraction`` is
    not used; other films of their patients are left out, with a warning. With ``folds``, the films that are not for
    testing are divided into so many parts; part number ``fold`` is ``val``, and ``val_fraction`` is not used. The test
    set and the parts are the same for every ``fold``. Raises ``ValueError`` if nothing is left to train on.
    """
    _check(val_fraction, test_fraction, folds, fold)
    test = [film for film in films if film.split == "test"]
    tested = {film.patient for film in test}
    rest = [film for film in films if film.patient not in tested]
    if left_out := len(films) - len(test) - len(rest):
        _log.warning("%d films are left out: their patients are in the test set of the data set.", left_out)
    rng = np.random.default_rng(seed)
    if not test:
        rest, test = _stratify(rest, [1 - test_fraction, test_fraction], rng)
    if folds is None:
        share = val_fraction * len(films) / max(len(rest), 1) if not tested else val_fraction
        train, val = _stratify(rest, [1 - share, share], rng)
    else:
        val = _stratify(rest, [1 / folds] * folds, rng)[fold]
        held = {film.patient for film in val}
        train = [film for film in rest if film.patient not in held]
    return {"train": train, "val": val, "test": test}


def set_normal_fraction(films: Sequence[Film], fraction: float | None, seed: int = 0) -> list[Film]:
    """Return films of which ``fraction`` are normal, by leaving out normal ones at random; ``None`` keeps all.

    The normal films of a smaller fraction are a subset of those of a larger one. No film with a finding is left out: if
    there are too few normal films, all are kept and a warning gives the fraction that results.
    """
    if fraction is None:
        return list(films)
    if not 0 <= fraction < 1:
        raise ValueError(f"normal_fraction is {fraction}, expected 0 <= normal_fraction < 1, or null for all films")
    normal = [i for i, film in enumerate(films) if film.normal]
    abnormal = len(films) - len(normal)
    wanted = round(abnormal * fraction / (1 - fraction))
    if wanted > len(normal):
        _log.warning(
            "normal_fraction is %.2f, but %d normal films and %d with findings give only %.2f; all are kept.",
            fraction, len(normal), abnormal, len(normal) / max(len(films), 1),
        )  # fmt: skip
    kept = set(np.random.default_rng(seed).permutation(normal)[:wanted].tolist())
    return [film for i, film in enumerate(films) if not film.normal or i in kept]


def _check(val_fraction: float, test_fraction: float, folds: int | None, fold: int) -> None:
    if folds is not None and not (folds >= 2 and 0 <= fold < folds):
        raise ValueError(f"fold is {fold} of {folds} folds, expected at least 2 folds and 0 <= fold < folds")
    if min(val_fraction, test_fraction) < 0 or val_fraction + test_fraction >= 1:
        raise ValueError(
            f"val_fraction is {val_fraction} and test_fraction {test_fraction}, "
            "expected neither below 0 and a sum below 1"
        )


def _stratify(films: Sequence[Film], shares: Sequence[float], rng: np.random.Generator) -> list[list[Film]]:
    """Divide films into parts with the given shares, which sum to 1: whole patients, every finding in proportion.

    This is iterative stratification (Sechidis, Tsoumakas and Vlahavas, ECML PKDD 2011) with patients in place of
    examples. The labels of a patient are the numbers of films with each finding, and of normal ones. The rarest finding
    comes first, and each of its patients goes to the part that lacks most of it. Patients with many films come before
    those with few, which then even out the parts. Patients with the same number of films come in random order, whatever
    their findings are: the order decides the part, and no part must get the films of one finding only.
    """
    labels: dict[str, Counter[str]] = defaultdict(Counter)
    for film in films:
        labels[film.patient].update(set(film.findings) or {NORMAL})
    films_of = Counter(film.patient for film in films)
    lacking = [{label: share * n for label, n in _total(labels.values()).items()} for share in shares]
    waiting = list(labels)
    rng.shuffle(waiting)
    waiting.sort(key=lambda patient: -films_of[patient])
    part_of: dict[str, int] = {}
    while waiting:
        left = _total(labels[patient] for patient in waiting)
        rarest = min(left, key=lambda label: (left[label], label))
        for patient in [p for p in waiting if labels[p][rarest]]:
            part = max(
                (i for i, share in enumerate(shares) if share > 0),
                key=lambda i: (lacking[i][rarest], sum(lacking[i].values())),
            )
            part_of[patient] = part
            for label, n in labels[patient].items():
                lacking[part][label] -= n
        waiting = [patient for patient in waiting if patient not in part_of]
    return [[film for film in films if part_of[film.patient] == part] for part in range(len(shares))]


def _total(counts: Iterable[Counter[str]]) -> Counter[str]:
    return sum(counts, Counter())
