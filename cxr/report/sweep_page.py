"""One self-contained page of a sweep: its table, what went wrong, its plots, and the command of its best run."""

import io
from html import escape
from importlib.resources import files
from pathlib import Path

from matplotlib.figure import Figure

from cxr.files import write_whole
from cxr.fonts.page import font_face
from cxr.report.explain_cards import data_uri
from cxr.report.sweep_figures import sweep_figures
from cxr.report.sweep_jobs import Sweep
from cxr.report.sweep_tables import counts, headings, problems, rows

_DPI = 110
_READABLE = 0.62  # of its size, a figure's letters can still be read; on a narrower page it scrolls
_STYLE = """
.plot { display: block; width: 100%; margin: 14px 0 4px; border-radius: 6px; }
th, td { text-align: left; } thead th { white-space: nowrap; }
tr.mean td { font-weight: 600; border-top: 1px solid var(--quiet); }
pre { background: var(--raised); border-radius: 6px; padding: 12px; white-space: pre-wrap;
  font: 13.5px cxr, monospace; }
"""

# Name of a figure → its heading, and what it shows in words.
_FIGURES = {
    "values": (
        "Score against each swept value",
        "A dot is a completed job, a cross a pruned one. White are the means of the jobs with the same value,"
        " whatever their other settings: they show a trend only where these are balanced.",
    ),
    "parallel": (
        "All settings of a job at once",
        "A line is a completed job: it passes each axis at its value and ends at its score. The brighter, the higher.",
    ),
    "curves": (
        "Learning curves",
        "A line a job; jobs that differ in their seed alone share a colour. Dashed lines belong to jobs that did not"
        " complete. A curve that still rises at its end wants more epochs.",
    ),
}


def sweep_page(path: Path, sweep: Sweep, best: str) -> None:
    """Write the page to ``path``, one file that needs no network; ``best`` is the best run's command, or ""."""
    body = "\n".join(
        (
            f"<h1>Sweep {escape(sweep.name)}</h1>",
            f"<p>{escape(counts(sweep))}. The score is the best epoch's <b>{escape(sweep.monitor)}</b>.</p>",
            "<p class=warning>The best of many jobs looks better than it is: its score was chosen on the films it was"
            " measured on. Evaluate it on others before you believe it.</p>",
            _table(sweep),
            _problems(sweep),
            _again(best),
            *(_plot(name, figure) for name, figure in sweep_figures(sweep).items()),
        )
    )
    style = (files("cxr.report") / "assets" / "explain.css").read_text(encoding="utf-8")
    page = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">
<title>Sweep {escape(sweep.name)}</title><style>{style}{_STYLE}{font_face(body)}</style></head>
<body>
{body}
</body></html>
"""
    write_whole(path, page)


def _table(sweep: Sweep) -> str:
    head = "".join(f"<th scope=col>{escape(heading)}</th>" for heading in headings(sweep))
    body = "".join(
        f"<tr{' class=mean' if row.mean else ''}>{''.join(f'<td>{escape(cell)}</td>' for cell in row.cells)}</tr>"
        for row in rows(sweep)
    )
    shared = f"<p class=quiet>The same in all: {escape(' '.join(sweep.shared))}</p>" if sweep.shared else ""
    several = any(row.mean for row in rows(sweep))
    note = (
        "<p class=quiet>± is the standard deviation over seeds (n − 1), of the n completed ones.</p>" if several else ""
    )
    return (
        f"<h2>Jobs, the best first</h2>{shared}<div class=scroll role=region tabindex=0 aria-label=jobs>"
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>{note}"
    )


def _problems(sweep: Sweep) -> str:
    listed = "".join(f"<dt>{escape(job)}</dt><dd>{escape(why)}</dd>" for job, why in problems(sweep))
    return f"<h2>Jobs that did not complete</h2><dl>{listed}</dl>" if listed else ""


def _again(best: str) -> str:
    if not best:
        return "<p><strong>No job has completed: there is no best run.</strong></p>"
    return f"<h2>The best run again</h2><pre>{escape(best)}</pre>"


def _plot(name: str, figure: Figure) -> str:
    heading, words = _FIGURES[name]
    out = io.BytesIO()
    figure.savefig(out, dpi=_DPI, format="png")
    width = figure.get_figwidth() * _DPI
    size = f"min-width:{_READABLE * width:.0f}px;max-width:{width:.0f}px"
    return (
        f"<h2>{heading}</h2><p>{words}</p><div class=scroll role=region tabindex=0 aria-label='{escape(heading)}'>"
        f"<img class=plot style='{size}' alt='{escape(heading)}' src='{data_uri(out.getvalue(), 'image/png')}'></div>"
    )
