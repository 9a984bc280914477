"""Films of an archive, fetched one by one as they are decoded. Imports no torch, since workers import this."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cxr.data.archive import Archive, NotRetrievedError
from cxr.data.inputs import Decode, Decoded, Input, Refused
from cxr.files import write_whole
from cxr.read.dicom import ReadError

FETCHED = "fetched"
"""The folder, in that of a run, of films that are at work."""


@dataclass(frozen=True)
class FetchAndDecode:
    """Fetches a film to where its ``Input`` says, and decodes it. It is sent to the worker processes.

    So no more films are fetched ahead of the detector than are decoded ahead of it.

    Args:
        archive: that has the film.
        decode: reads the fetched file.
        keep: whether the file stays, for the film's picture and its DICOM objects; who makes these removes it.
    """

    archive: Archive
    decode: Decode
    keep: bool

    def __call__(self, film: Input) -> Decoded | Refused:
        """Return the film, or the reason why it must not be assessed. Raises ``ReadError`` and ``ArchiveError``."""
        if film.instance is None:
            raise ValueError(f"film {film.number} is a file, not a film of an archive")
        try:
            data = self.archive.retrieve(film.instance)
        except NotRetrievedError as error:
            raise ReadError(f"{film.path}: cannot be retrieved: {error}") from error
        try:
            write_whole(film.path, data, flush=False)
            return self.decode(film)
        finally:
            if not self.keep:
                film.path.unlink(missing_ok=True)


@contextmanager
def fetched_films(folder: Path) -> Iterator[Path]:
    """Make the folder for films that are at work, empty and for its owner alone; it is gone after the block."""
    place = folder / FETCHED
    shutil.rmtree(place, ignore_errors=True)  # of a run that was killed
    place.mkdir(mode=0o700)
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
