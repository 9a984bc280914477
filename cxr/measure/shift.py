"""Do films differ from those that a detector was chosen on? Asked of films without labels, with a stated false alarm.

A film is a row of numbers: how it was taken, and what the detector says of it. A window of films is compared with a
reference, a feature at a time, by the largest distance between the two distribution functions (Kolmogorov and Smirnov).

The same reference is used again and again, so an unlucky one must not raise an alarm each week. The allowed distance
has therefore two parts, by the inequality of Dvoretzky, Kiefer and Wolfowitz with Massart's constant (1990): how far a
window of films may lie from the truth, and how far the reference may. It holds for every distribution.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr.read.film_statistics import LIKENESS, PIXELS

Rows = NDArray[np.float32]
"""[N, F], a film each, of another patient each; NaN where a film has no such feature."""

SCORES = ("abnormal", "surest", "boxes")
"""The film's score of being abnormal, the highest score of its boxes, and the sum of the scores of its boxes."""
FEATURES = (*PIXELS, *LIKENESS, *SCORES)
RATE = 0.01
"""How likely a window of unchanged films is called different, at most."""
UNSURE = 0.05
"""How likely the reference is so unlucky that windows of unchanged films are called different more often."""
MOST_FILMS = 1000
"""Of a reference: more would hardly make it better."""


@dataclass(frozen=True, eq=False)
class Reference:
    """What films were like that a detector was chosen on.

    Args:
        features: names of the columns, of ``FEATURES``.
        rows: [N, F] of N patients, in an order that tells nothing.
    """

    features: tuple[str, ...]
    rows: Rows

    @property
    def films(self) -> int:
        """How many films it is made of."""
        return len(self.rows)


@dataclass(frozen=True)
class FeatureShift:
    """A feature of a window beside the reference.

    Args:
        name: of ``FEATURES``.
        reference, window: its median there; of the films that the gate refuses, their share.
        distance: the largest between the distribution functions, 0..1.
        allowed: the largest distance that may be chance; above 1 there are too few films to tell anything.
    """

    name: str
    reference: float
    window: float
    distance: float
    allowed: float

    @property
    def differs(self) -> bool:
        """Whether the feature has changed."""
        return self.distance > self.allowed


