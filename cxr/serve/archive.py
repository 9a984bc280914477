"""Where objects go: what every archive is, and what it has said of the objects it was offered."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

DAMAGED = "the file is damaged"
"""Why an object was not offered: it was cut short, as by a power cut, and has to be made anew."""

Pledge = Callable[[str, Sequence[int]], None]


@dataclass
class Stored:
    """What became of objects that were offered to an archive.

    Args:
        refusals: of each that was offered, in their order, why it was not taken; "" for one that was. There are fewer
            than objects where the connection broke.
        broken: why it broke, "" where it did not.
        pledged: whether the archive was asked to commit itself to those that it has taken.
    """

    refusals: list[str] = field(default_factory=list)
    broken: str = ""
    pledged: bool = False


class Archive(Protocol):
    """A PACS that takes objects."""

    name: str

    def store(self, files: Sequence[Path], pledge: Pledge) -> Stored:
        """Offer ``files`` to the archive.

        Before it is asked to commit itself, ``pledge`` is called with the UID of that question and the places of the
        files in it.
        """
