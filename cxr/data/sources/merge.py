"""Joins films of several data sets under one vocabulary, with the name of each finding in each source.

A source may never have looked for some findings; its films are not labelled for these.
"""

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cxr.data.film import Film, Reading
from cxr.findings import FindingVocabulary
from cxr.installation import command
from cxr.read.dicom import pseudonym

_log = logging.getLogger(__name__)

_TYPE = f"{command('train')} data=merge data.read.sources.vindr.root=A data.read.sources.nih.root=B"


class MappingError(ValueError):
    """The error of a mapping with a finding that its source or the common vocabulary does not have."""


@dataclass(frozen=True)
class Source:
    """One of several data sets.

    Args:
        read: function of (root, findings) that returns films, such as ``read_vindr``.
        findings: vocabulary of the source.
        root: folder of the source; None leaves it out.
        mapping: {finding of the source: finding of the common vocabulary}; None if the names are the same.
        patients: a name; sources with the same name share patients. None if no other source has its patients.
    """

    read: Callable[[Path, FindingVocabulary], list[Film]]
    findings: FindingVocabulary
    root: Path | str | None = None
    mapping: Mapping[str, str] | None = None
    patients: str | None = None

    def mapped(self, name: str, findings: FindingVocabulary) -> dict[str, str]:
        """Return ``mapping`` in canonical names. Raises ``MappingError``, whose message has ``name`` of the source."""
        if self.mapping is None:
            return {finding: finding for finding in self.findings.names if finding in findings.names}
        for side, known, used in (
            ("source", self.findings, self.mapping.keys()),
            ("common vocabulary", findings, self.mapping.values()),
        ):
            if unknown := [label for label in used if not _knows(known, label)]:
                raise MappingError(
                    f"{name}.mapping names {', '.join(map(repr, unknown))}, which the {side} does not have. The source "
                    f"has {', '.join(self.findings.names)}; the common vocabulary has {', '.join(findings.names)}"
                )
        return {
            self.findings.canonical(finding): findings.canonical(common) for finding, common in self.mapping.items()
        }


@dataclass(frozen=True)
class Joined:
    """Films of all sources, and the number of dropped boxes of each source, by the source's names of findings."""

    films: list[Film]
    dropped: dict[str, Counter[str]]


def read_merge(
    root: Path | str, findings: FindingVocabulary, sources: Mapping[str, Source | Mapping[str, Any]]
) -> list[Film]:
    """Return the films of all sources whose root is given; boxes [N, 4] xyxy in original pixels, names of ``findings``.

    Boxes of findings that are not mapped are dropped. A film is labelled only for the findings that its source looked
    for. It is normal only if its source calls it normal and looked for all of ``findings``. A film that is labelled for
    no finding is left out. ``Film.source`` is the key of its source.

    Args:
        root: folder where relative roots of sources begin.
        findings: the common vocabulary.
        sources: name of each source → arguments of ``Source``.

    Raises ``ValueError`` if no source has a root, ``MappingError``, and the errors of the readers.
    """
    every = {name: one if isinstance(one, Source) else Source(**one) for name, one in sources.items()}
    joined = join(Path(root), findings, every)
    for name, dropped in joined.dropped.items():
        if dropped:
            listing = ", ".join(f"{finding} {count}" for finding, count in dropped.most_common())
            _log.warning("%s: %d boxes are of findings that are not mapped: %s.", name, dropped.total(), listing)
    return joined.films


def join(root: Path, findings: FindingVocabulary, sources: Mapping[str, Source]) -> Joined:
    """Return the films as ``read_merge`` does, and the numbers of dropped boxes."""
    mappings = {name: source.mapped(name, findings) for name, source in sources.items() if source.root is not None}
    if not mappings:
        raise ValueError(f"no source has a root, expected one at least of {', '.join(sources)}: {_TYPE}")
    joined = Joined([], {})
    for name, mapping in mappings.items():
        source = sources[name]
        films = source.read(root / str(source.root), source.findings)
        kept = [_under(film, name, source, mapping, findings) for film in films]
        joined.films.extend(film for film in kept if film.findings or film.labelled != frozenset())
        joined.dropped[name] = Counter(finding for film in films for finding in film.findings if finding not in mapping)
    return joined


def _under(film: Film, name: str, source: Source, mapping: Mapping[str, str], findings: FindingVocabulary) -> Film:
    """Return a film of a source under the common vocabulary."""
    kept = [i for i, finding in enumerate(film.findings) if finding in mapping]
    return replace(
        film,
        id=f"{name}/{film.id}",
        study=pseudonym(f"{name}/{film.study}"),
        patient=pseudonym(f"{source.patients or name}/{film.patient}"),
        boxes=film.boxes[kept],
        findings=tuple(mapping[film.findings[i]] for i in kept),
        readings=tuple(_reading(reading, mapping) for reading in film.readings),
        source=name,
        labelled=_labelled(film, bool(kept), mapping, findings),
    )


def _labelled(
    film: Film, has_boxes: bool, mapping: Mapping[str, str], findings: FindingVocabulary
) -> frozenset[str] | None:
    """Return the findings for which a film is labelled.

    Return None if these are all findings, and a film without boxes is normal.
    """
    # Several findings of a source may be one here. A film is labelled for it if it is labelled for each of them
    missing = {
        common for finding, common in mapping.items() if film.labelled is not None and finding not in film.labelled
    }
    labelled = frozenset(mapping.values()) - missing
    whole = labelled == frozenset(findings.names)
    return None if whole and (film.normal or has_boxes) else labelled


def _reading(reading: Reading, mapping: Mapping[str, str]) -> Reading:
    kept = [i for i, finding in enumerate(reading.findings) if finding in mapping]
    return Reading(reading.rater, reading.boxes[kept], tuple(mapping[reading.findings[i]] for i in kept))


def _knows(findings: FindingVocabulary, label: str) -> bool:
    try:
        return findings.index(label) > 0
    except ValueError:  # unknown, or the name of a normal film
        return False
