"""What the films of an evaluation were to a checkpoint before: trained on, chosen on, or neither.

Figures on films that a detector was trained on flatter it. So do figures of screening on films that its operating point
was chosen on. An evaluation says for each of the two whether that was so, and where no one knows it says that.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

CHOSEN_NOW = "chosen now, on the validation films"
TESTED_ON = "derived on the very films it is measured on, as asked"
FROZEN = "frozen in the checkpoint"

Relation = Literal["own", "foreign", "unknown"]
"""own: the films the checkpoint was trained with, in its splits. foreign: none of them. unknown: perhaps some."""
Share = Literal["all", "some", "none", "unknown"]

_ALL = "all"  # the split of an evaluation that takes every film


@dataclass(frozen=True)
class Seen:
    """What the films that figures are measured on were before.

    Args:
        relation: of the data to the checkpoint.
        trained_on: how many of the films the detector was trained on.
        chosen_on: how many of them the operating point was chosen on; None where there is no point.
        best_epoch_on: how many of them chose the epoch that the checkpoint holds: the validation films.
    """

    relation: Relation
    trained_on: Share
    chosen_on: Share | None
    best_epoch_on: Share

    def in_words(self) -> str:
        """Return both answers as a sentence; of foreign films no more than that they come from elsewhere is known."""
        trained = f"The detector was trained on {_WORDS[self.trained_on]} these films"
        if self.relation == "foreign":
            trained = (
                f"These films are of another data set than the training's. Unless they are copies, {_lower(trained)}"
            )
        if self.chosen_on is None:
            return f"{trained}; it has no operating point."
        if self.trained_on == self.chosen_on:
            return f"{trained}, and its operating point was chosen on {_WORDS[self.chosen_on]} them."
        return f"{trained}; its operating point was chosen on {_WORDS[self.chosen_on]} them."

    def warnings(self, which: str) -> Iterator[str]:
        """Yield what makes the figures of a checkpoint look better than they are; ``which`` names it."""
        if self.trained_on in ("all", "some"):
            yield f"Films that {which} was trained on are among these: the figures flatter it."
        if self.trained_on == "unknown":
            yield (
                f"The films are not those {which} was trained with (added, changed or unreadable ones move the splits):"
                " it may have been trained on some of these."
            )
        if self.best_epoch_on == "all":
            yield f"The epoch that {which} holds was chosen on these films: the figures flatter it a little."
        if self.chosen_on in ("all", "some"):
            among = "the films" if self.chosen_on == "all" else "some of the films"
            yield (
                f"The operating point of {which} was chosen on {among} that screening is measured on here: its figures"
                " flatter it and promise nothing for other films."
            )
        if self.chosen_on == "unknown":
            yield f"The operating point of {which} may have been chosen on some of these films."

    def as_dict(self) -> dict[str, str | None]:
        """Return plain values, for json."""
        return {"trained_on": self.trained_on, "operating_point_chosen_on": self.chosen_on, "in_words": self.in_words()}


def _lower(sentence: str) -> str:
    return sentence[0].lower() + sentence[1:]


_WORDS: dict[Share, str] = {"all": "all of", "some": "some of", "none": "none of", "unknown": "perhaps some of"}


def seen(relation: Relation, split: str, point_from: str) -> Seen:
    """Return what the films of ``split`` were before.

    Args:
        relation: of the data to the checkpoint.
        split: train, val, test or all.
        point_from: where the operating point comes from: ``CHOSEN_NOW``, ``TESTED_ON`` or ``FROZEN``; any other text
            where there is none.
    """
    validation: Share = "all" if split == "val" else "some" if split == _ALL else "none"
    training: Share = "all" if split == "train" else "some" if split == _ALL else "none"
    apart: Share = "none" if relation == "foreign" else "unknown"
    own = relation == "own"
    chosen: dict[str, Share] = {
        TESTED_ON: "all",
        CHOSEN_NOW: validation,  # the validation films of these data, whatever they were before
        FROZEN: validation if own else apart,  # the validation films of the training
    }
    return Seen(relation, training if own else apart, chosen.get(point_from), validation if own else apart)
