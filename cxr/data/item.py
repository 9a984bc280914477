"""What every data set's entries have in common, whether they are films, series, pairs of both or drawn layers."""

from typing import Protocol, TypeVar


class Item(Protocol):
    """One entry of a data set: what the splits and the data module ask of it."""

    @property
    def id(self) -> str:
        """Its name in its own data set, unique there."""

    @property
    def study(self) -> str:
        """The pseudonym of its study, safe to show."""

    @property
    def patient(self) -> str:
        """The pseudonym of its patient, who never stands in two splits."""

    @property
    def findings(self) -> tuple[str, ...]:
        """Canonical names of its findings."""

    @property
    def split(self) -> str:
        """The split that the data set itself gives it to, one of ``SPLITS``, or "" where it names none."""

    @property
    def normal(self) -> bool:
        """Whether it is known to have no finding."""


AnyItem = TypeVar("AnyItem", bound=Item)
SPLITS = ("train", "val", "test")
