"""One self-contained page of explained films: what the detector looked at, and how far that can be believed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path

from cxr.explain.record import ExplainedFilm, read_records
from cxr.explain.scores import ScoreRow
from cxr.files import write_whole
from cxr.findings import NORMAL, FindingVocabulary
from cxr.fonts.page import font_face
from cxr.report.explain_cards import HEAT_TABLE, OUTCOMES, card, pairs
from cxr.report.explain_figures import LEVELS
from cxr.report.explain_tables import sanity_section, scores_section, trust_section
from cxr.report.methods import in_order, method_text
from cxr.report.words import words

_Say = Mapping[str, str]


@dataclass(frozen=True)
class NotShown:
    """A line for each film without maps: it cannot be read, it failed, or the detector may not speak of it."""

    unreadable: Sequence[str] = ()
    failed: Sequence[str] = ()
    refused: Sequence[str] = ()


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

    Args:
        run: a folder with records (``cxr.explain.record``).
        findings: their vocabulary.
        rows: how good the maps are; may be empty.
        about: what the model and the data were, heading → text.
        not_shown: the films without maps, which are named by pseudonyms and numbers.
        sanity: method → part of the detector, from the scores downwards → rank correlation of the maps with those of
            the trained detector once everything down to that part is randomised; may be empty, NaN where not measured.
        language: ``en`` or ``zh``.
    """
    say = words(language)
    films = list(read_records(run))
    methods = in_order({method for _, record in films for box in record.boxes for method in box.maps})
    cards = [card(i, *film, methods, findings, language) for i, film in enumerate(films)]
    body = [
        f"<h1>{say['title']}</h1><p class=warning>{say['research']}</p>{_contents(say)}",
        f"<main><section id=films><h2>{say['films']}</h2>",
        _controls(methods, [record for _, record in films], findings, language) if films else "",
        f"<div class=films>{''.join(cards)}</div>" if films else f"<p>{say['no_films']}</p>",
        "</section>",
        scores_section(rows, findings, language),
        trust_section(methods, language),
        sanity_section(sanity, language),
        _about(about, not_shown, say),
        "</main>",
    ]
    path = run / "index.html"
    write_whole(path, _document(say["title"], "\n".join(body), language))
    return path


def _document(title: str, body: str, language: str) -> str:
    assets = files("cxr.report") / "assets"
    style = (assets / "explain.css").read_text(encoding="utf-8")
    script = (assets / "explain.js").read_text(encoding="utf-8")
    return f"""<!doctype html>
<html lang="{"zh-Hant" if language == "zh" else "en"}"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">
<title>{title}</title><style>{style}{font_face(title + body)}</style></head>
<body>
{body}
<script>{script}</script></body></html>
"""


def _contents(say: _Say) -> str:
    parts = ("films", "scores", "trust", "sanity", "about")
    return f"<nav>{''.join(f'<a href=#{part}>{say[part]}</a>' for part in parts)}</nav>"


def _controls(
    methods: Sequence[str], records: Sequence[ExplainedFilm], findings: FindingVocabulary, language: str
) -> str:
    say = words(language)
    texts = {method: method_text(method, language) for method in methods}
    radios = "".join(
        f"<label class=chip><input type=radio name=method value='{escape(method)}'{' checked' if i == 0 else ''}>"
        f"{f'<kbd>{i + 1}</kbd>' if i < 9 else ''}{escape(text.name)}</label>"
        for i, (method, text) in enumerate(texts.items())
    )
    explained = "".join(
        f"<p class=method-text data-method='{escape(method)}'{' hidden' if i else ''}>{escape(text.explained)} "
        f"<strong>{escape(text.trust)}</strong></p>"
        for i, (method, text) in enumerate(texts.items())
    )
    seen = dict.fromkeys(pair for record in records for pair in pairs(record))
    names = [name for name in (NORMAL, *findings.names) if name in {finding for finding, _ in seen}]
    outcomes = [key for key in OUTCOMES if key in {outcome for _, outcome in seen}]
    by_finding = {name: findings.label(name, language) for name in names}
    return f"""<div class=controls role=group aria-label="{say["controls"]}">
<fieldset class="row methods"><legend>{say["method"]} ({say["keys"]})</legend>{radios}</fieldset>
<div class=row>
<label>{say["opacity"]}<input type=range id=opacity min=0 max=100 step=5 value=80>
<output id=opacity-value for=opacity>80 %</output></label>
<label><input type=checkbox id=truth checked><span class=stroke></span>{say["show_truth"]}</label>
<label><input type=checkbox id=predicted checked><span class="stroke dashed"></span>{say["show_predicted"]}</label>
{_select("finding", say["finding"], by_finding, say)}
{_select("outcome", say["outcome"], {key: say[OUTCOMES[key]] for key in outcomes}, say)}
<span id=count role=status class=quiet data-text="{say["shown"]}"></span>
</div></div>
<p class=key><span>0 <span class=bar style="background-image:{_gradient()}"></span> 1
{say["scale"]}</span><span><span class="stroke dotted"></span>{say["suppressed"]}</span></p>
<div aria-live=polite>{explained}</div>"""


def _select(name: str, label: str, options: Mapping[str, str], say: _Say) -> str:
    choices = "".join(f"<option value='{escape(key)}'>{escape(text)}</option>" for key, text in options.items())
    return f"<label>{label}<select id={name}><option value=''>{say['all']}</option>{choices}</select></label>"


def _gradient() -> str:
    """The overlay's colours with their own opacity, as they look over a film."""
    stops = (f"rgba({r},{g},{b},{a / 255:.2f})" for r, g, b, a in HEAT_TABLE[:: LEVELS // 16].tolist())
    return f"linear-gradient(90deg,{','.join(stops)})"


def _about(about: Mapping[str, str], not_shown: NotShown, say: _Say) -> str:
    lines = "".join(f"<dt>{escape(heading)}</dt><dd>{escape(text)}</dd>" for heading, text in about.items())
    listed = "".join(
        f"<h3>{say[heading]} ({len(films)})</h3><ul>{''.join(f'<li>{escape(line)}</li>' for line in films)}</ul>"
        for heading, films in (
            ("refused", not_shown.refused),
            ("failed", not_shown.failed),
            ("unreadable", not_shown.unreadable),
        )
        if films
    )
    listed = listed or f"<p class=quiet>{say['all_read']}</p>"
    return f"<section id=about><h2>{say['about']}</h2><dl>{lines}</dl>{listed}</section>"
