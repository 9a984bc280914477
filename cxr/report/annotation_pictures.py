"""Pictures of films for annotators: windowed, 8 bits, under a pseudonym, and without a mark of ours."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cxr.detect.prediction import Prediction
from cxr.files import whole_file
from cxr.read.burnt_text import without_text
from cxr.read.dicom import read_film
from cxr.read.frame import shrunk
from cxr.report.film_files import PICTURES, FilmAnswer, FilmFiles


@dataclass(frozen=True)
class AnnotationPictures(FilmFiles):
    """Writes ``pictures/<name>.png`` of each film that was assessed.

    Args:
        longest: side in pixels that a picture may have; None keeps the size of the film.
    """

    longest: int | None = None

    def __call__(self, film: FilmAnswer) -> None:
        """Write the picture of a film. Raises ``ReadError`` where it cannot have one."""
        if isinstance(film.prediction, Prediction):
            picture = annotation_picture(film.film.path, self.longest)
            with whole_file(self.folder / PICTURES / f"{film.name}.png") as part:
                Image.fromarray(picture).save(part, "PNG")


def annotation_picture(path: Path, longest: int | None) -> NDArray[np.uint8]:
    """Return a film as a workstation shows it, air dark, [h, w] of 0..255; its edges are those of the film.

    Text that is burnt into the film may be a name, and is covered.
    """
    picture = without_text(np.asarray(np.rint(np.clip(read_film(path).display(), 0, 1) * 255), np.uint8))
    return picture if longest is None else shrunk(picture, longest)
