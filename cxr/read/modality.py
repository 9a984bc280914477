"""Chooses the intensity steps of a film from a table, by its Modality and body part.

A log window suits a radiograph but not Hounsfield units: a CT needs windows in HU, and an MR, whose values have no
unit, a z-score. The table is in ``conf/intensity/by_modality.yaml``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr.read.intensity import Intensity, Step
from cxr.read.preprocessing import Preprocessing
from cxr.read.radiograph import Radiograph, ReadError


@dataclass(frozen=True)
class Row:
    """One row of the table: which films it is for, and their steps. Upper and lower case count as the same.

    Args:
        kind: name of the kind of films; only films of one kind may be in one data set. Several rows may share it.
        modalities: allowed values of Modality (PS3.3 C.7.3.1.1.1); "" means a film without one, such as any picture.
        steps: steps of the ``Intensity`` of such films.
        body_parts: words of which BodyPartExamined must hold one ("PORT CHEST" holds "CHEST"); "" means a film without
            BodyPartExamined. With None, every film fits.
        relationships: allowed values of PixelIntensityRelationship (PS3.3 C.8.11.3.1.2). With None, every film fits.
        intents: allowed values of PresentationIntentType (PS3.3 C.8.11.1). With None, every film fits.
    """

    kind: str
    modalities: Sequence[str]
    steps: Sequence[Step]
    body_parts: Sequence[str] | None = None
    relationships: Sequence[str] | None = None
    intents: Sequence[str] | None = None
    intensity: Intensity = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "intensity", Intensity(self.steps))

    def names(self, modality: str, body_part: str) -> bool:
        """Return whether the row is for films of this Modality and BodyPartExamined."""
        return _listed(modality, self.modalities) and (
            self.body_parts is None
            or any(part.upper() in body_part.upper() if part else not body_part for part in self.body_parts)
        )

    def fits(self, radiograph: Radiograph) -> bool:
        """Return whether a film that the row names also fits its other two conditions."""
        stated = (radiograph.pixel_intensity_relationship, radiograph.presentation_intent)
        allowed = (self.relationships, self.intents)
        return all(wanted is None or _listed(value, wanted) for value, wanted in zip(stated, allowed, strict=True))

    def films(self) -> str:
        """Return in words which films the row names."""
        modalities = ", ".join(modality or "none" for modality in self.modalities)
        parts = "any" if self.body_parts is None else ", ".join(part or "none" for part in self.body_parts)
        return f"Modality {modalities} with BodyPartExamined {parts}"


class ByModality(Preprocessing):
    """A table of intensities. The first row that names a film's Modality and body part gives its kind.

    Among the rows of that kind that name the film, the first one whose other conditions also fit gives its steps. A
    film without such a row is refused.

    Args:
        rows: arguments of each ``Row``, as in a YAML file; rows of one kind must make the same number of channels.
    """

    def __init__(self, rows: Sequence[Row | Mapping[str, Any]]) -> None:
        if not rows:
            raise ValueError("intensity.rows is empty, expected at least one row")
        self.rows = tuple(_row(number, row) for number, row in enumerate(rows))
        for row in self.rows:
            first = next(other for other in self.rows if other.kind == row.kind)
            if row.intensity.channels != first.intensity.channels:
                raise ValueError(
                    f"rows of kind {row.kind!r} make {first.intensity.channels} and {row.intensity.channels} channels; "
                    "expected one number, because films of one kind go to one network"
                )

    def __call__(self, radiograph: Radiograph) -> NDArray[np.float32]:
        """Return the film after the steps of its row. Raises ``ReadError`` if no row is for it."""
        return self._chosen(radiograph)(radiograph)

    def of_values(self, values: NDArray[np.float32], radiograph: Radiograph) -> NDArray[np.float32]:
        """Return ``values`` after the steps of the row of ``radiograph``. Raises ``ReadError`` if no row is for it."""
        return self._chosen(radiograph).of_values(values, radiograph)

    def kind(self, modality: str, body_part: str, path: Path) -> str:
        """Return the kind of the first row that names such films. Raises ``ReadError`` if none does."""
        return self._named(modality, body_part, path)[0].kind

    def fingerprint(self) -> str:
        """Return the rows with their arguments."""
        return " | ".join(repr(row) for row in self.rows)

    def _chosen(self, radiograph: Radiograph) -> Intensity:
        named = self._named(radiograph.modality, radiograph.body_part, radiograph.path)
        if fitting := [row for row in named if row.kind == named[0].kind and row.fits(radiograph)]:
            return fitting[0].intensity
        raise ReadError(
            f"{radiograph.path}: PixelIntensityRelationship is {radiograph.pixel_intensity_relationship!r} and "
            f"PresentationIntentType {radiograph.presentation_intent!r}, but no row of kind {named[0].kind} fits both; "
            "add a last row of this kind without these conditions"
        )

    def _named(self, modality: str, body_part: str, path: Path) -> list[Row]:
        if named := [row for row in self.rows if row.names(modality, body_part)]:
            return named
        table = "; ".join(dict.fromkeys(row.films() for row in self.rows))
        raise ReadError(
            f"{path}: Modality is {modality!r} and BodyPartExamined {body_part!r}, for which the table has no row. "
            f"It has {table}. Add a row to conf/intensity/by_modality.yaml, or leave the film out"
        )


class OneKind(Preprocessing):
    """A preprocessing that refuses films of any other kind than the one a network was trained on.

    Without it, a CT slice would go through a log window unnoticed, and a detector gives an answer for every picture.

    Args:
        preprocessing: preprocessing of the films of the allowed kind.
        allowed: the allowed kind.
    """

    def __init__(self, preprocessing: Preprocessing, allowed: str) -> None:
        self.preprocessing = preprocessing
        self.allowed = allowed

    def __call__(self, radiograph: Radiograph) -> NDArray[np.float32]:
        """Return the film after the preprocessing. Raises ``ReadError`` for a film of another kind."""
        self.kind(radiograph.modality, radiograph.body_part, radiograph.path)
        return self.preprocessing(radiograph)

    def of_values(self, values: NDArray[np.float32], radiograph: Radiograph) -> NDArray[np.float32]:
        """Return ``values`` after the preprocessing. Raises ``ReadError`` for a film of another kind."""
        self.kind(radiograph.modality, radiograph.body_part, radiograph.path)
        return self.preprocessing.of_values(values, radiograph)

    def kind(self, modality: str, body_part: str, path: Path) -> str:
        """Return the kind that is allowed. Raises ``ReadError`` for another one."""
        kind = self.preprocessing.kind(modality, body_part, path)
        if kind != self.allowed:
            raise ReadError(
                f"{path}: Modality is {modality!r} and BodyPartExamined {body_part!r}, a film of kind {kind}; "
                f"the network was trained on films of kind {self.allowed}"
            )
        return kind

    def fingerprint(self) -> str:
        """Return the fingerprint of the inner preprocessing: it makes the same pictures, so they can share a cache."""
        return self.preprocessing.fingerprint()


def _row(number: int, row: Row | Mapping[str, Any]) -> Row:
    if isinstance(row, Row):
        return row
    try:
        return Row(**row)
    except TypeError as error:
        known = "kind, modalities, steps, body_parts, relationships, intents"
        raise ValueError(f"intensity.rows.{number} has {', '.join(row)}; expected {known} ({error})") from error


def _listed(value: str, names: Sequence[str]) -> bool:
    return value.upper() in [name.upper() for name in names]
