"""The one way in for films, whoever brings them: what is refused and why, and what is on the disk before "taken"."""

import os
import shutil
import sqlite3
from pathlib import Path

from pydicom.uid import (
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    SecondaryCaptureImageStorage,
)

from cxr.files import flush_folder, part_of
from cxr.read.dicom import Arrival, IncompleteError, ReadError, check_film
from cxr.read.part10 import looks_like_dicom
from cxr.read.picture import is_picture
from cxr.read.radiograph import keyed_hash
from cxr.report.without_paths import without_path
from cxr.serve.counters import Refusal
from cxr.serve.queue import DuplicateFilm, NewFilm, Queue, QueuedFilm

FILMS = "films"
SOP_CLASSES = (
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    SecondaryCaptureImageStorage,
)
"""What is taken."""

# Of a Secondary Capture anything may be a copy: PS3.3 C.7.3.1.1.1; RG is a film on a scanner, OT says nothing
_MODALITIES = ("CR", "DX", "RG", "RF", "SC", "OT", "")
_MEGABYTE = 2**20
_OBJECTS = 4 * _MEGABYTE  # a capture of 1024 px with its report, presentation state and small picture, at most
_SOP_BYTES = 16

# PS3.4 B.2.3 and PS3.7 Annex C
OUT_OF_RESOURCES = 0xA700
_OTHER_CLASS = 0xA900
_NOT_UNDERSTOOD = 0xC000
_DUPLICATE = 0x0111


class Refused(Exception):  # noqa: N818 - nothing is wrong with this program
    """A film is not taken, and nothing of it is kept.

    Args:
        cause: what it is counted as.
        reason: a sentence for people, in which nobody is named.
        dicom: status of the answer to a C-STORE.
        http: status of the answer to a POST.
    """

    def __init__(self, cause: Refusal, reason: str, dicom: int, http: int) -> None:
        super().__init__(reason)
        self.cause, self.reason, self.dicom, self.http = cause, reason, dicom, http


class Intake:
    """Takes films into a folder and its queue.

    Args:
        folder: of the run; films go to ``films/`` in it.
        queue: of the same folder.
        max_film_mb: size of the largest file that is taken.
        free_mb: with less room than this on the disk nothing is taken.
    """

    def __init__(self, folder: Path, queue: Queue, max_film_mb: float, free_mb: float) -> None:
        self.films = folder / FILMS
        self.films.mkdir(exist_ok=True)
        self.queue = queue
        self.max_bytes = int(max_film_mb * _MEGABYTE)
        self._free = int(free_mb * _MEGABYTE)
        self.closing = False  # whether the run is about to end, and takes nothing more

    def take(self, data: bytes, source: str) -> QueuedFilm:
        """Return the row of the film in ``data``, a DICOM file or a picture. File and row are whole and flushed.

        Raises ``Refused``; then nothing is kept.
        """
        if self.closing:
            raise Refused(Refusal.BUSY, "the service is about to stop", OUT_OF_RESOURCES, 503)
        self.refuse_when_full(len(data))
        if len(data) > self.max_bytes:
            raise Refused(Refusal.TOO_LARGE, self.too_large(), _NOT_UNDERSTOOD, 413)
        arrival = self._checked(data)
        sop = keyed_hash(arrival.instance, _SOP_BYTES)
        film = NewFilm(arrival.study, arrival.patient, arrival.digest, sop, source, arrival.picture)
        try:
            return self._keep(film, data)
        except DuplicateFilm as error:
            raise Refused(Refusal.DUPLICATE, str(error), _DUPLICATE, 409) from None
        except (OSError, sqlite3.Error) as error:
            reason = str(getattr(error, "strerror", None) or type(error).__name__)  # without the path
            raise Refused(Refusal.FULL, f"the film could not be kept: {reason}", OUT_OF_RESOURCES, 507) from error

    def refuse_when_full(self, coming: int = 0) -> None:
        """Raise ``Refused`` where ``coming`` bytes would leave less room on the disk than is to stay free.

        There has to be room besides for what is made of the films that wait, or they would wait for ever.
        """
        stays = self._free + _OBJECTS * self.queue.unwritten()
        if (free := shutil.disk_usage(self.films).free) - coming < stays:
            left = f"{free // _MEGABYTE} MB are free, and {stays // _MEGABYTE} have to stay so"
            raise Refused(Refusal.FULL, f"no room on the disk: {left}", OUT_OF_RESOURCES, 507)

    def too_large(self) -> str:
        """Return the sentence for a film that is larger than is taken."""
        return f"the film has more than {self.max_bytes // _MEGABYTE} MB (max_film_mb)"

    def path(self, digest: str) -> Path:
        """Return the place of a film's file."""
        return self.films / f"{digest}.dcm"

    def _checked(self, data: bytes) -> Arrival:
        name = Path("film")  # it has none yet
        try:
            arrival = check_film(name, data)
        except ReadError as error:
            raise Refused(_cause(error, data), without_path(error, name, "the film"), _NOT_UNDERSTOOD, 422) from None
        if missing := [name for name, value in _referred_to(arrival).items() if not value]:
            raise Refused(Refusal.NO_FILM, f"it has no {missing[0]}", _NOT_UNDERSTOOD, 422)
        if arrival.sop_class and arrival.sop_class not in SOP_CLASSES:
            reason = "its SOPClassUID is not that of a CR, DX or Secondary Capture film"
            raise Refused(Refusal.NO_FILM, reason, _OTHER_CLASS, 415)
        if arrival.modality not in _MODALITIES:
            allowed = ", ".join(name for name in _MODALITIES if name)
            reason = f"its Modality is {arrival.modality}, expected one of {allowed}"
            raise Refused(Refusal.NO_FILM, reason, _OTHER_CLASS, 415)
        return arrival

    def _keep(self, film: NewFilm, data: bytes) -> QueuedFilm:
        path = self.path(film.digest)
        with part_of(path) as part:
            with part.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            with self.queue.files:  # so that nobody clears the folder between file and row
                part.replace(path)  # also of a film that is here: what had failed may have been mended in its header
                flush_folder(self.films)
                try:
                    return self.queue.add(film)
                except BaseException:
                    if self.queue.of_digest(film.digest) is None:
                        path.unlink(missing_ok=True)
                    raise


def _referred_to(arrival: Arrival) -> dict[str, str]:
    """Return what objects about a film refer to it by; a picture has none."""
    return {} if arrival.picture else {"SOPInstanceUID": arrival.instance, "SOPClassUID": arrival.sop_class}


def _cause(error: ReadError, data: bytes) -> Refusal:
    if not looks_like_dicom(data) and not is_picture(data):
        return Refusal.NOT_DICOM
    return Refusal.TRUNCATED if isinstance(error, IncompleteError) else Refusal.NO_FILM
