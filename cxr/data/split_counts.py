"""How many items, patients and marks each split of a data set holds: what a run's model card says of its data."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cxr.data.film import Film
from cxr.data.item import Item


def split_counts(splits: Mapping[str, Sequence[Item]], findings: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return the counts of each split by name, as plain numbers in which nobody is named.

    ``items`` are films, series or pairs; ``normal`` those known to have no finding; ``unmarked`` those on which nobody
    looked for one. Of each finding there are the ``items`` that have it, its ``boxes`` (its marks, where items have
    none), and ``looked_for``: the items whose readers looked for it. Its prevalence is items / looked_for.
    """
    names = tuple(findings)
    return {split: _counts(items, names) for split, items in splits.items()}


def _counts(items: Sequence[Item], findings: Sequence[str]) -> dict[str, Any]:
    return {
        "items": len(items),
        "patients": len({item.patient for item in items}),
        "normal": sum(item.normal for item in items),
        "unmarked": sum(isinstance(item, Film) and item.unmarked for item in items),
        "findings": {name: _of_finding(items, name) for name in findings},
    }


def _of_finding(items: Sequence[Item], name: str) -> dict[str, int]:
    return {
        "items": sum(name in item.findings for item in items),
        "boxes": sum(item.findings.count(name) for item in items),
        "looked_for": sum(not isinstance(item, Film) or item.looked_for(name) for item in items),
    }
