"""The files about one film, made in a process of their own: its picture and its DICOM objects."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cxr.data.inputs import Input
from cxr.detect.prediction import NotAssessed, Prediction, Threshold
from cxr.files import whole_file
from cxr.findings import FindingVocabulary
from cxr.read.dicom import ReadError, read_film
from cxr.report.algorithm import Algorithm
from cxr.report.figures import Marks, film_picture, write_across
from cxr.report.words import not_assessed_words

PICTURES, OBJECTS = "pictures", "dicom"

_LONGEST, _SMALL = 1024, 512  # px of a picture, and of one for a page
_NO_MARKS = Marks(np.zeros((0, 4), np.float32), ())


@dataclass(frozen=True)
class FilmAnswer:
    """A film and the detector's answer on it. As a string it is the film's path.

    Args:
        film: as it was given.
        name: of its files, safe to show.
        prediction: the detector's answer, or why there is none; None for a film that could not be read.
        error: why.
        maps: what its shown detections were read from, as ``write_objects`` takes it; or why there are no maps.
        has_header: whether it is a DICOM film, of which objects can be made.
    """

    film: Input
    name: str = ""
    prediction: Prediction | NotAssessed | None = None
    error: ReadError | None = None
    maps: Mapping[str, NDArray[np.uint16]] | ReadError = field(default_factory=dict)
    has_header: bool = True

    def __str__(self) -> str:
        return str(self.film)


@dataclass(frozen=True)
class FilmFiles:
    """Writes ``pictures/<name>.png``, ``.jpg`` and ``dicom/<name>-{sr,pr,sc,pm-*}.dcm``; what is there is replaced.

    A film that is not assessed has a picture that says so across it, and of the objects the report and the capture.

    Args:
        folder: of the run; the two folders are in it.
        findings: the vocabulary behind the names.
        algorithm: what the DICOM objects say of their origin; only detections from its threshold up are shown.
        pictures, objects: which of the two are wanted.
        language: of the captions in pictures.
        small: whether a small picture for a page is wanted, ``pictures/<name>.jpg``.
    """

    folder: Path
    findings: FindingVocabulary
    algorithm: Algorithm
    pictures: bool
    objects: bool
    language: str = "en"
    small: bool = False

    @property
    def wanted(self) -> bool:
        """Whether a film has files at all."""
        return self.pictures or self.objects or self.small

    def __call__(self, film: FilmAnswer) -> None:
        """Write the files of a film that was read. Raises ``ReadError`` where it cannot have them.

        Raises ``OSError`` with the file's path where the disk does not take one.
        """
        answer = film.prediction
        if answer is None or not self.wanted:
            return
        picture = self._picture(film.film.path, answer)
        if self.small:
            small = picture.copy()  # not drawn anew: text in a film is looked for in all of its pixels
            small.thumbnail((_SMALL, _SMALL))
            with whole_file(self.folder / PICTURES / f"{film.name}.jpg") as part:
                small.save(part, "JPEG", quality=85)
        if self.pictures:
            with whole_file(self.folder / PICTURES / f"{film.name}.png") as part:
                picture.save(part, "PNG", compress_level=1)
        if self.objects and film.has_header:
            self._write_objects(film, answer, np.asarray(picture))

    def _picture(self, path: Path, answer: Prediction | NotAssessed) -> Image.Image:
        film = read_film(path).display()
        width = max(1, round(film.shape[1] * min(1.0, _LONGEST / max(film.shape))))
        if isinstance(answer, Prediction):
            marks = _shown(answer, self.algorithm.threshold)
            return film_picture(film, _NO_MARKS, marks, self.findings, width, self.language)
        plain = film_picture(film, _NO_MARKS, _NO_MARKS, self.findings, width, self.language)
        return write_across(plain, not_assessed_words(answer.reason, self.language))

    def _write_objects(self, film: FilmAnswer, answer: Prediction | NotAssessed, burnt: NDArray[np.uint8]) -> None:
        from cxr.report import dicom_objects  # of the extra "dicom", and a second to import

        path, stem = film.film.path, self.folder / OBJECTS / film.name
        if isinstance(answer, NotAssessed):
            dicom_objects.write_refusal(path, answer.reason, burnt, self.algorithm, stem)
            return
        marks = _shown(answer, self.algorithm.threshold)
        maps = {} if isinstance(film.maps, ReadError) else film.maps
        dicom_objects.write_objects(path, marks, answer.abnormal, burnt, self.algorithm, self.findings, stem, maps)
        if isinstance(film.maps, ReadError):
            raise film.maps  # last: the film has its other files


def _shown(answer: Prediction, threshold: Threshold) -> Marks:
    """Return the detections from ``threshold`` up."""
    kept = answer.shown(threshold)
    boxes = np.array([answer.boxes[n] for n in kept], np.float32).reshape(-1, 4)
    return Marks(boxes, [answer.findings[n] for n in kept], np.array([answer.scores[n] for n in kept], np.float32))
