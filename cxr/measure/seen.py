"""What the films of an evaluation were to a checkpoint before: trained on, chosen on, or new.

Figures on films that a detector was trained on flatter it. So do figures of screening on films that its operating point
was chosen on. A checkpoint keeps a digest of the pixels of each of its films, so an evaluation knows each film by its
picture, whatever its file, its folder and the name of its split. A film that was cropped or compressed anew is another
picture: nobody sees here that it was known.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CHOSEN_NOW = "chosen now, on the validation films"
TESTED_ON = "derived on the very films it is measured on, as asked"
CHOSEN_OUT_OF_FOLD = "chosen now, on all films, each judged by the detector that did not see its patient"
FROZEN = "frozen in the checkpoint"
FROZEN_FOR_SWEEP = "frozen for the sweep, on films each judged by the detector that did not see its patient"

Digests = NDArray[np.int64]
"""[films] a digest of each film's pixels."""


@dataclass(frozen=True)
class Seen:
    """How many of the films that figures are measured on were what before.

    Args:
        films: all of them.
        trained_on: that the detector was trained on.
        best_epoch_on: that chose the epoch which the checkpoint holds: the training's validation films.
        point_on: that the operating point was chosen on; None where there is no point.
        new: that the detector was neither trained nor chosen on, nor its backbone pretrained.
        point_trained_on: how many films the point was chosen on, here or elsewhere, that the detector was trained on.
        pretrained_on: that the backbone was pretrained on before the detector was trained.
    """

    films: int
    trained_on: int
    best_epoch_on: int
    point_on: int | None
    new: int
    point_trained_on: int
    pretrained_on: int = 0

    def in_words(self) -> str:
        """Return what the films were as a sentence."""
        words = f"The detector was trained on {self._count(self.trained_on)} of these {self.films} films"
        if self.pretrained_on:
            words += f", its backbone was pretrained on {self._count(self.pretrained_on)} of them"
        if self.point_on is None:
            return f"{words}; it has no operating point. Films are compared by their pixels."
        point = f"its operating point was chosen on {self._count(self.point_on)} of them"
        return f"{words}, and {point}. Films are compared by their pixels."

    def warnings(self, which: str) -> Iterator[str]:
        """Yield what makes the figures of a checkpoint look better than they are; ``which`` names it."""
        if self.trained_on:
            yield f"Of these films {which} was trained on {self._count(self.trained_on)}: the figures flatter it."
        if self.pretrained_on:
            count = self._count(self.pretrained_on)
            yield f"Of these films the backbone of {which} was pretrained on {count}: the figures flatter it."
        if self.best_epoch_on:
            count = self._count(self.best_epoch_on)
            yield f"The epoch that {which} holds was chosen on {count} of these films: the figures flatter it a little."
        if self.point_on:
            yield (
                f"The operating point of {which} was chosen on {self._count(self.point_on)} of the films that screening"
                " is measured on here: its figures flatter it and promise nothing for other films."
            )
        if self.point_trained_on:
            yield (
                f"Of the films that the operating point of {which} was chosen on, it was trained on"
                f" {self.point_trained_on}: its threshold may be too high."
            )

    def as_dict(self) -> dict[str, int | str | None]:
        """Return plain values, for json."""
        return {
            "films": self.films,
            "trained_on": self.trained_on,
            "pretrained_on": self.pretrained_on,
            "best_epoch_chosen_on": self.best_epoch_on,
            "operating_point_chosen_on": self.point_on,
            "new": self.new,
            "in_words": self.in_words(),
        }

    def _count(self, count: int) -> str:
        return {0: "none", self.films: "all"}.get(count, str(count))


def seen(films: Digests, training: Mapping[str, Digests], point_films: Digests | None) -> Seen:
    """Return what films were before.

    Args:
        films: those that figures are measured on.
        training: those of the checkpoint's training, by split: "train" and "val" are read, and where it is there
            "pretrained", the films that its backbone was pretrained on.
        point_films: those that the operating point was chosen on; None where there is no point.
    """
    trained_on, best_epoch_on = np.isin(films, training["train"]), np.isin(films, training["val"])
    pretrained_on = np.isin(films, training.get("pretrained", np.zeros(0, np.int64)))
    point = np.zeros(0, np.int64) if point_films is None else point_films
    point_on = np.isin(films, point)
    return Seen(
        films=len(films),
        trained_on=int(trained_on.sum()),
        best_epoch_on=int(best_epoch_on.sum()),
        point_on=None if point_films is None else int(point_on.sum()),
        new=int((~(trained_on | best_epoch_on | point_on | pretrained_on)).sum()),
        point_trained_on=int(np.isin(point, training["train"]).sum()),
        pretrained_on=int(pretrained_on.sum()),
    )
