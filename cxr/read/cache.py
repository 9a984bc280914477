"""Films are decoded once and kept as uint16 arrays at working size.

Each film has one file, ``<folder>/<settings>/films/<content>.npy``. It holds a NumPy array, then what else is known of
the film, then a checksum of everything before. The key is a hash of the film's content and of the settings (intensity
steps, size, pseudonym key, ``FORMAT``): a copied or moved film keeps its key, a film changed in place gets a new one.

No process ever reads a half-written file: a file is written under a temporary name, flushed to disk and renamed.
Checking the checksum at every read would be slow. So a small file ``<settings>/index/<path>.json`` notes two identities
(size, mtime, ctime, inode): that of the source film when its content was hashed, and that of the cached file when it
was last known to be whole. Whoever changes a file changes its ctime. So while both identities are the same, both
contents are; otherwise the film is hashed again and the checksum is computed again. The index is a shortcut: it may be
lost, stale or damaged at any time.

Pixels are read, and not mapped into the memory: where a disk fails under a mapped file, the system ends the process.
A cached film that the disk does not give back any more is decoded again.

The cache holds hashes and pseudonyms, but no paths, names or identifiers.
"""

import errno
import json
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from hashlib import blake2b
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from cxr.files import noted_while, write_whole
from cxr.read.dicom import ReadError, file_bytes, parse_film, pseudonym, read_header
from cxr.read.frame import at_working_size
from cxr.read.preprocessing import Preprocessing
from cxr.read.workers import outcomes, usable_cores

FORMAT = 2
"""Part of every key. Raise it when decoding, an intensity step or this file's layout changes what is stored."""

_LOCK = ".filling.lock"
_BEGUN = ".filling"  # is there while films are decoded
_FOOTER = 8 + 16  # bytes: the length of the JSON, then BLAKE2b of the array and the JSON
_SETTLED_NS = 100_000_000  # a file changed less than 0.1 s ago may change again within one tick of its clock


@dataclass(frozen=True, eq=False)
class CachedFilm:
    """A film at working size.

    Args:
        height, width: size of the original film in pixels.
        digest: hash of the stored pixels at full size; copies of one film in other files or encodings have the same.
        study, patient: pseudonyms.
        read: returns ``pixels``.
    """

    height: int
    width: int
    digest: str
    study: str
    patient: str
    read: Callable[[], NDArray[np.uint16]] = field(repr=False)

    @cached_property
    def pixels(self) -> NDArray[np.uint16]:
        """[h, w], or [h, w, C] where the intensity gives channels; read-only; 65535 is 1.0 of the intensity, air dark.

        They are read from the disk when they are first asked for. Raises ``ReadError`` where it does not give them.
        """
        return self.read()


@dataclass(frozen=True)
class _Entry:
    """What is known of a cached film without opening it; the array begins at byte ``offset``."""

    key: str
    shape: tuple[int, ...]
    offset: int
    height: int
    width: int
    digest: str
    study: str
    patient: str
    modality: str
    body_part: str


