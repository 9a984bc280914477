"""Splits of items by patient: stratified over the findings, seeded, never a patient on two sides."""

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from cxr.data.film import Film
from cxr.data.item import SPLITS, AnyItem
from cxr.findings import NORMAL

_log = logging.getLogger(__name__)


def split_items(
    items: Sequence[AnyItem],
    val_fraction: float = 0.15,
    test_fraction: float = 0.15,
    seed: int = 0,
    folds: int | None = None,
    fold: int = 0,
) -> dict[str, list[AnyItem]]:
    """Return ``{"train": …, "val": …, "test": …}``, each in the order of ``items``; fractions are of all items.

    Where the data set itself names the items of a split (``Item.split``), these are the split, and its fraction is not
    used. A split that it does not name is drawn from the rest: the items of "train" and those without a split. A
    patient stands in one split alone, in "test" before "val" before "train"; what others hold of them is left out, with
    a warning. With ``folds`` the items not held for testing are cut into as many parts, of which number ``fold`` is
    ``val``, and ``val_fraction`` is not used; the test set and the parts are the same for every ``fold``. Raises
    ``ValueError`` for fractions or folds that leave nothing to train on, for folds where the data set names its
    validation items, and for a split of another name.
    """
    _check(val_fraction, test_fraction, folds, fold)
    named = _named(items)
    rest, val, test = named["train"], named["val"], named["test"]
    if val and folds is not None:
        raise ValueError(f"data.folds is {folds}, but the data set itself names its {len(val)} validation items")
    rng = np.random.default_rng(seed)
    val_share = val_fraction
    if not test:
        pool = len(rest)
        rest, test = _stratify(rest, [1 - test_fraction, test_fraction], rng)
        val_share = val_fraction * pool / max(len(rest), 1)
    if folds is not None:
        val = _stratify(rest, [1 / folds] * folds, rng)[fold]
        held = {item.patient for item in val}
        rest = [item for item in rest if item.patient not in held]
    elif not val:
        rest, val = _stratify(rest, [1 - val_share, val_share], rng)
    return {"train": rest, "val": val, "test": test}


def _named(items: Sequence[AnyItem]) -> dict[str, list[AnyItem]]:
    """Return the items by the split that the data set names, "train" where it names none; a patient is in one alone."""
    if wrong := next((item for item in items if item.split not in ("", *SPLITS)), None):
        raise ValueError(f"study {wrong.study} is of the split {wrong.split!r}, expected {', '.join(SPLITS)} or none")
    named: dict[str, list[AnyItem]] = {}
    held: set[str] = set()
    for split in reversed(SPLITS):
        of_split = [item for item in items if (item.split or "train") == split]
        named[split] = [item for item in of_split if item.patient not in held]
        held |= {item.patient for item in named[split]}
        if left_out := len(of_split) - len(named[split]):
            _log.warning(
                "%d of %d items for %s are left out: their patients stand in %s too, as the data set splits itself.",
                left_out, len(of_split), split, "test" if split == "val" else "val or test",
            )  # fmt: skip
    return named


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


def _stratify(items: Sequence[AnyItem], shares: Sequence[float], rng: np.random.Generator) -> list[list[AnyItem]]:
    """Divide items into parts with the given shares, which sum to 1: whole patients, every finding in proportion.

    Iterative stratification (Sechidis, Tsoumakas and Vlahavas, ECML PKDD 2011) with patients in place of examples and
    the numbers of their items with each finding, or normal, in place of labels: the rarest finding first, each of its
    patients to the part that lacks most of it. Patients of many items come before those of few, who even out what the
    many upset. Patients of as many items come in random order, whatever their findings are: the order decides the part,
    and a part must not get the items of one finding only.
    """
    labels: dict[str, Counter[str]] = defaultdict(Counter)
    for item in items:
        labels[item.patient].update(set(item.findings) or {NORMAL})
    items_of = Counter(item.patient for item in items)
    lacking = [{label: share * n for label, n in _total(labels.values()).items()} for share in shares]
    waiting = list(labels)
    rng.shuffle(waiting)
    waiting.sort(key=lambda patient: -items_of[patient])
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
    return [[item for item in items if part_of[item.patient] == part] for part in range(len(shares))]


def _total(counts: Iterable[Counter[str]]) -> Counter[str]:
    return sum(counts, Counter())
