"""What is known of an explained film, and the folder that keeps it.

``films/<study>/`` holds ``film.jpg`` (the film as the eye sees it, longest side at most 1024), one 8-bit grey PNG a map
in original film pixels (255 = 1.0), and ``film.json``, which is written last: where it stands, the film is done.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cxr.files import read_mapping, write_json

Box = tuple[float, float, float, float]
RECORD = "film.json"
PICTURE = "film.jpg"

# hit: a true box of the finding lies under it at IoU 0.5 or more. suppressed: no detection, but the box the detector
# would have named next, shown for a film without detections.
Outcome = Literal["hit", "false alarm", "suppressed"]


@dataclass(frozen=True)
class Marked:
    """A box a reader marked: xyxy in original pixels."""

    finding: str
    box: Box


@dataclass(frozen=True)
class Explained:
    """A box of the detector and what each method says of it.

    Args:
        finding: canonical name.
        score: 0..1, the detector's.
        box: xyxy in original pixels.
        outcome: against the reader's marks.
        maps: method → file name of its map in the film's folder.
        notes: method → why its map must be read with care; "blind", to the finding, is the only reason so far.
        figures: method or baseline → figure → value, see ``cxr.explain.scores``. NaN is not stored: what could not be
            measured is absent.
        disagreement: 0..1 of the members of an ensemble about the box; None where one detector answers.
    """

    finding: str
    score: float
    box: Box
    outcome: Outcome
    maps: dict[str, str]
    notes: dict[str, str]
    figures: dict[str, dict[str, float]]
    disagreement: float | None = None


@dataclass(frozen=True)
class ExplainedFilm:
    """One film: its pseudonym, its original size in pixels, what was marked on it, and what was explained.

    ``truth_known`` is False for films that came as a folder, without marks.
    """

    study: str
    patient: str
    width: int
    height: int
    truth_known: bool
    truth: tuple[Marked, ...]
    boxes: tuple[Explained, ...]

    @property
    def missed(self) -> tuple[str, ...]:
        """Findings that were marked and for which no box is a hit."""
        hits = {box.finding for box in self.boxes if box.outcome == "hit"}
        return tuple(dict.fromkeys(mark.finding for mark in self.truth if mark.finding not in hits))

    def write(self, folder: Path) -> None:
        """Write ``film.json`` into the film's folder, whole or not at all."""
        write_json(folder / RECORD, asdict(self), allow_nan=False)


def read_film_record(folder: Path) -> ExplainedFilm:
    """Return what ``film.json`` of a film's folder holds."""
    fields = read_mapping(folder / RECORD)
    truth = tuple(Marked(mark["finding"], tuple(mark["box"])) for mark in fields.pop("truth"))
    boxes = tuple(Explained(**{**box, "box": tuple(box["box"])}) for box in fields.pop("boxes"))
    return ExplainedFilm(**fields, truth=truth, boxes=boxes)


def whole_record(folder: Path) -> ExplainedFilm | None:
    """Return the record of a film's folder; None where there is none, or where it is damaged."""
    if not (folder / RECORD).exists():
        return None
    try:
        return read_film_record(folder)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def read_records(run: Path) -> Iterator[tuple[Path, ExplainedFilm]]:
    """Yield each finished film of a run's folder with its own folder, in the order of their names."""
    for path in sorted(run.glob(f"films/*/{RECORD}")):
        record = whole_record(path.parent)
        if record is not None:
            yield path.parent, record


def read_picture(folder: Path) -> Image.Image:
    """Return the grey picture of a film's folder."""
    with Image.open(folder / PICTURE) as picture:
        return picture.convert("L")


def write_map(path: Path, heatmap: NDArray[np.float32]) -> None:
    """Write a map [H, W] of 0..1 as an 8-bit grey PNG."""
    Image.fromarray(np.uint8(np.clip(heatmap, 0, 1) * 255 + 0.5)).save(path, compress_level=1)


def read_map(path: Path) -> NDArray[np.float32]:
    """Return a written map [H, W], float32 0..1."""
    return np.asarray(Image.open(path), np.float32) / np.float32(255)
