"""Draws films with and without bones and vessels side by side, after the test of a run or from the shell.

python -m cxr.suppress.pictures [--drawn N] CHECKPOINT OUT [FILM…]
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from cxr.data.layers import LayeredDataModule
from cxr.phantom.layers import PARTS
from cxr.read.burnt_text import cover, text_boxes
from cxr.read.dicom import ReadError, read_film
from cxr.read.intensity import Intensity, LogWindow
from cxr.suppress.step import Suppressed, Suppressor, read_suppressor

_COLOURS = ("#ffd166", "#4cc9f0", "#ff6b6b")  # one for each of PARTS
_INCHES = 2.4  # side of a picture

Picture = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Row:
    """One film: its name, pictures [h, w] in 0..1 by heading, and masks bool [3, h, w] of ``PARTS``."""

    name: str
    pictures: Mapping[str, Picture]
    masks: NDArray[np.bool_]


class SuppressionPictures(Callback):
    """After the test, draw ``films`` test films to ``path``: film, suppressed, truth, what was removed, and masks."""

    def __init__(self, path: str, films: int = 6) -> None:
        self.path = Path(path)
        self.films = films
        self._rows: list[Row] = []

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *args: Any, **kwargs: Any
    ) -> None:
        """Keep films of the batch until ``films`` are kept."""
        maps = {**batch, **{f"made {name}": value for name, value in outputs["measured"].items()}}
        films = (dict(zip(maps, film, strict=True)) for film in zip(*maps.values(), strict=True))
        first = len(self._rows)
        self._rows += [_row(f"film {i}", film) for i, film in enumerate(islice(films, self.films - first), first)]

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the picture."""
        if trainer.is_global_zero:
            draw(self._rows, self.path)
        self._rows = []


def _row(name: str, film: Mapping[str, Tensor]) -> Row:
    valid = film["valid"][0]
    height, width = int(valid[:, 0].sum()), int(valid[0].sum())
    cut = {key: value[:, :height, :width].float().cpu().numpy() for key, value in film.items()}
    pictures = {
        "film": cut["film"][0],
        "suppressed": cut["made suppressed"][0],
        "drawn without": cut["film"][0] - cut["residual"][0],
        "taken off × 3": np.clip(3 * cut["made residual"][0], 0, 1),
    }
    return Row(name, pictures, cut["made masks"] > 0.5)


def draw(rows: Sequence[Row], path: Path) -> None:
    """Write a figure with one row for each film, which ends with the masks on the film. ``path`` may be PNG or JPEG.

    In all pictures of a row, white is the value below which 99.5 % of the film's pixels are.
    """
    headings = list(dict.fromkeys(heading for row in rows for heading in row.pictures))
    columns = len(headings) + 1
    figure = Figure(figsize=(_INCHES * columns, _INCHES * len(rows)), layout="constrained")
    places = figure.subplots(len(rows), columns, squeeze=False)
    for axes, row in zip(places, rows, strict=True):
        white = max(1e-3, float(np.percentile(row.pictures["film"], 99.5)))
        shown = {**row.pictures, " · ".join(PARTS): row.pictures["film"]}
        for place, heading in zip(axes, [*headings, " · ".join(PARTS)], strict=True):
            place.set_axis_off()
            if row is rows[0]:
                place.set_title(heading, fontsize=9)
            if heading in shown:
                place.imshow(shown[heading], cmap="gray", vmin=0, vmax=white, interpolation="antialiased")
        for mask, colour in zip(row.masks, _COLOURS, strict=True):
            if mask.any() and not mask.all():
                axes[-1].contour(mask, [0.5], colors=colour, linewidths=0.8)
        axes[0].text(4, 4, row.name, color="white", fontsize=7, va="top")
    figure.savefig(path, dpi=100)


def show_films(checkpoint: Path, out: Path, films: Sequence[Path], drawn: int = 0) -> None:
    """Draw films before and after ``Suppressed`` to ``out``: the first ``drawn`` test films of seed 0, then ``films``.

    ``films`` go through the log window and have their pseudonyms as names. Raises ``ReadError`` for a film that cannot
    be read, ``ValueError`` for a checkpoint of another task.
    """
    step = Suppressed(str(checkpoint))
    suppressor = read_suppressor(str(checkpoint), step.digest)
    rows = [_drawn(index, suppressor) for index in range(drawn)]
    for path in films:
        film = read_film(path)
        picture = Intensity([LogWindow()])(film)
        layers = suppressor(picture)
        pictures = {
            "film": picture,
            "suppressed": step(picture, film),
            "taken off × 3": np.clip(3 * layers.residual, 0, 1),
        }
        text = text_boxes(picture)
        pictures = {heading: cover(shown, text) for heading, shown in pictures.items()}
        rows.append(Row(film.study, pictures, np.stack([layers.masks[part] for part in PARTS])))
    draw(rows, out)


@torch.inference_mode()
def _drawn(index: int, suppressor: Suppressor) -> Row:
    data = LayeredDataModule(Intensity([LogWindow()]), suppressor.size, test_films=index + 1)
    data.setup()
    film = data.dataset("test")[index]
    residual, logits = suppressor.network(film["film"][None])
    suppressed = (film["film"] - residual[0]).clamp(0, 1)
    return _row(
        f"drawn {index}",
        {**film, "made suppressed": suppressed, "made residual": residual[0], "made masks": logits[0].sigmoid()},
    )


def main() -> None:
    """Draw the films of the command line."""
    parser = argparse.ArgumentParser(prog="python -m cxr.suppress.pictures", description=__doc__)
    parser.add_argument("checkpoint", type=Path, help="of python train.py experiment=suppress")
    parser.add_argument("out", type=Path, help="the PNG or JPEG to write")
    parser.add_argument("films", type=Path, nargs="*", help="DICOM, PNG, JPEG or TIFF files")
    parser.add_argument("--drawn", type=int, default=0, help="test films of experiment=suppress, above the others")
    arguments = parser.parse_args()
    if not arguments.films and arguments.drawn < 1:
        parser.error("no film: name films, or type --drawn 3")
    try:
        show_films(arguments.checkpoint, arguments.out, arguments.films, arguments.drawn)
    except (ReadError, ValueError) as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
