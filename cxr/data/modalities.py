"""A data set holds films of one kind: which are left out, and what is said where several kinds are mixed.

A detector that is shown CT slices and radiographs alike learns to tell them apart, and finds in each what the other's
readers marked.
"""

import logging
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from cxr.data.film import Film
from cxr.progress import track
from cxr.read.cache import FilmCache
from cxr.read.dicom import ReadError

_log = logging.getLogger(__name__)


def of_one_kind(films: Sequence[Film], cache: FilmCache, modality: Sequence[str] | None, root: Path) -> list[Film]:
    """Return the films of the modalities that are wanted; none is decoded for it.

    A film whose header cannot be read, or that the intensity does not take, stays: whoever reads it says why it cannot.

    Args:
        films: of the data set.
        cache: tells Modality and BodyPartExamined, and by its intensity the kind.
        modality: values of Modality, "" for films without one, pictures among them; None wants all.
        root: the data set's folder, for what is said of it.

    Raises ``ValueError`` where no film is wanted, and where those that are are of several kinds.
    """
    kept: list[Film] = []
    counts: Counter[str] = Counter()
    kinds: dict[str, Counter[str]] = defaultdict(Counter)
    for film in track(films, "reading headers", end=False):
        told, kind = _told(film, cache)
        counts[told or ""] += told is not None
        if told is None or modality is None or told in modality:
            kept.append(film)
            kinds[kind][told or ""] += kind != ""
    if films and not kept:
        raise ValueError(f"data.modality is {_typed(modality or ())}, but {root} holds {_counted(counts)}")
    if len(several := {kind: found for kind, found in kinds.items() if kind}) > 1:
        raise ValueError(_mixed(several, root))
    if len(kept) < len(films):
        left = Counter({name: number for name, number in counts.items() if name not in (modality or ())})
        _log.warning("%s: data.modality=%s leaves out %s", root, _typed(modality or ()), _counted(left))
    return kept


def kind_of(film: Film, cache: FilmCache) -> str:
    """Return the kind of a film that can be read."""
    return cache.intensity.kind(*cache.modality(film.path), film.path)


def _told(film: Film, cache: FilmCache) -> tuple[str | None, str]:
    """Return Modality and kind; None where the header cannot be read, and "" where the intensity has no kind for it."""
    try:
        modality, body_part = cache.modality(film.path)
    except ReadError:
        return None, ""
    try:
        return modality.upper(), cache.intensity.kind(modality, body_part, film.path)
    except ReadError:
        return modality.upper(), ""


def _mixed(kinds: Mapping[str, Counter[str]], root: Path) -> str:
    """Say which kinds are mixed, and what to type for each."""
    found = "; ".join(f"{kind}: {_counted(counts)}" for kind, counts in kinds.items())
    choices = " or ".join(f'"data.modality={_typed(sorted(counts))}"' for counts in kinds.values())
    return f"{root}: holds films of {len(kinds)} kinds, which are never mixed ({found}). Type {choices}"


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {name or 'without Modality'}" for name, number in sorted(counts.items()) if number)


def _typed(modality: Sequence[str]) -> str:
    """Return it as Hydra's grammar has it."""
    names = [name or "''" for name in modality]
    return names[0] if len(names) == 1 else f"[{','.join(names)}]"
