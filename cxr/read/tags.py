"""Typed access to a DICOM data set that nobody vouches for: what it is, what its elements hold, in plain errors."""

import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from pydicom import FileDataset, config, dcmread
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from cxr.read.decode import MAX_PIXELS
from cxr.read.radiograph import Lut, ReadError, Window

MAX_BYTES = 4 * MAX_PIXELS
"""Largest file, and largest inflated data set, accepted: 512 MiB, twice the largest film at 16 bits."""

_OTHER_KINDS = {b"%PDF": "a PDF", b"PK\3\4": "a ZIP archive", b"\x1f\x8b": "gzip", b"<": "an HTML or XML page"}


def looks_like_dicom(start: bytes) -> bool:
    """Whether a file that starts like this (132 bytes) has PS3.10's preamble, or is a bare data set."""
    if start[128:132] == b"DICM":
        return True
    if start[4:6] in (b"UL", b"UI", b"CS", b"OB"):  # explicit VR; big endian has no file meta
        return start[:2] in (b"\2\0", b"\x08\0", b"\0\x08")
    # Implicit VR: the first element of file meta or of group 8 is short, and its length even
    length = int.from_bytes(start[4:8], "little")
    return len(start) >= 8 and start[:2] in (b"\2\0", b"\x08\0") and length < 1024 and length % 2 == 0


@contextmanager
def open_tags(path: Path, file: BinaryIO, names: list[str]) -> Iterator["Tags"]:
    """Open the data set in ``file`` for reading ``names``, its pixels only if ``PixelData`` is one of them.

    Inside, pydicom is silent and its errors become ``ReadError``: it warns of values that break their VR and repeats
    them in its log, patients' data included; what matters here of a value is checked here. Its settings are restored
    on leaving.
    """
    try:
        with warnings.catch_warnings(), config.disable_value_validation():
            warnings.simplefilter("ignore")
            yield Tags(path, _data_set(path, file, names))
    except (ReadError, OSError):
        raise
    except Exception as error:  # pydicom on untrusted bytes; its text may repeat a value, so only its kind is shown
        raise ReadError(f"{path}: damaged DICOM data set ({type(error).__name__} on reading it)") from error


def _data_set(path: Path, file: BinaryIO, names: list[str]) -> FileDataset:
    start = file.read(1024)
    if not looks_like_dicom(start):
        text = start.lstrip(b"\xef\xbb\xbf \t\r\n")
        kind = next((f", it begins like {kind}" for magic, kind in _OTHER_KINDS.items() if text.startswith(magic)), "")
        raise ReadError(f"{path}: not a DICOM file{kind}; expected DICM after 128 bytes, or a bare data set")
    if str(DeflatedExplicitVRLittleEndian).encode() in start:
        _check_inflated_size(path, start + file.read())
    file.seek(0)
    return dcmread(file, force=True, stop_before_pixels="PixelData" not in names, specific_tags=list(names))


def _check_inflated_size(path: Path, data: bytes) -> None:
    """Refuse a deflated data set that would inflate beyond ``MAX_BYTES``, before pydicom inflates it whole."""
    start = 144 + int.from_bytes(data[140:144], "little")  # (0002,0000), the length of the rest of the file meta
    inflated = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data[start:], MAX_BYTES + 1)
    if len(inflated) > MAX_BYTES:
        raise ReadError(f"{path}: inflates beyond {MAX_BYTES:,} bytes, more than one film can have")


