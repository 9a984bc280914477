"""Makes sure that a data set has films of one kind: leaves out other modalities, and refuses a mix.

A detector that is trained on CT slices and radiographs together learns to distinguish them, and mixes up what the
readers of the two have marked.
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
    """Return the films of the wanted modalities, without decoding any film.

    A film whose header cannot be read, or that the intensity refuses, is kept: reading it later raises the reason.

    Args:
        films: films of the data set.
        cache: gives Modality and BodyPartExamined of a film, and its kind.
        modality: wanted values of Modality, "" for films without one, such as pictures; None means all.
        root: folder of the data set, for messages.

    Raises ``ValueError`` if no film is wanted, or if the wanted films are of several kinds.
    """
    kept: list[Film] = []
    counts: Counter[str] = Counter()
    kinds: dict[str, Counter[str]] = defaultdict(Counter)
    for film in track(films, "reading headers", end=False):
        name, kind = _modality_and_kind(film, cache)
        counts[name or ""] += name is not None
        if name is None or modality is None or name in modality:
            kept.append(film)
            kinds[kind][name or ""] += kind != ""
    if films and not kept:
        raise ValueError(f"data.modality is {_typed(modality or ())}, but {root} holds {_counted(counts)}")
    if len(several := {kind: modalities for kind, modalities in kinds.items() if kind}) > 1:
        raise ValueError(_mixed(several, root))
    if len(kept) < len(films):
        left = Counter({name: number for name, number in counts.items() if name not in (modality or ())})
        _log.warning("%s: data.modality=%s leaves out %s", root, _typed(modality or ()), _counted(left))
    return kept


def kind_of(film: Film, cache: FilmCache) -> str:
    """Return the kind of a readable film."""
    return cache.intensity.kind(*cache.modality(film.path), film.path)


def _modality_and_kind(film: Film, cache: FilmCache) -> tuple[str | None, str]:
    """Return Modality (None if the header cannot be read) and kind ("" if the intensity refuses the film)."""
    try:
        modality, body_part = cache.modality(film.path)
    except ReadError:
        return None, ""
    try:
        return modality.upper(), cache.intensity.kind(modality, body_part, film.path)
    except ReadError:
        return modality.upper(), ""


def _mixed(kinds: Mapping[str, Counter[str]], root: Path) -> str:
    """Return the message that says which kinds are mixed, and what to type for each."""
    listing = "; ".join(f"{kind}: {_counted(counts)}" for kind, counts in kinds.items())
    choices = " or ".join(f'"data.modality={_typed(sorted(counts))}"' for counts in kinds.values())
    return f"{root}: holds films of {len(kinds)} kinds, which are never mixed ({listing}). Type {choices}"


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {name or 'without Modality'}" for name, number in sorted(counts.items()) if number)


def _typed(modality: Sequence[str]) -> str:
    """Return the value of ``data.modality`` as it is typed for Hydra."""
    names = [name or "''" for name in modality]
    return names[0] if len(names) == 1 else f"[{','.join(names)}]"