class FilmCache:
    """Films at working size. A film is decoded when it is first asked for.

    Any number of workers and processes may use one folder at a time. The object is cheap to send to them.

    Args:
        folder: where the films are kept; it is made when it is missing.
        intensity: turns a radiograph into values 0..1.
        size: longest side at working size, px. A larger film is shrunk (``INTER_AREA``), a smaller one keeps its size.
    """

    def __init__(self, folder: Path | str, intensity: Preprocessing, size: int) -> None:
        if size < 1:
            raise ValueError(f"size is {size}, expected at least 1 px")
        self.intensity = intensity
        self.size = size
        settings = f"{FORMAT} {intensity.fingerprint()} {size} {pseudonym('')}"
        self.folder = Path(folder) / blake2b(settings.encode(), digest_size=8).hexdigest()
        for part in ("films", "index"):
            (self.folder / part).mkdir(parents=True, exist_ok=True)

    def get(self, path: Path | str) -> CachedFilm:
        """Return a film. Decode and store it first when it is missing or damaged.

        Raises ``ReadError`` for a film that cannot be read, or whose kind the intensity does not take.
        """
        path = Path(path)
        entry = self._known(path) or self._entry_by_content(path)
        read = partial(self._pixels, path, entry)
        return CachedFilm(entry.height, entry.width, entry.digest, entry.study, entry.patient, read)

    def modality(self, path: Path | str) -> tuple[str, str]:
        """Return Modality and BodyPartExamined of a film, "" where absent, without decoding it.

        Its header is read only where the film is not stored. Raises ``ReadError``.
        """
        known = self._known(Path(path))
        film = known if known is not None else read_header(path)
        return film.modality, film.body_part

    def fill(
        self,
        paths: Iterable[Path | str],
        workers: int | None = None,
        on_error: Literal["skip", "raise"] = "skip",
        progress: bool = True,
    ) -> dict[Path, ReadError]:
        """Decode the films that are missing, in ``workers`` processes (default: one for each usable core).

        One process at a time fills a cache. Others that start with the same films (the ranks of a run, the jobs of a
        sweep) wait for it and then use what it stored. If it is killed, the next one goes on, and reads even a few
        films in processes of their own: one of them may have been what killed it.

        Returns the films that cannot be read, each with the reason; a film that kills its process is one of them. With
        ``on_error="raise"`` the first such error is raised instead.
        """
        if on_error not in ("skip", "raise"):
            raise ValueError(f"on_error is {on_error!r}, expected 'skip' or 'raise'")
        failures: dict[Path, ReadError] = {}
        missing = self._missing(dict.fromkeys(map(Path, paths)))
        if not missing:
            return {}
        with FileLock(self.folder / _LOCK), noted_while(self.folder / _BEGUN) as apart:
            missing = self._missing(missing)
            for path, error in outcomes(self._store, missing, workers or usable_cores(), progress, apart):
                if error is not None and on_error == "raise":
                    raise error
                if error is not None:
                    failures[path] = error
        return failures

    def _pixels(self, path: Path, entry: _Entry) -> NDArray[np.uint16]:
        """Return the pixels of a film that is stored; store it again where its file is lost or cannot be read."""
        try:
            return _stored_pixels(self._film_file(entry.key), entry)
        except OSError:
            again = self._entry_by_content(path)
        try:
            if again.key != entry.key:
                raise ReadError(f"{path}: was changed while it was in use")
            return _stored_pixels(self._film_file(again.key), again)
        except OSError as error:
            why = error.strerror or str(error)
            raise ReadError(f"{path}: its decoded copy in {self.folder} cannot be read: {why}") from error

    def _missing(self, paths: Iterable[Path]) -> list[Path]:
        return [path for path in paths if self._known(path) is None]

    def _store(self, path: Path) -> None:
        """Store the film ``path``. A worker calls this."""
        self._entry_by_content(path)

    def _film_file(self, key: str) -> Path:
        return self.folder / "films" / f"{key}.npy"

    def _index_file(self, path: Path) -> Path:
        return self.folder / "index" / f"{_hash(os.fsencode(path.absolute()))}.json"

    def _known(self, path: Path) -> _Entry | None:
        """Return the index entry of ``path`` if neither the film nor the cached file has changed since it was written.

        Return None also for a film that the intensity does not take: a cache with the same key may have stored it.
        """
        try:
            noted = json.loads(self._index_file(path).read_bytes())
            entry = _Entry(**{**noted["entry"], "shape": tuple(noted["entry"]["shape"])})
            same = noted["film"] == _identity(path) and noted["cached"] == _identity(self._film_file(entry.key))
            self.intensity.kind(entry.modality, entry.body_part, path)
        except (OSError, ValueError, KeyError, TypeError):  # a ReadError is a ValueError
            return None
        return entry if same else None

    def _entry_by_content(self, path: Path) -> _Entry:
        """Read ``path`` and return the entry of its content; decode it if the cache has no whole file of that."""
        identity = _identity(path) if path.exists() else []  # taken before reading, to notice a later change
        data = file_bytes(path)
        key = _hash(data)
        cached = self._film_file(key)
        checked = _identity(cached) if cached.exists() else None
        entry = _checked_entry(cached, key) if checked else None
        if entry is not None:
            self.intensity.kind(entry.modality, entry.body_part, path)
        else:
            entry = self._decode(path, data, key)
            checked = _identity(cached)
        if time.time_ns() - identity[2] > _SETTLED_NS:
            noted = {"film": identity, "cached": checked, "entry": asdict(entry)}
            write_whole(self._index_file(path), json.dumps(noted), flush=False)
        return entry

    def _decode(self, path: Path, data: bytes, key: str) -> _Entry:
        film = parse_film(path, data)
        height, width = film.pixels.shape
        pixels = at_working_size(film, self.intensity, self.size)
        array = BytesIO()
        np.save(array, pixels.astype("<u2"))
        offset = array.tell() - pixels.size * 2
        digest = _hash(f"{film.pixels.shape} {film.photometric_interpretation}".encode(), film.pixels.astype("<i4"))
        entry = _Entry(
            key, pixels.shape, offset, height, width, digest, film.study, film.patient, film.modality, film.body_part
        )
        about = json.dumps(asdict(entry)).encode()
        content = array.getvalue() + about + len(about).to_bytes(8, "little")
        write_whole(self._film_file(key), content + blake2b(content, digest_size=16).digest(), flush=True)
        return entry


def _stored_pixels(file: Path, entry: _Entry) -> NDArray[np.uint16]:
    """Return the array in the file of a film. Raises ``OSError``, also where the file is cut off."""
    pixels = np.empty(entry.shape, "<u2")
    with file.open("rb", buffering=0) as stored:
        stored.seek(entry.offset)
        if stored.readinto(pixels.data.cast("B")) != pixels.nbytes:
            raise OSError(errno.EIO, "it is cut off", str(file))
    pixels.flags.writeable = False
    return pixels


def _checked_entry(file: Path, key: str) -> _Entry | None:
    """Return the entry stored in ``file``; None where it differs in any bit from what was written, or is unreadable."""
    try:
        content = file.read_bytes()
    except OSError:
        return None
    body, checksum = content[:-16], content[-16:]
    if len(content) < _FOOTER or blake2b(body, digest_size=16).digest() != checksum:
        return None
    about = json.loads(body[-8 - int.from_bytes(body[-8:], "little") : -8])
    entry = _Entry(**{**about, "shape": tuple(about["shape"])})
    return entry if entry.key == key else None


def _identity(file: Path) -> list[int]:
    """Return numbers of which at least one changes whenever a file is written to or replaced."""
    status = file.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def _hash(*parts: Any) -> str:
    state = blake2b(digest_size=16)
    for part in parts:
        state.update(part)
    return state.hexdigest()
