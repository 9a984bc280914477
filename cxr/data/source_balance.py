"""Checks whether findings depend on the source of the films: a detector may then learn the hospital, not the disease.

Zech et al. 2018 (PLoS Medicine 15:e1002683) and DeGrave, Janizek and Lee 2021 (Nature Machine Intelligence 3:610) show
this on chest films: if labels differ by source, traces of the scanner or the hospital in a film predict its label.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cxr.data.film import Film
from cxr.findings import NORMAL

_STRONG = 0.3  # Cramér's V; a medium effect by Cohen 1988
_EXPECTED = 5  # films; if fewer are expected, there may be none by chance (Cochran 1954)


@dataclass(frozen=True)
class SourceCount:
    """Counts of a source for one finding: films that are labelled for it, films that have it, and its boxes."""

    labelled: int
    films: int
    boxes: int

    @property
    def share(self) -> float:
        """Share of the labelled films that have the finding, 0..1."""
        return self.films / self.labelled if self.labelled else 0.0


def count_sources(films: Sequence[Film], findings: Sequence[str]) -> dict[str, dict[str, SourceCount]]:
    """Return the counts by source and finding, and last those of "normal".

    Normal films and films with boxes count as labelled for "normal".
    """
    by_source = {name: [film for film in films if film.source == name] for name in sorted({f.source for f in films})}
    return {
        name: {finding: _count(some, finding) for finding in findings} | {NORMAL: _count_normal(some)}
        for name, some in by_source.items()
    }


def entangled(counts: Mapping[str, Mapping[str, SourceCount]]) -> list[str]:
    """Return a text for each finding that depends on the source, for ``counts`` of several sources.

    Only sources that are labelled for a finding are compared; films of the others are not negative for it, so they
    cannot mislead. A finding is entangled if Cramér's V of (has the finding, source) is 0.3 or more. It is so too if
    only one source has it, although at the same frequency the others would have five films of it or more.
    """
    names = next(iter(counts.values()), {})
    return [text for name in names if (text := _entangled(name, {s: of[name] for s, of in counts.items()}))]


def cramers_v(table: Sequence[tuple[int, int]]) -> float | None:
    """Return Cramér's V (1946), 0..1, of a table with a row (with, without) for each source; None where a sum is 0."""
    columns = [sum(row[i] for row in table) for i in (0, 1)]
    total = sum(columns)
    if len(table) < 2 or not all(columns) or not all(sum(row) for row in table):
        return None
    expected = [[sum(row) * column / total for column in columns] for row in table]
    chi2 = sum((row[i] - e[i]) ** 2 / e[i] for row, e in zip(table, expected, strict=True) for i in (0, 1))
    return math.sqrt(chi2 / total)


def _entangled(finding: str, counts: Mapping[str, SourceCount]) -> str:
    labelled = {source: count for source, count in counts.items() if count.labelled}
    v = cramers_v([(count.films, count.labelled - count.films) for count in labelled.values()])
    if v is None:
        return ""
    positive = [count for count in labelled.values() if count.films]
    others = sum(count.labelled for count in labelled.values()) - positive[0].labelled
    alone = len(positive) == 1 and positive[0].share * others >= _EXPECTED
    if v < _STRONG and not alone:
        return ""
    shares = ", ".join(f"{source} {c.share:.0%} of {c.labelled}" for source, c in labelled.items())
    return f"{finding}: {shares}; Cramér's V {v:.2f}"


def _count(films: Sequence[Film], finding: str) -> SourceCount:
    labelled = [film for film in films if film.looked_for(finding) or finding in film.findings]
    positive = [film for film in labelled if finding in film.findings]
    return SourceCount(len(labelled), len(positive), sum(film.findings.count(finding) for film in positive))


def _count_normal(films: Sequence[Film]) -> SourceCount:
    normal = sum(film.normal for film in films)
    return SourceCount(normal + sum(bool(film.findings) for film in films), normal, 0)