@dataclass(frozen=True)
class Tags:
    """Typed access to a data set, with errors that name file, element and value found."""

    path: Path
    dataset: FileDataset

    @property
    def syntax(self) -> UID:
        """The transfer syntax: as the file meta tells it, else as pydicom recognised the bare data set."""
        syntax = self.dataset.file_meta.get("TransferSyntaxUID")
        if syntax:
            return UID(syntax)
        implicit, little = self.dataset.original_encoding
        if implicit:
            return ImplicitVRLittleEndian
        return ExplicitVRLittleEndian if little else ExplicitVRBigEndian

    def text(self, name: str) -> str:
        """The first value of an element as text, "" where absent."""
        value = self.dataset.get(name)
        value = value[0] if isinstance(value, MultiValue) and value else value
        return str(value or "").strip()

    def numbers(self, name: str) -> list[float]:
        """The values of an element, none where absent."""
        value = self.dataset.get(name)
        try:
            return [float(v) for v in (value if isinstance(value, MultiValue) else [value]) if v not in (None, "")]
        except (TypeError, ValueError) as error:
            raise ReadError(f"{self.path}: {name} is {value!r}, expected numbers") from error

    def number(self, name: str, default: float | None = None) -> float:
        """The only value of an element; it must be there unless there is a default."""
        numbers = self.numbers(name)
        if not numbers and default is not None:
            return default
        if len(numbers) != 1 or not isfinite(numbers[0]):
            raise ReadError(f"{self.path}: {name} is {numbers or 'absent'}, expected one finite number")
        return numbers[0]

    def integer(self, name: str, default: int | None = None) -> int:
        """The only value of an element, as an integer."""
        return int(self.number(name, default))

    def windows(self) -> tuple[Window, ...]:
        """The VOI windows that can be applied: some files carry a width of 0 where there is no window."""
        function = self.text("VOILUTFunction") or "LINEAR"
        pairs = zip(self.numbers("WindowCenter"), self.numbers("WindowWidth"), strict=False)
        try:
            return tuple(Window(center, width, function) for center, width in pairs if width > 0)
        except ValueError as error:
            raise ReadError(f"{self.path}: {error}") from error

    def spacing(self) -> tuple[float, float] | None:
        """Row and column spacing in mm, where the film gives one that can be true."""
        for name in ("PixelSpacing", "ImagerPixelSpacing"):
            spacing = self.numbers(name)
            if len(spacing) == 2 and min(spacing) > 0:
                return spacing[0], spacing[1]
        return None

    def luts(self, name: str, signed: bool) -> tuple[Lut, ...]:
        """The tables of a LUT sequence; ``signed`` when the values that enter them may be negative."""
        little = self.syntax != ExplicitVRBigEndian
        try:
            return tuple(_lut(item, signed, little) for item in self.dataset.get(name) or ())
        except (KeyError, AttributeError, TypeError, ValueError) as error:
            raise ReadError(f"{self.path}: {name} is damaged: {error}") from error


def _lut(item: Dataset, signed: bool, little_endian: bool) -> Lut:
    """Return a lookup table from its sequence item (PS3.3 C.11.1.1.1, C.11.2.1.1)."""
    descriptor = item["LUTDescriptor"].value
    if isinstance(descriptor, bytes):
        descriptor = _words(descriptor, little_endian)
    count, first, bits = (int(value) for value in descriptor)
    if bits not in range(8, 17):
        raise ValueError(f"LUTDescriptor gives entries of {bits} bits, expected 8 to 16")
    count = count % 65536 or 65536  # 0 stands for 2^16; the count is unsigned even where the VR is SS
    entries = _words(item["LUTData"].value, little_endian)
    if len(entries) < count:  # 8-bit entries, two to a word
        entries = entries.astype("<u2" if little_endian else ">u2").view(np.uint8).astype(np.uint16)
    if len(entries) < count:
        raise ValueError(f"LUTData holds {len(entries)} entries, LUTDescriptor promises {count}")
    if signed and first > 32767:
        first -= 65536
    return Lut(first, bits, entries[:count])


def _words(value: Any, little_endian: bool) -> NDArray[np.uint16]:
    """Return the 16-bit words of a US, SS or OW value as unsigned numbers, whatever VR the file gave them."""
    if isinstance(value, bytes):
        return np.frombuffer(value, "<u2" if little_endian else ">u2").astype(np.uint16)
    return np.asarray(value, np.int64).astype(np.uint16)
