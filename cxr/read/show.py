"""A film before and after its intensity steps, with histograms: ``python -m cxr.read.show FILM OUT.png``."""

import argparse
from collections.abc import Callable
from math import log
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cxr.read.burnt_text import cover, text_boxes
from cxr.read.dicom import Radiograph, ReadError, read_film
from cxr.read.intensity import Intensity, LogWindow
from cxr.read.preprocessing import Preprocessing


def show_intensity(path: Path | str, out: Path | str, intensity: Preprocessing | None = None) -> None:
    """Draw a film as it is stored, its logarithm, and the film after ``intensity``; write the picture to ``out``.

    Several channels are drawn one by one. Under each picture is its histogram. The logarithm is
    -ln((1 + x) / 2^BitsStored) of the windowed values, before scaling and clipping. The title has the film's pseudonym;
    text burnt into the film is covered.
    The default of ``intensity`` is the course's log window. Raises ``ReadError`` for a film that cannot be read.
    """
    film = read_film(path)
    intensity = intensity or Intensity([LogWindow()])
    whole_log = film.bits_stored * log(2)  # -ln(1 / 2^BitsStored), the logarithm of the smallest value
    made = intensity(film)
    channels = made[None] if made.ndim == 2 else made
    columns = (
        (f"original: {film.photometric_interpretation}, {film.bits_stored} bit", "value", film.values()),
        ("logarithm", "-ln((1 + x) / 2^BitsStored)", LogWindow(whole_log)(film.values(), film) * whole_log),
        *((f"normalised{number}", intensity.fingerprint(), channel) for number, channel in _numbered(channels)),
    )
    figure = Figure(figsize=(4.3 * len(columns), 7.5), layout="constrained")
    FigureCanvasAgg(figure)  # draws to memory, without pyplot's global state
    figure.suptitle(_title(film))
    text = text_boxes(film.display())
    for column, (title, unit, values) in enumerate(columns):
        _draw(figure, (column, len(columns)), title, unit, cover(np.asarray(values, np.float32), text))
    figure.savefig(out, dpi=110, format="png")


def _numbered(channels: NDArray[np.float32]) -> list[tuple[str, NDArray[np.float32]]]:
    return [(f", channel {n}" if len(channels) > 1 else "", channel) for n, channel in enumerate(channels, start=1)]


def _draw(figure: Figure, place: tuple[int, int], title: str, unit: str, values: NDArray[np.float32]) -> None:
    column, columns = place
    step = max(1, max(values.shape) // 1000)  # the picture has fewer than a thousand points on a side
    picture = figure.add_subplot(3, columns, (column + 1, column + 1 + columns))
    picture.imshow(values[::step, ::step], cmap="gray", interpolation="antialiased")
    picture.set_title(title)
    picture.set_axis_off()
    histogram = figure.add_subplot(3, columns, column + 1 + 2 * columns)
    counts, _, _ = histogram.hist(values.ravel(), bins=128, color="#4c72b0")
    # The bars of saturated pixels may be cut off; otherwise they would make all others too small to see
    histogram.set(xlabel=unit, yticks=[], ylim=(0, 1.1 * np.percentile(counts, 98) or None))
    histogram.spines[["top", "left", "right"]].set_visible(False)


def _title(film: Radiograph) -> str:
    height, width = film.pixels.shape
    about = (film.modality, film.body_part, film.view_position, f"{width} × {height} px", film.study)
    return " · ".join(part for part in about if part)


def main(prog: str = "python -m cxr.read.show", steps_of: Callable[[str], Preprocessing] | None = None) -> None:
    """Draw the film named on the command line.

    ``steps_of`` returns the intensity of a name in conf/intensity/, for ``--intensity``. Where it is None, there is no
    such word, since only a run may read these files.
    """
    parser = argparse.ArgumentParser(prog=prog, description="A film before and after its intensity, with histograms.")
    parser.add_argument("film", type=Path, help="a DICOM, PNG, JPEG or TIFF file")
    parser.add_argument("out", type=Path, help="the PNG to write")
    if steps_of is not None:
        parser.add_argument("--intensity", metavar="NAME", help="of conf/intensity/ (default: log_window)")
    arguments = parser.parse_args()
    name = getattr(arguments, "intensity", None)
    try:
        intensity = steps_of(name) if steps_of is not None and name is not None else None
    except ValueError as error:
        parser.exit(2, f"{error}\n")
    try:
        show_intensity(arguments.film, arguments.out, intensity)
    except ReadError as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
