"""Films decoded once, kept as memory-mapped uint16 at working size.

One file a film, ``<folder>/<settings>/films/<content>.npy``: a NumPy array, and behind it what else is known of the
film and a checksum of all of it. The key is the film's content and the settings (intensity steps, size, pseudonym key,
``FORMAT``), so a film that is copied or moved is found again, and one that changes in place is not.

Never a torn read. A file is written under a name of its own, flushed to disk and renamed, so it is there whole or not
at all, however many processes write it. So that a warm read costs no checksum, a small file
``<settings>/index/<path>.json`` notes two identities (size, mtime, ctime, inode): the source film's when its content
was hashed, and the cached file's when it was last known to be whole. While both still hold, both contents do: whoever
changes a file changes its ctime. When one does not, the film is hashed or the checksum is computed again. The index
is a shortcut that may be lost, stale or damaged at any time.

Paths, names and identifiers are nowhere in it, only hashes and pseudonyms.
"""

import json
import os
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from hashlib import blake2b
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from cxr.files import write_whole
from cxr.read.dicom import ReadError, file_bytes, parse_film, pseudonym, read_header
from cxr.read.frame import at_working_size
from cxr.read.preprocessing import Preprocessing
from cxr.read.workers import outcomes, usable_cores

FORMAT = 2
"""Part of every key. Raise it when decoding, an intensity step or this file's layout changes what is stored."""

_LOCK = ".filling.lock"
_FOOTER = 8 + 16  # length of the JSON, BLAKE2b of array and JSON
_SETTLED_NS = 100_000_000  # a file changed less than 0.1 s ago may change again within one tick of its clock


@dataclass(frozen=True, eq=False)
class CachedFilm:
    """A film at working size.

    Args:
        pixels: [h, w], or [h, w, C] where the intensity gives channels, uint16: a read-only view of the memory-mapped
            file; 65535 is 1.0 of the intensity, air dark.
        height, width: of the original film in pixels.
        digest: hash of the stored pixels at full size; equal for copies of one film in other files or encodings.
        study, patient: pseudonyms.
    """

    pixels: NDArray[np.uint16]
    height: int
    width: int
    digest: str
    study: str
    patient: str


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
    """Films at working size, decoded when first asked for.

    Safe for any number of workers and processes on one folder, and cheap to send to them.

    Args:
        folder: where the films are kept; made when missing.
        intensity: makes 0..1 of a radiograph.
        size: longest side at working size, px; a smaller film keeps its size (``INTER_AREA`` otherwise).
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
        """Return a film, decoding and storing it when it is missing or damaged.

        Raises ``ReadError``, also for a stored film of a kind that the intensity does not take.
        """
        path = Path(path)
        entry = self._known(path) or self._found(path)
        pixels = np.memmap(self._film_file(entry.key), np.uint16, "r", entry.offset, entry.shape)
        # As a plain array: each operation on the subclass costs tens of microseconds more
        return CachedFilm(np.asarray(pixels), entry.height, entry.width, entry.digest, entry.study, entry.patient)

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
        """Decode the films that are missing, in ``workers`` processes (default: one a usable core).

        One process does so at a time. Others that start with the same films, the ranks of a run or the jobs of a sweep,
        wait for it and find them there; where it is killed the next one goes on.

        Returns the films that cannot be read, with the reason; with ``on_error="raise"`` the first one is raised.
        A film that kills its process is one of them.
        """
        if on_error not in ("skip", "raise"):
            raise ValueError(f"on_error is {on_error!r}, expected 'skip' or 'raise'")
        failures: dict[Path, ReadError] = {}
        missing = self._missing(dict.fromkeys(map(Path, paths)))
        if not missing:
            return {}
        with FileLock(self.folder / _LOCK):
            for path, error in outcomes(self._store, self._missing(missing), workers or usable_cores(), progress):
                if error is not None and on_error == "raise":
                    raise error
                if error is not None:
                    failures[path] = error
        return failures

    def _missing(self, paths: Iterable[Path]) -> list[Path]:
        return [path for path in paths if self._known(path) is None]

    def _store(self, path: Path) -> None:
        """Make ``path`` known, in a worker."""
        self._found(path)

    def _film_file(self, key: str) -> Path:
        return self.folder / "films" / f"{key}.npy"

    def _index_file(self, path: Path) -> Path:
        return self.folder / "index" / f"{_hash(os.fsencode(path.absolute()))}.json"

    def _known(self, path: Path) -> _Entry | None:
        """Return the entry that the index holds for ``path`` if film and cached file are those it was written for.

        None for a film that the intensity does not take: a cache whose key is the same may have stored it.
        """
        try:
            noted = json.loads(self._index_file(path).read_bytes())
            entry = _Entry(**{**noted["entry"], "shape": tuple(noted["entry"]["shape"])})
            same = noted["film"] == _identity(path) and noted["cached"] == _identity(self._film_file(entry.key))
            self.intensity.kind(entry.modality, entry.body_part, path)
        except (OSError, ValueError, KeyError, TypeError):  # a ReadError is a ValueError
            return None
        return entry if same else None

    def _found(self, path: Path) -> _Entry:
        """Return the entry for the content of ``path``, reading, checking or decoding as much as it takes."""
        identity = _identity(path) if path.exists() else []  # before reading: a film that changes then differs from it
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


def _checked_entry(file: Path, key: str) -> _Entry | None:
    """Return the entry behind the array in ``file``, or None when the file is not, bit for bit, what was written."""
    content = file.read_bytes()
    body, checksum = content[:-16], content[-16:]
    if len(content) < _FOOTER or blake2b(body, digest_size=16).digest() != checksum:
        return None
    about = json.loads(body[-8 - int.from_bytes(body[-8:], "little") : -8])
    entry = _Entry(**{**about, "shape": tuple(about["shape"])})
    return entry if entry.key == key else None


def _identity(file: Path) -> list[int]:
    """Return what changes whenever a file is written to or replaced."""
    status = file.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def _hash(*parts: Any) -> str:
    state = blake2b(digest_size=16)
    for part in parts:
        state.update(part)
    return state.hexdigest()
