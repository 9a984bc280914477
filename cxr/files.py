"""Files that are whole or absent, and digests that tell a file that was damaged from the one that was written.

Nothing here knows what the files hold. A write that fails (a full disk, a quota, a folder that cannot be written)
leaves what was there before, no temporary file, and an ``OSError`` that names the file: Python's own names none where
it is a write, not an opening, that failed.
"""

import errno
import hashlib
import io
import json
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

DIGEST = ".blake2b"
"""Ends the name of the file beside another that holds its digest, as ``b2sum -l 256`` writes and checks it."""

_BYTES = 32
_MOST_NOTED = 2**16  # bytes of a file of digests that are looked at; it has two lines at most
_PART = r"\.[0-9a-f]{32}\.part"  # name of a file that is being written
_FULL = {errno.ENOSPC, errno.EDQUOT}
_REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO, errno.EFBIG}


class DamagedFileError(ValueError):
    """A file is not what was written: its digest is another, or it ends too early."""


@contextmanager
def part_of(path: Path) -> Iterator[Path]:
    """Yield a name beside ``path`` to write under; it is gone afterwards, whatever happens.

    The block moves it to ``path`` when it is whole. An ``OSError`` of the block that names no file gets ``path``.
    """
    part = path.with_name(f".{uuid.uuid4().hex}.part")  # not after path's own name, which may be as long as is allowed
    try:
        yield part
    except OSError as error:
        if error.filename is None and error.errno is not None:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    finally:
        part.unlink(missing_ok=True)


def remove_parts(folder: Path) -> None:
    """Remove what killed processes have left half written below ``folder``, into which nobody else writes now."""
    for part in folder.rglob(".*.part"):
        if re.fullmatch(_PART, part.name):
            part.unlink(missing_ok=True)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a name beside ``path`` to write under; at the end of the block it takes the place of ``path``.

    Where the block raises, what was at ``path`` stays. For libraries that write a file by its name.
    """
    with part_of(path) as part:
        yield part
        part.replace(path)


def write_whole(path: Path, content: bytes | str, flush: bool = True) -> None:
    """Put ``content`` (text as UTF-8) at ``path`` in one step: a reader sees all of it, or what was there before.

    With ``flush`` it is on the disk before it has its name; else a power cut could leave the name on an empty file.
    Raises ``OSError`` with the path.
    """
    with part_of(path) as part:
        with part.open("xb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            if flush:
                file.flush()
                os.fsync(file.fileno())
        part.replace(path)


@contextmanager
def noted_while(note: Path) -> Iterator[bool]:
    """Keep a file at ``note`` during the block; yield whether an earlier process died in the same block.

    A process that is killed, or that a library brings down, leaves the file; an error or Ctrl-C does not.
    """
    died = note.exists()
    note.touch()
    try:
        yield died
    finally:
        note.unlink(missing_ok=True)


def flush_folder(folder: Path) -> None:
    """Write the names of a folder's files to the disk, so that a power cut does not take one back."""
    if os.name != "posix":  # Windows cannot open a folder, and writes its names with the files
        return
    place = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(place)
    finally:
        os.close(place)


def append_whole(file: io.FileIO, content: bytes, path: Path) -> None:
    """Append ``content`` to ``file``, which is open at ``path`` without a buffer, or leave the file as it was.

    A buffer would keep what a full disk does not take, and write it again on closing. Raises ``OSError`` with the path.
    """
    end, written = file.seek(0, os.SEEK_END), 0
    try:
        while written < len(content):
            written += file.write(content[written:])
    except OSError as error:
        with suppress(OSError):
            file.truncate(end)
        raise OSError(error.errno, error.strerror, str(path)) from error


def write_json(path: Path, content: Any, allow_nan: bool = True) -> None:
    """Write ``content`` as JSON as ``write_whole`` does. Raises ``ValueError`` for NaN where it is not allowed."""
    write_whole(path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=allow_nan))


