"""A data set holds films, or series, of one kind: which are left out, and the error where several kinds are mixed.

A detector that is trained on CT slices and radiographs together learns to distinguish them, and mixes up what the
readers of the two have marked.
"""

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from cxr.data.film import Film
from cxr.data.item import AnyItem
from cxr.progress import track
from cxr.read.cache import FilmCache
from cxr.read.dicom import ReadError

_log = logging.getLogger(__name__)


def of_one_kind(
    items: Sequence[AnyItem],
    tell: Callable[[AnyItem], tuple[str | None, str]],
    modality: Sequence[str] | None,
    root: Path,
) -> list[AnyItem]:
    """Return the items of the modalities that are wanted; none is decoded for it.

    An item whose header cannot be read, or that the intensity does not take, stays: whoever reads it says why not.

    Args:
        items: films or series of the data set.
        tell: item → its Modality and its kind; None where the header cannot be read, and "" where there is no kind.
        modality: values of Modality, "" for items without one, pictures among them; None wants all.
        root: the data set's folder, for messages.

    Raises ``ValueError`` where no item is wanted, and where those that are are of several kinds.
    """
    kept: list[AnyItem] = []
    counts: Counter[str] = Counter()
    kinds: dict[str, Counter[str]] = defaultdict(Counter)
    for item in track(items, "reading headers", end=False):
        value, kind = tell(item)
        counts[value or ""] += value is not None
        if value is None or modality is None or value in modality:
            kept.append(item)
            kinds[kind][value or ""] += kind != ""
    if items and not kept:
        raise ValueError(f"data.modality is {_typed(modality or ())}, but {root} holds {_counted(counts)}")
    if len(several := {kind: modalities for kind, modalities in kinds.items() if kind}) > 1:
        raise ValueError(_mixed(several, root))
    if len(kept) < len(items):
        left = Counter({name: number for name, number in counts.items() if name not in (modality or ())})
        _log.warning("%s: data.modality=%s leaves out %s", root, _typed(modality or ()), _counted(left))
    return kept


def wanted(modality: str | Sequence[str] | None) -> list[str] | None:
    """Return the values of the setting ``data.modality`` as the headers write them."""
    return (
        None if modality is None else [name.upper() for name in ([modality] if isinstance(modality, str) else modality)]
    )


def modality_and_kind(film: Film, cache: FilmCache) -> tuple[str | None, str]:
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
    """Return the message that says which kinds are mixed, and what to type for each."""
    listing = "; ".join(f"{kind}: {_counted(counts)}" for kind, counts in kinds.items())
    choices = " or ".join(f'"data.modality={_typed(sorted(counts))}"' for counts in kinds.values())
    return f"{root}: holds films or series of {len(kinds)} kinds, which are never mixed ({listing}). Type {choices}"


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {name or 'without Modality'}" for name, number in sorted(counts.items()) if number)


def _typed(modality: Sequence[str]) -> str:
    """Return the value of ``data.modality`` as it is typed for Hydra."""
    names = [name or "''" for name in modality]
    return names[0] if len(names) == 1 else f"[{','.join(names)}]"
