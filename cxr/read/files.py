"""Files on disk that may be films: what a folder holds, and the content of one file, with errors that name it."""

import os
import stat
from collections.abc import Iterator
from hashlib import blake2b, file_digest
from pathlib import Path

from cxr.read.limits import max_bytes
from cxr.read.radiograph import ReadError

START = 132
"""Bytes that tell what kind of file it is: the preamble of PS3.10, or the magic number of a picture."""


def file_bytes(path: Path) -> bytes:
    """Return the content of a file of a film's size. Raises ``ReadError``."""
    size = 0
    try:
        size = _regular_size(path)
        if size > (limit := max_bytes()):
            raise ReadError(f"{path}: has {size:,} bytes, expected at most {limit:,} for one film")
        data = path.read_bytes()
    except ReadError:
        raise
    except (OSError, ValueError) as error:
        raise cannot_open(path, error) from error
    except MemoryError as error:
        raise ReadError(f"{path}: there is not enough memory for its {size:,} bytes") from error
    if not data:
        raise ReadError(f"{path}: is empty")
    return data


def first_bytes(path: Path) -> bytes:
    """Return the first 132 bytes of a file. Raises ``ReadError``."""
    try:
        _regular_size(path)
        with path.open("rb") as file:
            return file.read(START)
    except ReadError:
        raise
    except (OSError, ValueError) as error:
        raise cannot_open(path, error) from error


def _regular_size(path: Path) -> int:
    """Return the bytes of a file. Raises ``ReadError`` for what is none: opening a pipe waits for somebody to write."""
    status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        os.scandir(path).close()  # a folder that may not be listed says so
        raise ReadError(f"{path}: is a folder, expected a file")
    if not stat.S_ISREG(status.st_mode):
        raise ReadError(f"{path}: is a pipe or a device, expected a file")
    return status.st_size


def cannot_open(path: Path, error: OSError | ValueError) -> ReadError:
    """Return the error of a file that the system does not let us read, with the system's own reason.

    ``ValueError`` is what Python raises of a path that no system takes, one with a null character in it.
    """
    return ReadError(f"{path}: cannot be opened: {getattr(error, 'strerror', None) or error}")


def content_digest(path: Path) -> str:
    """Return a hash of a file's content, read piece by piece: 128 hexadecimal digits."""
    with path.open("rb") as file:
        return file_digest(file, lambda: blake2b()).hexdigest()


def files_below(folder: Path) -> Iterator[tuple[Path, bytes | None]]:
    """Yield each file below ``folder`` with its first 132 bytes, in no order.

    None in place of the bytes: it cannot be opened. That may be a film, so it is not passed over; who reads it gets the
    reason. A folder that cannot be listed is such a file too. Pipes, sockets and devices are left alone.
    """
    unlisted: list[Path] = []
    for place, _, names in os.walk(folder, onerror=lambda error: unlisted.append(Path(error.filename))):
        for name in names:
            path = Path(place, name)
            if path.is_file() or (path.is_symlink() and not path.exists()):
                yield path, _start(path)
    for path in unlisted:
        if path.is_dir():
            yield path, None


def _start(path: Path) -> bytes | None:
    try:
        return first_bytes(path)
    except ReadError:
        return None
