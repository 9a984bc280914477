"""Which source brings which finding: where the two go together, a detector may learn the hospital and not the disease.

Zech et al. 2018 (PLoS Medicine 15:e1002683) and DeGrave, Janizek and Lee 2021 (Nature Machine Intelligence 3:610) show
it on chest films: what a scanner or a hospital leaves in a film tells its label well where the labels differ by source.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cxr.data.film import Film
from cxr.findings import NORMAL

_STRONG = 0.3  # Cramér's V; a medium effect by Cohen 1988
_EXPECTED = 5  # films: fewer may be missing by chance (Cochran 1954)


@dataclass(frozen=True)
class SourceCount:
    """Films of a source that tell of a finding, those of them that bear it, and its boxes."""

    told: int
    films: int
    boxes: int

    @property
    def share(self) -> float:
        """Share of the films that tell of it which bear it, 0..1."""
        return self.films / self.told if self.told else 0.0


def count_sources(films: Sequence[Film], findings: Sequence[str]) -> dict[str, dict[str, SourceCount]]:
    """Return the counts by source and finding, with "normal" at last: told of by normal films and those with boxes."""
    by_source = {name: [film for film in films if film.source == name] for name in sorted({f.source for f in films})}
    return {
        name: {finding: _count(some, finding) for finding in findings} | {NORMAL: _count_normal(some)}
        for name, some in by_source.items()
    }


def entangled(counts: Mapping[str, Mapping[str, SourceCount]]) -> list[str]:
    """Return a text for each finding that goes together with a source, for ``counts`` of several sources.

    Judged are the sources that tell of a finding: those that do not cannot mislead, as their films are no negatives.
    A finding is entangled where Cramér's V of (borne, source) is 0.3 or more, or where one source alone has it and the
    others should have five films of it or more, were it as frequent there.
    """
    names = next(iter(counts.values()), {})
    return [text for name in names if (text := _entangled(name, {s: of[name] for s, of in counts.items()}))]


def cramers_v(table: Sequence[tuple[int, int]]) -> float | None:
    """Return Cramér's V (1946), 0..1, of a table with a row (with, without) a source; None where a sum is 0."""
    columns = [sum(row[i] for row in table) for i in (0, 1)]
    total = sum(columns)
    if len(table) < 2 or not all(columns) or not all(sum(row) for row in table):
        return None
    expected = [[sum(row) * column / total for column in columns] for row in table]
    chi2 = sum((row[i] - e[i]) ** 2 / e[i] for row, e in zip(table, expected, strict=True) for i in (0, 1))
    return math.sqrt(chi2 / total)


def _entangled(finding: str, counts: Mapping[str, SourceCount]) -> str:
    told = {source: count for source, count in counts.items() if count.told}
    v = cramers_v([(count.films, count.told - count.films) for count in told.values()])
    if v is None:
        return ""
    bearing = [count for count in told.values() if count.films]
    others = sum(count.told for count in told.values()) - bearing[0].told
    alone = len(bearing) == 1 and bearing[0].share * others >= _EXPECTED
    if v < _STRONG and not alone:
        return ""
    shares = ", ".join(f"{source} {c.share:.0%} of {c.told}" for source, c in told.items())
    return f"{finding}: {shares}; Cramér's V {v:.2f}"


def _count(films: Sequence[Film], finding: str) -> SourceCount:
    told = [film for film in films if film.tells_of(finding) or finding in film.findings]
    bearing = [film for film in told if finding in film.findings]
    return SourceCount(len(told), len(bearing), sum(film.findings.count(finding) for film in bearing))


def _count_normal(films: Sequence[Film]) -> SourceCount:
    normal = sum(film.normal for film in films)
    return SourceCount(normal + sum(bool(film.findings) for film in films), normal, 0)
