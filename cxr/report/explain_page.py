"""The page of explained films: what the detector looked at, and how far that can be believed."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cxr.explain.record import ExplainedFilm, read_records
from cxr.explain.scores import ALL, BASELINES, FIGURES, ScoreRow
from cxr.findings import NORMAL, FindingVocabulary
from cxr.report.explain_cards import HEAT_TABLE, OUTCOMES, film_card, pairs
from cxr.report.methods import in_order, method_text
from cxr.report.overlays import LEVELS
from cxr.report.page import NotShown, Row, write_page
from cxr.report.words import words


def explain_page(
    run: Path,
    findings: FindingVocabulary,
    rows: Sequence[ScoreRow],
    about: Mapping[str, str],
    not_shown: NotShown,
    sanity: Mapping[str, Mapping[str, float]],
    language: str = "en",
) -> Path:
    """Write ``index.html`` of a run: one file that needs no network and shows pseudonyms only.

    ``run`` is a folder with records (``cxr.explain.record``); ``rows``, how good the maps are, may be empty; ``about``
    says what the model and the data were, heading → text. ``sanity`` is method → part of the detector, from the scores
    downwards → rank correlation of the maps with those of the trained detector once everything down to that part is
    randomised; it may be empty, and NaN where not measured. ``language`` is ``en`` or ``zh``.
    """
    films = list(read_records(run))
    methods = in_order({method for _, record in films for box in record.boxes for method in box.maps})
    return write_page(
        run / "index.html",
        "explain.html",
        language,
        films=[film_card(i, *film, methods, findings, language) for i, film in enumerate(films)],
        methods={method: method_text(method, language) for method in methods},
        gradient=_gradient(),
        **_choices([record for _, record in films], findings, language),
        scores=_scores(rows, findings, language) if rows else None,
        sanity=_sanity(sanity, language),
        about=about,
        not_shown=not_shown,
    )


def _choices(records: Sequence[ExplainedFilm], findings: FindingVocabulary, language: str) -> dict[str, Any]:
    """What the filters offer: the findings and the outcomes that a film has."""
    say = words(language)
    present, outcomes = ({pair[i] for record in records for pair in pairs(record)} for i in (0, 1))
    return {
        "finding_choices": {n: findings.label(n, language) for n in (NORMAL, *findings.names) if n in present},
        "outcome_choices": {key: say[word] for key, word in OUTCOMES.items() if key in outcomes},
    }


def _gradient() -> str:
    """The overlay's colours with their own opacity, as they look over a film."""
    stops = (f"rgba({r},{g},{b},{a / 255:.2f})" for r, g, b, a in HEAT_TABLE[:: LEVELS // 16].tolist())
    return f"linear-gradient(90deg,{','.join(stops)})"


def _scores(rows: Sequence[ScoreRow], findings: FindingVocabulary, language: str) -> dict[str, Any]:
    """The means over findings with what they mean, and the hit rates by finding."""
    say = words(language)
    cells = {(row.method, row.figure, row.finding): row for row in rows}
    methods = in_order({row.method for row in rows})
    figures = {
        key: f"{say[f'fig_{key}']} {arrow}" for key, arrow in FIGURES.items() if any(k == key for _, k, _ in cells)
    }
    hits = {name: [cells[m, "hit", name] for m in methods if (m, "hit", name) in cells] for name in findings.names}
    counted = {name: max(rows, key=lambda row: row.boxes) for name, rows in hits.items() if rows}
    return {
        "figures": list(figures.values()),
        "meaning": [(heading, say[f"says_{key}"]) for key, heading in figures.items()],
        "means": [_row(m, [_with_interval(cells.get((m, key, ALL))) for key in figures], language) for m in methods],
        "findings": [
            f"{findings.label(name, language)}\n{say['boxes'].format(boxes=row.boxes, patients=row.patients)}"
            for name, row in counted.items()
        ],
        "hits": [_row(m, [_with_interval(cells.get((m, "hit", n))) for n in counted], language) for m in methods],
    }


def _sanity(sanity: Mapping[str, Mapping[str, float]], language: str) -> dict[str, Any]:
    parts = list(dict.fromkeys(part for values in sanity.values() for part in values))
    lines = {method: [sanity[method].get(part, math.nan) for part in parts] for method in in_order(sanity)}
    shown = {m: [f"{value:.2f}" if math.isfinite(value) else "–" for value in values] for m, values in lines.items()}
    return {"columns": parts, "rows": [_row(method, cells, language) for method, cells in shown.items()]}


def _row(method: str, cells: Sequence[str], language: str) -> Row:
    return Row(method_text(method, language).name, cells, "baseline" if method in BASELINES else "")


def _with_interval(row: ScoreRow | None) -> str:
    if row is None or math.isnan(row.value):
        return "–"
    return f"{row.value:.2f}" + ("" if math.isnan(row.low) else f"\n[{row.low:.2f}–{row.high:.2f}]")
