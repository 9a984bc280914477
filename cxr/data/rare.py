"""Films for rare findings: how often each is shown, findings held back from a base phase, a few shots of each."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np

from cxr.data.film import Film
from cxr.findings import FindingVocabulary


def repeat_factors(films: Sequence[Film], threshold: float) -> list[float]:
    """Return how often each film is to be shown an epoch, 1 and more (Gupta 2019, LVIS, section 4.2).

    A finding on the share f of the films asks for max(1, sqrt(threshold / f)); a film is shown as its rarest finding
    asks. So films of a finding rarer than ``threshold`` come more often, by the square root of what they lack.
    """
    bearing = Counter(name for film in films for name in set(film.findings))
    asked = {name: max(1.0, (threshold * len(films) / count) ** 0.5) for name, count in bearing.items()}
    return [max((asked[name] for name in film.findings), default=1.0) for film in films]


def withhold(films: Sequence[Film], held: Collection[str], findings: FindingVocabulary) -> list[Film]:
    """Return the films as if nobody had looked for the findings ``held``: the base phase of few-shot learning.

    Their boxes are gone, and the films are no negatives for them. Raises ``ValueError`` when nothing is left to learn.
    """
    told = frozenset(findings.names) - set(held)
    if not told:
        raise ValueError(f"data.withhold is {list(held)}: all findings; at least one must be left to learn")
    return [_without(film, held, told) for film in films]


def few_shots(films: Sequence[Film], shots: int, seed: int = 0) -> list[Film]:
    """Return films that show each finding on ``shots`` of them, fewer where there are fewer, and as many normal ones.

    The rarest finding first, and for each the films that bear the fewest others, so that common findings do not come
    along more often than they must. All boxes of a film stay: one unmarked would be taught as background.
    """
    order = np.random.default_rng(seed).permutation(len(films)).tolist()
    bearing = Counter(name for film in films for name in set(film.findings))
    chosen: set[int] = set()
    for name in sorted(bearing, key=lambda name: (bearing[name], name)):
        shown = sum(name in films[index].findings for index in chosen)
        others = sorted(
            (index for index in order if name in films[index].findings and index not in chosen),
            key=lambda index: len(set(films[index].findings)),
        )
        chosen.update(others[: max(0, shots - shown)])
    chosen.update([index for index in order if films[index].normal][:shots])
    return [film for index, film in enumerate(films) if index in chosen]


def _without(film: Film, held: Collection[str], told: frozenset[str]) -> Film:
    kept = [name not in held for name in film.findings]
    return replace(
        film,
        boxes=film.boxes[kept],
        findings=tuple(name for name in film.findings if name not in held),
        labelled=told if film.labelled is None else film.labelled - set(held),
    )
