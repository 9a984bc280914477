"""Equal parts of many films, each for a run of its own."""

from dataclasses import dataclass
from hashlib import blake2b

_BYTES = 8


@dataclass(frozen=True)
class Shard:
    """One of ``of`` parts. Each film belongs to exactly one of them.

    The name of a film decides to which part it belongs, not its place among the others. So the part of a film stays
    the same on every machine, and also when other films come or go.

    Args:
        number: which part this is, from 0.
        of: how many parts there are.
    """

    number: int = 0
    of: int = 1

    def holds(self, name: str) -> bool:
        """Return whether the film of this name belongs to this part."""
        digest = blake2b(name.encode("utf-8", "surrogateescape"), digest_size=_BYTES).digest()
        return int.from_bytes(digest, "big") % self.of == self.number
