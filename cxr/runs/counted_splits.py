"""The counts of a data set's splits (``cxr.data.split_counts``) as a checkpoint keeps them, read as plain data."""

import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cxr.config.errors import ConfigError
from cxr.findings import FindingVocabulary

_OF_SPLIT = ("items", "patients", "normal", "unmarked")
_OF_FINDING = ("items", "boxes", "looked_for")
_MOST = 2**53  # the largest number that JSON keeps exactly


def counted_splits(path: Path, splits: Mapping[Any, Any], findings: FindingVocabulary) -> dict[str, dict[str, Any]]:
    """Return the counts of each split, with every number checked.

    Raises ``ConfigError`` that names ``path`` where a split, a finding or a number is not what train.py writes.
    """
    if splits and set(splits) != {"train", "val", "test"}:
        raise ConfigError(f"{path}: cxr.splits has {reprlib.repr(list(splits))}, expected train, val, test")
    counted = {}
    for split, counts in splits.items():
        place = f"{path}: cxr.splits.{split}"
        of_findings = _mapping(f"{place}.findings", _mapping(place, counts).get("findings"))
        if set(of_findings) != set(findings.names):
            given = reprlib.repr(list(of_findings))
            raise ConfigError(f"{place}.findings has {given}, expected the findings of the vocabulary")
        numbers = _numbers(place, counts, _OF_SPLIT)
        counted[str(split)] = {
            **numbers,
            "findings": {
                name: _numbers(f"{place}.findings.{name}", of_findings[name], _OF_FINDING) for name in findings.names
            },
        }
    return counted


def _mapping(place: str, value: Any) -> Mapping[Any, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"{place} is {reprlib.repr(value)}, expected counts by name")
    return value


def _numbers(place: str, value: Any, names: tuple[str, ...]) -> dict[str, int]:
    counts = _mapping(place, value)
    for name in names:
        number = counts.get(name)
        if type(number) is not int or not 0 <= number < _MOST:
            raise ConfigError(f"{place}.{name} is {reprlib.repr(number)}, expected a number from 0 up")
    return {name: counts[name] for name in names}
