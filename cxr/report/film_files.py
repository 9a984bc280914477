"""The files about one film, made in a process of their own: its picture and its DICOM objects."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cxr.data.inputs import Input
from cxr.detect.prediction import NotAssessed, Prediction
from cxr.files import whole_file
from cxr.findings import FindingVocabulary
from cxr.read.dicom import ReadError, read_film
from cxr.report.algorithm import Algorithm
from cxr.report.figures import Marks, film_picture, write_across
from cxr.report.words import not_assessed_words

PICTURES, OBJECTS = "pictures", "dicom"

_LONGEST = 1024  # px of a picture
_NO_MARKS = Marks(np.zeros((0, 4), np.float32), ())


@dataclass(frozen=True)
class Told:
    """A film and what is said of it. As a string it is the film's path.

    Args:
        film: as it was given.
        name: of its files, safe to show.
        prediction: what the detector says, or why it says nothing; None for a film that could not be read.
        error: why.
        maps: what its shown detections were read from, as ``write_objects`` takes it; or why there are no maps.
    """

    film: Input
    name: str = ""
    prediction: Prediction | NotAssessed | None = None
    error: ReadError | None = None
    maps: Mapping[str, NDArray[np.uint16]] | ReadError = field(default_factory=dict)

    def __str__(self) -> str:
        return str(self.film)


@dataclass(frozen=True)
class FilmFiles:
    """Writes ``pictures/<name>.png`` and ``dicom/<name>-{sr,pr,sc,pm-*}.dcm`` of a film; what is there is replaced.

    A film that is not assessed has a picture that says so across it, and of the objects the report and the capture.

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
        """Write the files of a film that was read. Raises ``ReadError`` where it cannot have them.

        Raises ``OSError`` with the file's path where the disk does not take one.
        """
        said = told.prediction
        if said is None or not (self.pictures or self.objects):
            return
        picture = self._picture(told.film.path, said)
        if self.pictures:
            with (
                whole_file(self.folder / PICTURES / f"{told.name}.png") as part,
                part.open("wb") as file,
            ):
                picture.save(file, "PNG", compress_level=1)
        if self.objects:
            self._write_objects(told, said, np.asarray(picture))

    def _picture(self, path: Path, said: Prediction | NotAssessed) -> Image.Image:
        film = read_film(path).display()
        width = max(1, round(film.shape[1] * min(1.0, _LONGEST / max(film.shape))))
        if isinstance(said, Prediction):
            marks = _shown(said, self.algorithm.threshold)
            return film_picture(film, _NO_MARKS, marks, self.findings, width, self.language)
        plain = film_picture(film, _NO_MARKS, _NO_MARKS, self.findings, width, self.language)
        return write_across(plain, not_assessed_words(said.reason, self.language))

    def _write_objects(self, told: Told, said: Prediction | NotAssessed, burnt: NDArray[np.uint8]) -> None:
        from cxr.report import dicom_objects  # of the extra "dicom", and a second to import

        path, stem = told.film.path, self.folder / OBJECTS / told.name
        if isinstance(said, NotAssessed):
            dicom_objects.write_refusal(path, said.reason, burnt, self.algorithm, stem)
            return
        marks = _shown(said, self.algorithm.threshold)
        maps = {} if isinstance(told.maps, ReadError) else told.maps
        dicom_objects.write_objects(path, marks, said.abnormal, burnt, self.algorithm, self.findings, stem, maps)
        if isinstance(told.maps, ReadError):
            raise told.maps  # last: the film has its other files


def _shown(said: Prediction, threshold: float) -> Marks:
    """Return the detections from ``threshold`` up."""
    kept = said.shown(threshold)
    boxes = np.array([said.boxes[n] for n in kept], np.float32).reshape(-1, 4)
    return Marks(boxes, [said.findings[n] for n in kept], np.array([said.scores[n] for n in kept], np.float32))
