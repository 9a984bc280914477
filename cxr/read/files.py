"""Files that may be films: listing those of a folder and reading the content of one, with errors that name it."""

import os
import stat
from collections.abc import Iterator
from hashlib import blake2b, file_digest
from pathlib import Path

from cxr.read.limits import max_bytes
from cxr.read.radiograph import ReadError

START = 132
"""Number of bytes that show what kind a file is: the preamble of PS3.10, or the magic number of a picture."""


def file_bytes(path: Path) -> bytes:
    """Return the content of a file. Raises ``ReadError``, also for a file larger than any film."""
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
    """Return the size of a file. Raises ``ReadError`` for anything else, such as a pipe, which may block forever."""
    status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        os.scandir(path).close()  # raises the system's error if the folder may not be listed
        raise ReadError(f"{path}: is a folder, expected a file")
    if not stat.S_ISREG(status.st_mode):
        raise ReadError(f"{path}: is a pipe or a device, expected a file")
    return status.st_size


def cannot_open(path: Path, error: OSError | ValueError) -> ReadError:
    """Return the error for a file that the system cannot open, with the system's reason.

    Python raises ``ValueError`` for a path that no system accepts, such as one with a null character in it.
    """
    return ReadError(f"{path}: cannot be opened: {getattr(error, 'strerror', None) or error}")


def content_digest(path: Path) -> str:
    """Return a hash of a file's content, read piece by piece: 128 hexadecimal digits."""
    with path.open("rb") as file:
        return file_digest(file, lambda: blake2b()).hexdigest()


def files_below(folder: Path) -> Iterator[tuple[Path, bytes | None]]:
    """Yield each file below ``folder`` with its first 132 bytes, in no order.

    A file that cannot be opened is yielded with None, because it may be a film: reading it later raises the reason. So
    is a folder that cannot be listed. Pipes, sockets and devices are left out.
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