@dataclass(frozen=True)
class Shift:
    """A window of films beside the reference.

    Args:
        films: patients of the window, a film each.
        reference: films of the reference.
        rate: how likely a window of unchanged films is called different.
        features: each one; those that no film has are missing.
    """

    films: int
    reference: int
    rate: float
    features: tuple[FeatureShift, ...]

    @property
    def differs(self) -> bool:
        """Whether the films of the window differ from the reference."""
        return any(feature.differs for feature in self.features)

    @property
    def can_tell(self) -> bool:
        """Whether there are enough films to tell any difference, however large."""
        return any(feature.allowed < 1 for feature in self.features)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for json."""
        features = {
            one.name: {
                "reference_median": one.reference,
                "median": one.window,
                "distance": one.distance,
                "allowed": one.allowed,
                "differs": one.differs,
            }
            for one in self.features
        }
        return {
            "films": self.films,
            "reference_films": self.reference,
            "false_alarm_rate": self.rate,
            "differs": self.differs,
            "can_tell": self.can_tell,
            "features": features,
        }


def made_reference(features: Sequence[str], rows: Rows, patients: Sequence[str]) -> Reference | None:
    """Return the reference of some films, the first of each patient, at most ``MOST_FILMS``; None without any."""
    kept = np.asarray(rows, np.float32)[first_of_each(patients)[:MOST_FILMS]]
    return Reference(tuple(features), _sorted(kept)) if len(kept) else None


def first_of_each(patients: Sequence[str]) -> list[int]:
    """Return the place of the first film of each patient: films of one patient are alike, and count once."""
    first: dict[str, int] = {}
    for place, patient in enumerate(patients):
        first.setdefault(patient, place)
    return list(first.values())


def of_pixels(references: Sequence[Reference]) -> Reference | None:
    """Return the common reference of several detectors that answer as one: how their films were taken.

    What one of them says of a film is not what all say together. A film that several were chosen on counts once.
    """
    parts = [
        one.rows[:, [one.features.index(name) for name in PIXELS]]
        for one in references
        if set(PIXELS) <= {*one.features}
    ]
    if not parts:
        return None
    return Reference(PIXELS, np.unique(np.concatenate(parts), axis=0))


def of_scores(abnormal: float, scores: NDArray[np.float32] | Sequence[float]) -> list[float]:
    """Return the values of ``SCORES``."""
    return [abnormal, float(max(scores, default=0.0)), float(np.sum(scores, dtype=np.float64))]


def compare(reference: Reference, rows: Mapping[str, NDArray[Any]], rate: float = RATE) -> Shift:
    """Return how a window of films differs from the reference.

    Args:
        reference: of the detector.
        rows: feature → its value on each film of the window [M], a film a patient; features that are not in the
            reference are passed over.
        rate: false alarms that are allowed.
    """
    films = max((len(values) for values in rows.values()), default=0)
    pairs = {}
    for column, name in enumerate(reference.features):
        before, now = _known(reference.rows[:, column]), _known(np.asarray(rows.get(name, ()), np.float32))
        if len(before) and len(now):
            pairs[name] = before, now
    features = tuple(
        FeatureShift(
            name,
            _middle(name, before),
            _middle(name, now),
            distance(before, now),
            allowed(len(now), len(before), len(pairs), rate),
        )
        for name, (before, now) in pairs.items()
    )
    return Shift(films, reference.films, rate, features)


def distance(first: NDArray[Any], second: NDArray[Any]) -> float:
    """Return the largest distance between two empirical distribution functions."""
    values = np.concatenate([first, second])
    shares = [np.searchsorted(np.sort(some), values, side="right") / len(some) for some in (first, second)]
    return float(np.abs(shares[0] - shares[1]).max())


def allowed(films: int, reference: int, features: int, rate: float = RATE) -> float:
    """Return the distance that unchanged films exceed in any of ``features`` with a probability of at most ``rate``.

    This holds for all but ``UNSURE`` of the references.
    """
    parts = ((films, rate), (reference, UNSURE))
    return sum(math.sqrt(math.log(2 * features / risk) / (2 * count)) for count, risk in parts)


def from_fields(fields: Any) -> Reference:
    """Return the reference in ``features`` and ``rows``, arrays or nested lists.

    Raises ``ValueError`` for what is none.
    """
    if not isinstance(fields, Mapping) or set(fields) != {"features", "rows"}:
        raise ValueError("expected features and rows")
    names = fields["features"]
    if not isinstance(names, list | tuple) or not names or len({*map(str, names)}) < len(names):
        raise ValueError("features is no list of different names")
    if unknown := [name for name in names if name not in FEATURES]:
        raise ValueError(f"it has the feature {str(unknown[0])[:100]!r}, expected {', '.join(FEATURES)}")
    try:
        with np.errstate(over="ignore"):  # what is too large for float32 is infinite, and refused below
            rows = np.asarray(fields["rows"], np.float32)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:  # the last of a tensor that is no plain array
        raise ValueError("rows holds something else than numbers") from error
    if rows.ndim != 2 or rows.shape[1] != len(names) or not 0 < len(rows) <= MOST_FILMS:
        raise ValueError(f"rows has the shape {list(rows.shape)}, expected [1 to {MOST_FILMS}, {len(names)}]")
    if np.isinf(rows).any():
        raise ValueError("rows holds infinity")
    return Reference(tuple(names), rows)


def as_plain(reference: Reference) -> dict[str, Any]:
    """Return a reference as names and lists of numbers, for JSON; null where a film has no such feature."""
    rows = [[None if math.isnan(v) else float(f"{v:.7g}") for v in row] for row in reference.rows.tolist()]
    return {"features": list(reference.features), "rows": rows}


def _sorted(rows: Rows) -> Rows:
    return np.asarray(rows[np.lexsort(rows.T[::-1])], np.float32)


def _middle(name: str, values: NDArray[Any]) -> float:
    return float(values.mean() if name == "refused" else np.median(values))


def _known(values: NDArray[Any]) -> NDArray[Any]:
    known: NDArray[Any] = values[~np.isnan(values)]
    return known
