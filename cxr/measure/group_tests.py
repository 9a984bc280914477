"""May a difference between groups be chance? Permutations of whole patients, and Holm's correction over all tests."""

import math
from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Members = NDArray[np.bool_]
"""[films] whether each film is of the group."""

MOST = 9999
"""Permutations at most, so that a p-value can be as small as 1 in 10,000."""
_ENOUGH = 10  # permutations that give as large a difference, after which no more are needed
_ROUNDING = 1e-12
_Block = tuple[NDArray[np.int64], Members]


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number (Holm 1979), in the order they came.

    Below 0.05 they are findings, of which at most one set of tests in twenty has a false one. The smallest is
    multiplied by the number of tests, the next by one less, and so on; none becomes smaller than the one before it.
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    corrected, largest = [1.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        corrected[i] = largest
    return corrected


class Permutations:
    """Ways to give the patients of a group and the others other films, so that nothing but the group changes.

    Whole patients change places, with patients who have as many films and as many abnormal ones. So a permuted group
    has as many films and as many abnormal ones as the group, and a figure of it varies as the group's own would. If the
    group says nothing of what a detector does on a film, all of these are equally likely.

    Args:
        patients: of each film, by pseudonym.
        abnormal: [films] whether readers marked anything on it.
    """

    def __init__(self, patients: Sequence[str], abnormal: NDArray[np.bool_]) -> None:
        films: dict[str, list[int]] = defaultdict(list)
        for film in sorted(range(len(patients)), key=lambda i: bool(abnormal[i])):
            films[patients[film]].append(film)  # normal films first, so that each changes places with its like
        alike: dict[tuple[int, int], list[list[int]]] = defaultdict(list)
        for some in films.values():
            alike[len(some), int(abnormal[some].sum())].append(some)
        self._blocks = [np.array(block, np.int64) for block in alike.values()]

    def draw(self, member: Members, rng: np.random.Generator) -> Members:
        """Return a permuted group."""
        drawn = np.zeros_like(member)
        for block in self._blocks:
            drawn[block] = member[block][rng.permutation(len(block))]
        return drawn

    def can_differ(self, member: Members) -> bool:
        """Whether any permutation gives another group."""
        return any((member[block] != member[block][0]).any() for block in self._blocks)

    def p_value(
        self, difference: Callable[[Members], float], member: Members, seed: int = 0, most: int = MOST
    ) -> float:
        """Return how likely a difference as large as the group's is, were the group drawn by chance; NaN without one.

        Permutations are drawn until 10 have given as large a difference, or ``most`` are drawn. Such a p-value holds
        its level exactly (Besag and Clifford 1991). A permutation in which the difference is undefined counts as large.
        """
        seen = abs(difference(member))
        if math.isnan(seen):
            return math.nan
        if not self.can_differ(member):
            return 1.0
        rng, large = np.random.default_rng(seed), 0
        for drawn in range(1, most + 1):
            if not abs(difference(self.draw(member, rng))) < seen - _ROUNDING:
                large += 1
                if large == _ENOUGH:
                    return large / drawn
        return (large + 1) / (most + 1)
