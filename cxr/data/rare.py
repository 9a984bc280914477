"""Chooses films for rare findings: repeated films, a base phase without some findings, a few films of each finding."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np

from cxr.data.film import Film
from cxr.findings import FindingVocabulary


def repeat_factors(films: Sequence[Film], threshold: float) -> list[float]:
    """Return how often each film is shown in an epoch, at least 1 (Gupta 2019, LVIS, section 4.2).

    A finding on the share f of the films gives the factor max(1, sqrt(threshold / f)). A film has the factor of its
    rarest finding. So only films with a finding rarer than ``threshold`` are shown more often.
    """
    frequency = Counter(name for film in films for name in set(film.findings))
    asked = {name: max(1.0, (threshold * len(films) / count) ** 0.5) for name, count in frequency.items()}
    return [max((asked[name] for name in film.findings), default=1.0) for film in films]


def withhold(films: Sequence[Film], held: Collection[str], findings: FindingVocabulary) -> list[Film]:
    """Return the films as if nobody had looked for the findings ``held``, for the base phase of few-shot learning.

    Their boxes are removed, and the films are not negative for them. Raises ``ValueError`` if no finding is left.
    """
    labelled = frozenset(findings.names) - set(held)
    if not labelled:
        raise ValueError(f"data.withhold is {list(held)}: all findings; at least one must be left to learn")
    return [_without(film, held, labelled) for film in films]


def few_shots(films: Sequence[Film], shots: int, seed: int = 0) -> list[Film]:
    """Return ``shots`` films with each finding (or all, where there are fewer), and as many normal ones.

    The rarest finding is chosen first. Films with the fewest other findings are preferred, so that common findings come
    as seldom as possible. A film keeps all its boxes, because the detector would learn a removed one as background.
    """
    order = np.random.default_rng(seed).permutation(len(films)).tolist()
    frequency = Counter(name for film in films for name in set(film.findings))
    chosen: set[int] = set()
    for name in sorted(frequency, key=lambda name: (frequency[name], name)):
        shown = sum(name in films[index].findings for index in chosen)
        others = sorted(
            (index for index in order if name in films[index].findings and index not in chosen),
            key=lambda index: len(set(films[index].findings)),
        )
        chosen.update(others[: max(0, shots - shown)])
    chosen.update([index for index in order if films[index].normal][:shots])
    return [film for index, film in enumerate(films) if index in chosen]


def _without(film: Film, held: Collection[str], labelled: frozenset[str]) -> Film:
    kept = [name not in held for name in film.findings]
    return replace(
        film,
        boxes=film.boxes[kept],
        findings=tuple(name for name in film.findings if name not in held),
        labelled=labelled if film.labelled is None else film.labelled - set(held),
    )
