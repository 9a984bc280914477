"""Opens the zip archive that ``torch.save`` writes, and checks it before anything is unpacked."""

import os
import struct
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

LIMIT = "CXR_MAX_CHECKPOINT_BYTES"
"""Environment variable with the largest number of bytes to which a checkpoint may unpack."""

DEFAULT_LIMIT = 4 * 2**30
"""The weights of a ResNet-50 detector take 0.2 GB; with its optimizer and an average of weights it takes 0.7 GB."""

_MOST_DIRECTORY = 4 * 2**20  # bytes of the list of members; each member takes about 60
_MOST_PICKLE = 16 * 2**20  # bytes; a ResNet-50 detector with its optimizer has 0.1 MB
_SMALL = 2**16  # largest size in bytes of all members other than the pickle and the numbers


# Exceptions of zipfile for damaged archives; it raises OSError and ValueError for positions outside of the file
_DAMAGE = (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, OSError, ValueError)


class TorchFileError(ValueError):
    """The error of a file of torch that is damaged, too large, or holds more than plain data."""


@dataclass(frozen=True)
class Archive:
    """An open archive whose members are such as torch writes.

    Args:
        file: the open archive.
        members: members by their name inside the archive's folder: ``data.pkl``, ``data/0``, ….
    """

    file: zipfile.ZipFile
    members: Mapping[str, zipfile.ZipInfo]

    def read(self, name: str, otherwise: bytes | None = None) -> bytes:
        """Return the bytes of a member, or ``otherwise``, if it is given, when there is no such member.

        Raises ``TorchFileError`` if there is neither, or if the bytes do not match their checksum.
        """
        if name not in self.members:
            if otherwise is not None:
                return otherwise
            raise TorchFileError(f"it is not written by torch.save: it has no member {name[:40]!r}")
        try:
            return self.file.read(self.members[name])
        except _DAMAGE as error:
            raise TorchFileError(f"its member {name} is damaged: {error}") from error


@contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """Open the archive at ``path``.

    Raises ``TorchFileError`` if it would unpack to more bytes than allowed, or than the file has, or if it is not such
    as torch writes: without a list of members, or with members that are compressed or there twice.
    """
    _refuse_directory(path)
    try:
        file = zipfile.ZipFile(path)
    except _DAMAGE as error:
        raise TorchFileError(f"its list of members is damaged: {error}") from error
    with file:
        infos = file.infolist()
        _refuse_members(infos, path.stat().st_size)
        yield Archive(file, {info.filename.partition("/")[2]: info for info in infos})


def refuse_size(size: int) -> None:
    """Raise ``TorchFileError`` if a file holds, or unpacks to, more bytes than allowed."""
    limit = _most_bytes()
    if size > limit:
        raise TorchFileError(
            f"it unpacks to {size:,} bytes, allowed are {limit:,}; if you trust the file, set the environment variable"
            f" {LIMIT} to more"
        )


def _most_bytes() -> int:
    setting = os.environ.get(LIMIT, str(DEFAULT_LIMIT))
    if not (setting.isascii() and setting.isdecimal() and len(setting) < 20 and int(setting)):
        raise TorchFileError(
            f"the environment variable {LIMIT} is {setting[:40]!r}, expected a number of bytes above 0"
        )
    return int(setting)


def _refuse_directory(path: Path) -> None:
    """Raise ``TorchFileError`` if the list of members is not at the end of the file, or is too long."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 98))
        tail = file.read()
    end, large = tail[-22:], tail[-98:]
    if not end.startswith(b"PK\x05\x06") or end[20:] != b"\0\0":
        raise TorchFileError("its end is missing: it was cut off, or is not written by torch.save")
    listed = struct.unpack("<I", end[12:16])[0]
    if large[56:60] == b"PK\x06\x07":  # the end of large archives (zip64), which then gives the size
        listed = struct.unpack("<Q", large[40:48])[0] if large.startswith(b"PK\x06\x06") else _MOST_DIRECTORY + 1
    if listed > _MOST_DIRECTORY:
        raise TorchFileError(f"its list of members has more than {_MOST_DIRECTORY:,} bytes")


def _refuse_members(infos: Sequence[zipfile.ZipInfo], file_size: int) -> None:
    size = sum(info.file_size for info in infos)
    refuse_size(size)
    for info in infos:
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size or info.flag_bits & 1:
            raise TorchFileError(
                f"its member {info.filename[:40]!r} is compressed, {info.compress_size:,} bytes for"
                f" {info.file_size:,}, which torch.save never does"
            )
    if size > file_size:
        raise TorchFileError(f"its members overlap: they state {size:,} bytes, and the file has {file_size:,}")
    folders = {info.filename.partition("/")[0] for info in infos}
    if len(folders) != 1 or len({info.filename for info in infos}) != len(infos):
        raise TorchFileError("it is not written by torch.save: members of one name, or in several folders")
    for info in infos:
        name = info.filename.partition("/")[2]
        most = _MOST_PICKLE if name.endswith(".pkl") else None if name.startswith("data/") else _SMALL
        if most is not None and info.file_size > most:
            raise TorchFileError(f"its member {name[:40]!r} has {info.file_size:,} bytes, allowed are {most:,}")
