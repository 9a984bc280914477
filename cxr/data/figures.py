"""Films with their marks, a row for each category: ``python -m cxr.data.figures ROOT OUT.png [--language zh]``."""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from cxr.data.film import Film
from cxr.data.sources.layouts import read_films, read_vocabulary, vocabulary_of
from cxr.findings import NORMAL, FindingVocabulary
from cxr.fonts import figure_font
from cxr.palette import colour
from cxr.read.cache import CachedFilm, FilmCache
from cxr.read.dicom import ReadError
from cxr.read.film_text import without_film_text
from cxr.read.intensity import Intensity, VoiWindow

_LINES = ("-", "--", "-.", ":")  # colour alone does not tell findings apart for every eye, nor in print


def marks_figure(
    films: Sequence[Film],
    findings: FindingVocabulary,
    cache: FilmCache,
    columns: int = 5,
    language: str = "en",
    seed: int = 0,
) -> Figure:
    """Return a figure with a row of ``columns`` films, drawn at random, for normal and each finding that is there.

    A film shows all its boxes; those of its row's finding are bold. Unreadable films are passed over.
    """
    rows = [
        (name, some)
        for name in (NORMAL, *findings.names)
        if (some := [film for film in films if (film.normal if name == NORMAL else name in film.findings)])
    ]
    figure = Figure(figsize=(2.4 * columns, 2.55 * len(rows) + 0.6), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)  # draws to memory, and leaves pyplot's global state alone
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for axes, (name, some) in zip(grid, rows, strict=True):
        axes[0].set_title(f"{findings.label(name, language)} · {len(some)}", loc="left", fontproperties=figure_font())
        for place in axes:
            place.set_axis_off()
        order = np.random.default_rng(seed).permutation(len(some))
        for place, (film, cached) in zip(axes, _readable((some[i] for i in order), cache), strict=False):
            _draw(place, film, cached, findings, name)
    marked = [name for name, _ in rows if name != NORMAL]
    keys = [Line2D([], [], label=findings.label(name, language), **_style(findings, name)) for name in marked]
    figure.legend(handles=keys, loc="outside lower center", ncols=4, prop=figure_font(), frameon=False)
    return figure


def _readable(films: Iterator[Film], cache: FilmCache) -> Iterator[tuple[Film, CachedFilm]]:
    for film in films:
        try:
            yield film, cache.get(film.path)
        except ReadError:
            continue


def _draw(place: Axes, film: Film, cached: CachedFilm, findings: FindingVocabulary, row: str) -> None:
    # extent: the axes count in original pixels, whatever the size of the picture
    picture = without_film_text(np.asarray(cached.pixels >> 8, np.uint8), film.path)
    place.imshow(picture, cmap="gray", vmin=0, vmax=255, extent=(0, cached.width, cached.height, 0))
    for finding, (x0, y0, x1, y1) in zip(film.findings, film.boxes, strict=True):
        style = _style(findings, finding) | {"linewidth": 2.0 if finding == row else 1.0}
        place.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, **style))


def _style(findings: FindingVocabulary, name: str) -> dict[str, Any]:
    index = findings.names.index(name)
    return {"color": colour(findings, name), "linestyle": _LINES[index % len(_LINES)]}


def main(prog: str = "python -m cxr.data.figures") -> None:
    """Read the command line and draw."""
    parser = argparse.ArgumentParser(prog=prog, description=__doc__)
    parser.add_argument("root", type=Path, help="a data set in the course layout, or with a COCO json")
    parser.add_argument("out", type=Path, help="the picture to write; .png, .pdf or .svg")
    parser.add_argument("--findings", type=Path, help="the vocabulary (default: that of the layout)")
    parser.add_argument("--language", choices=("en", "zh"), default="en")
    parser.add_argument("--columns", type=int, default=5, help="films a category (default %(default)s)")
    parser.add_argument("--cache", type=Path, default=Path(".cache/films"), help="decoded films (default %(default)s)")
    given = parser.parse_args()
    if given.columns < 1:
        parser.error(f"--columns is {given.columns}, expected at least 1")
    try:
        findings = read_vocabulary(given.findings) if given.findings else vocabulary_of(given.root)
        films = read_films(given.root, findings)
    except (OSError, ValueError) as error:
        parser.exit(2, f"{error}\n")
    cache = FilmCache(given.cache, Intensity([VoiWindow()]), size=512)
    marks_figure(films, findings, cache, given.columns, given.language).savefig(given.out, dpi=120)


if __name__ == "__main__":
    main()
