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
    for name in names_below(folder):
        there, start = look_at(Path(name))
        if there:
            yield Path(name), start


def names_below(folder: Path) -> Iterator[str]:
    """Yield the path of each file below ``folder``, in no order, without a look at the file itself.

    So a folder with millions of films is listed as fast as the system lists it. Pipes, sockets and devices are yielded
    too, and so is a folder that cannot be listed.
    """
    unlisted: list[str] = []
    for place, _, names in os.walk(folder, onerror=lambda error: unlisted.append(error.filename)):
        for name in names:
            yield os.path.join(place, name)  # noqa: PTH118  # a Path of each would take four times as long
    yield from unlisted


def look_at(path: Path) -> tuple[bool, bytes | None]:
    """Return whether ``files_below`` yields this path, and the first bytes that it yields with it."""
    there = path.is_file() or path.is_dir() or (path.is_symlink() and not path.exists())
    return there, _start(path) if there else None


def _start(path: Path) -> bytes | None:
    try:
        return first_bytes(path)
    except ReadError:
        return None
