"""The page of a sweep: its table, what went wrong, its plots, and the command of its best run."""

from pathlib import Path

from matplotlib import rc_context

from cxr.report.page import write_page
from cxr.report.plots import DARK, png
from cxr.report.sweep_figures import sweep_figures
from cxr.report.sweep_jobs import Sweep
from cxr.report.sweep_tables import counts, headings, problems, rows
from cxr.report.words import words


@rc_context(DARK)
def sweep_page(path: Path, sweep: Sweep, best: str, language: str = "en") -> None:
    """Write the page to ``path``, one file that needs no network; ``best`` is the best run's command, or ""."""
    write_page(
        path,
        "sweep.html",
        language,
        sweep=sweep,
        counts=counts(sweep),
        columns=[*headings(sweep)[:-3], *words(language)["sweep"]["columns"]],
        rows=rows(sweep),
        problems=problems(sweep),
        best=best,
        plots={name: png(figure) for name, figure in sweep_figures(sweep).items()},
    )
