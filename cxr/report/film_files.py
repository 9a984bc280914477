"""The files about one film, made in a process of their own: its picture and its DICOM objects."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cxr.data.inputs import Input
from cxr.detect.prediction import Prediction
from cxr.findings import FindingVocabulary
from cxr.read.dicom import ReadError, read_film
from cxr.report.algorithm import Algorithm
from cxr.report.figures import Marks, film_picture

PICTURES, OBJECTS = "pictures", "dicom"

_LONGEST = 1024  # px of a picture
_NO_MARKS = Marks(np.zeros((0, 4), np.float32), ())


@dataclass(frozen=True)
class Told:
    """A film and what is said of it. As a string it is the film's path.

    Args:
        film: as it was given.
        name: of its files, safe to show.
        prediction: None for a film that could not be read.
        error: why.
        maps: what its shown detections were read from, as ``write_objects`` takes it; or why there are no maps.
    """

    film: Input
    name: str = ""
    prediction: Prediction | None = None
    error: ReadError | None = None
    maps: Mapping[str, NDArray[np.uint16]] | ReadError = field(default_factory=dict)

    def __str__(self) -> str:
        return str(self.film)


@dataclass(frozen=True)
class FilmFiles:
    """Writes ``pictures/<name>.png`` and ``dicom/<name>-{sr,pr,sc,pm-*}.dcm`` of a film; what is there is replaced.

    Args:
        folder: of the run; the two folders are in it.
        findings: the vocabulary behind the names.
        algorithm: what the DICOM objects say of their origin; only detections from its threshold up are shown.
        pictures, objects: which of the two are wanted.
        language: of the captions in pictures.
    """

    folder: Path
    findings: FindingVocabulary
    algorithm: Algorithm
    pictures: bool
    objects: bool
    language: str = "en"

    def __call__(self, told: Told) -> None:
        """Write the files of a film that was read. Raises ``ReadError`` where it cannot have them."""
        said = told.prediction
        if said is None or not (self.pictures or self.objects):
            return
        film = read_film(told.film.path).display()
        marks = _shown(said, self.algorithm.threshold)
        width = max(1, round(film.shape[1] * min(1.0, _LONGEST / max(film.shape))))
        picture = film_picture(film, _NO_MARKS, marks, self.findings, width, self.language)
        if self.pictures:
            picture.save(self.folder / PICTURES / f"{told.name}.png", compress_level=1)
        if self.objects:
            from cxr.report.dicom_objects import write_objects  # of the extra "dicom", and a second to import

            stem = self.folder / OBJECTS / told.name
            burnt = np.asarray(picture)
            maps = {} if isinstance(told.maps, ReadError) else told.maps
            write_objects(told.film.path, marks, said.abnormal, burnt, self.algorithm, self.findings, stem, maps)
            if isinstance(told.maps, ReadError):
                raise told.maps  # last: the film has its other files


def _shown(said: Prediction, threshold: float) -> Marks:
    """Return the detections from ``threshold`` up."""
    kept = said.shown(threshold)
    boxes = np.array([said.boxes[n] for n in kept], np.float32).reshape(-1, 4)
    return Marks(boxes, [said.findings[n] for n in kept], np.array([said.scores[n] for n in kept], np.float32))