def read_mapping(path: Path, *needed: str, most_bytes: int | None = None) -> dict[str, Any]:
    """Return the mapping in a JSON file.

    Raises ``DamagedFileError`` where it is empty, torn, holds no mapping, lacks one of the ``needed`` keys, or has more
    than ``most_bytes``, which a file from anywhere needs: Python takes ten times its size to read it.
    """
    if most_bytes is not None and (size := path.stat().st_size) > most_bytes:
        raise DamagedFileError(f"{path} has {size:,} bytes, expected at most {most_bytes:,}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # also UnicodeDecodeError
        raise DamagedFileError(f"{path} cannot be read, it is empty or damaged ({error})") from error
    if not isinstance(content, dict):
        raise DamagedFileError(f"{path} cannot be read, it holds a {type(content).__name__}, expected a mapping")
    if lacking := sorted(set(needed) - content.keys()):
        raise DamagedFileError(f"{path} lacks {', '.join(lacking)}")
    return content


def why_not_written(error: BaseException) -> str | None:
    """Return in words, with what to do, why a file could not be written; None for an error of another kind."""
    if not isinstance(error, OSError) or error.errno not in _FULL | _REFUSED:
        return None
    name = error.filename if error.filename is not None else "a file"
    if error.errno in _FULL:
        return f"{name} could not be written, the disk is full or its quota used up ({error.strerror}): free some space"
    if error.errno == errno.EFBIG:
        return f"{name} could not be written, it is larger than this system allows ({error.strerror}; see ulimit -f)"
    return f"{name} could not be read or written ({error.strerror}): see who may do so, or name another folder"


# --- digests


def digest_of(path: Path) -> str:
    """Return the BLAKE2b digest of a file, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, new_digest).hexdigest()


def short_digest_of(path: Path) -> str:
    """Return a BLAKE2b digest of 16 hexadecimal digits, by which reports and run folders name a checkpoint."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=8)).hexdigest()


def new_digest() -> "hashlib.blake2b":
    """Return the hash that digests are made with, to be updated with a file's bytes."""
    return hashlib.blake2b(digest_size=_BYTES)


def place_with_digest(part: Path, path: Path, digest: str) -> None:
    """Move ``part``, whose digest is ``digest``, to ``path``, and note the digest beside it.

    At no moment does what is noted disagree with what is there: the note names the new file and the one before until
    the move is done.
    """
    beside = digest_file(path)
    write_whole(beside, _lines(path, [digest, *noted_digests(path)]))
    part.replace(path)
    write_whole(beside, _lines(path, [digest]), flush=False)


def digest_file(path: Path) -> Path:
    """Return the place of the file that holds the digest of ``path``."""
    return path.with_name(path.name + DIGEST)


def noted_digests(path: Path) -> list[str]:
    """Return the digests noted beside ``path``, one of which is its own; [] where none is, or the note is damaged."""
    try:
        with digest_file(path).open("rb") as file:
            lines = file.read(_MOST_NOTED).decode("ascii").splitlines()
    except (OSError, ValueError):
        return []
    digests = [line.partition(" ")[0] for line in lines]
    return [digest for digest in digests if len(digest) == 2 * _BYTES]


def check_digest(path: Path) -> None:
    """Raise ``DamagedFileError`` where a digest is noted beside ``path`` and the file's own is another.

    A file without a note beside it, as one that was copied alone, passes.
    """
    noted = noted_digests(path)
    if noted and digest_of(path) not in noted:
        raise DamagedFileError(
            f"{path} is not the file that was written there: its digest is not the one in {digest_file(path).name}."
            f" It was damaged, or replaced; where you replaced it yourself, remove {digest_file(path).name}"
        )


def _lines(path: Path, digests: list[str]) -> str:
    return "".join(f"{digest}  {path.name}\n" for digest in dict.fromkeys(digests))
