"""Tables of the page of explained films: how good the maps are, which to trust, and whether they follow the weights."""

import math
from collections.abc import Mapping, Sequence
from html import escape

from cxr.explain.scores import ALL, BASELINES, FIGURES, ScoreRow
from cxr.findings import FindingVocabulary
from cxr.report.methods import in_order, method_text
from cxr.report.words import words


def scores_section(rows: Sequence[ScoreRow], findings: FindingVocabulary, language: str) -> str:
    """Return the means over findings with what they mean, and the hit rates by finding."""
    say = words(language)
    head = f"<section id=scores><h2>{say['scores']}</h2>"
    if not rows:
        return f"{head}<p>{say['no_scores']}</p></section>"
    cells = {(row.method, row.figure, row.finding): row for row in rows}
    methods = in_order({row.method for row in rows})
    figures = [figure for figure in FIGURES if any(row.figure == figure for row in rows)]
    names = [name for name in findings.names if any((m, "hit", name) in cells for m in methods)]
    meaning = "".join(f"<dt>{say[f'fig_{key}']} {FIGURES[key]}</dt><dd>{say[f'says_{key}']}</dd>" for key in figures)
    means = _table(
        [f"{say[f'fig_{key}']} {FIGURES[key]}" for key in figures],
        {m: [_with_interval(cells.get((m, key, ALL))) for key in figures] for m in methods},
        say["scores"], language,
    )  # fmt: skip
    hits = _table(
        [f"{escape(findings.label(name, language))}{_counted(cells, methods, name, say)}" for name in names],
        {m: [_with_interval(cells.get((m, "hit", name))) for name in names] for m in methods},
        say["by_finding"], language,
    )  # fmt: skip
    return f"{head}<p>{say['scores_lead']}</p>{means}<dl>{meaning}</dl><h3>{say['by_finding']}</h3>{hits}</section>"


def _counted(
    cells: Mapping[tuple[str, str, str], ScoreRow], methods: Sequence[str], name: str, say: Mapping[str, str]
) -> str:
    row = max((cells[m, "hit", name] for m in methods if (m, "hit", name) in cells), key=lambda row: row.boxes)
    return f"<small>{say['boxes'].format(boxes=row.boxes, patients=row.patients)}</small>"


def _with_interval(row: ScoreRow | None) -> str:
    if row is None or math.isnan(row.value):
        return "–"
    interval = "" if math.isnan(row.low) else f" <small>[{row.low:.2f}–{row.high:.2f}]</small>"
    return f"{row.value:.2f}{interval}"


def _table(columns: Sequence[str], lines: Mapping[str, Sequence[str]], label: str, language: str) -> str:
    """A table of methods × columns of markup, which scrolls by itself where the page is narrow; baselines in grey."""
    head = "".join(f"<th scope=col>{column}</th>" for column in columns)
    body = "".join(
        f"<tr{' class=baseline' if method in BASELINES else ''}>"
        f"<th scope=row>{escape(method_text(method, language).name)}</th>"
        f"{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
        for method, cells in lines.items()
    )
    corner = words(language)["method"]
    return (
        f"<div class=scroll role=region tabindex=0 aria-label='{escape(label)}'><table><thead><tr>"
        f"<th scope=col>{corner}</th>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def trust_section(methods: Sequence[str], language: str) -> str:
    """Return what each method does and how far its map may be believed."""
    texts = [method_text(method, language) for method in methods]
    lines = "".join(f"<dt>{escape(t.name)}</dt><dd>{escape(t.explained)} {escape(t.trust)}</dd>" for t in texts)
    return f"<section id=trust><h2>{words(language)['trust']}</h2><dl>{lines}</dl></section>"


def sanity_section(sanity: Mapping[str, Mapping[str, float]], language: str) -> str:
    """Return the correlations of ``sanity``, method → part → value, with what they mean."""
    say = words(language)
    parts = list(dict.fromkeys(part for own in sanity.values() for part in own))
    lines = {
        method: [f"{own[part]:.2f}" if math.isfinite(own.get(part, math.nan)) else "–" for part in parts]
        for method, own in ((method, sanity[method]) for method in in_order(sanity))
    }
    table = _table([escape(part) for part in parts], lines, say["sanity"], language) if parts else ""
    lead = say["sanity_lead"] if parts else say["not_measured"]
    return f"<section id=sanity><h2>{say['sanity']}</h2><p>{lead}</p>{table}</section>"
