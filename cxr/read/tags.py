"""Typed access to the elements of an untrusted DICOM data set, with errors that say what is wrong."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.uid import UID, ExplicitVRBigEndian

from cxr.read.files import cannot_open
from cxr.read.metered import DamagedError
from cxr.read.part10 import PixelElement, looks_like_dicom, read_data_set
from cxr.read.radiograph import Lut, ReadError, Window
from cxr.read.silence import SILENT, UNCHECKED

__all__ = ["Tags", "looks_like_dicom", "open_tags"]

_CODE = re.compile(r"[A-Z0-9_ ]{0,16}")  # the characters allowed in a Code String (PS3.5 6.2)

_MOST_LUT = 2 * 2**16  # bytes of the largest table: 2^16 entries of 16 bits


@contextmanager
def open_tags(path: Path, names: list[str], data: bytes | None = None) -> Iterator["Tags"]:
    """Open the DICOM file ``path`` and read the elements ``names``; ``data`` is its content if that is already known.

    Inside the block pydicom gives no warnings, because these repeat values, and a value may be a patient's name. Its
    settings are restored afterwards. Every exception becomes a ``ReadError``. Several threads may read at once.
    """
    try:
        with SILENT.kept(), UNCHECKED.kept(), path.open("rb") if data is None else BytesIO(data) as file:
            yield Tags(path, *read_data_set(path, file, names))
    except ReadError:
        raise
    except DamagedError as error:
        raise ReadError(f"{path}: {error}") from error
    except OSError as error:
        if error.strerror:  # an error of the system, not one that pydicom raised about the content
            raise cannot_open(path, error) from error
        raise _damaged(path, error) from error
    except Exception as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> ReadError:
    """Return the error for an exception of pydicom. It gives only its type, because its text may repeat a value."""
    return ReadError(f"{path}: damaged DICOM data set ({type(error).__name__} on reading it)")


@dataclass(frozen=True)
class Tags:
    """Typed access to a data set, with errors that name the file, the element and its value.

    Args:
        path: the file.
        dataset: the elements that were asked for.
        syntax: transfer syntax, from the file meta or, in a bare data set, from the first element.
        pixels: Pixel Data, None where there are none.
    """

    path: Path
    dataset: Dataset
    syntax: UID
    pixels: PixelElement | None

    def text(self, name: str) -> str:
        """Return the first value of an element as text, "" where absent."""
        value = self.dataset.get(name)
        value = value[0] if isinstance(value, MultiValue) and value else value
        return str(value or "").strip()

    def code(self, name: str) -> str:
        """Return the first value of an element that holds a code, such as "MONOCHROME1"; "" where absent.

        A value that is no code is replaced, so that no message repeats it: in a damaged file it may be part of a name.
        """
        code = self.text(name)
        return code if _CODE.fullmatch(code) else f"(no code, {len(code)} characters)"

    def numbers(self, name: str) -> list[float]:
        """Return the values of an element as numbers, an empty list where absent."""
        value = self.dataset.get(name)
        try:
            return [float(v) for v in (value if isinstance(value, MultiValue) else [value]) if v not in (None, "")]
        except (TypeError, ValueError) as error:
            raise ReadError(f"{self.path}: {name} holds something else than numbers") from error

    def number(self, name: str, default: float | None = None) -> float:
        """Return the only value of an element, or ``default`` where absent. Raises ``ReadError`` without either."""
        numbers = self.numbers(name)
        if not numbers and default is not None:
            return default
        if len(numbers) != 1 or not isfinite(numbers[0]):
            raise ReadError(f"{self.path}: {name} is {numbers[:4] or 'absent'}, expected one finite number")
        return numbers[0]

    def integer(self, name: str, default: int | None = None) -> int:
        """Return the only value of an element as an integer, or ``default`` where absent."""
        number = self.number(name, default)
        if number != int(number):
            raise ReadError(f"{self.path}: {name} is {number}, expected a whole number")
        return int(number)

    def windows(self) -> tuple[Window, ...]:
        """Return the VOI windows, without those of width 0, which some files have in place of no window."""
        function = self.code("VOILUTFunction") or "LINEAR"
        pairs = zip(self.numbers("WindowCenter"), self.numbers("WindowWidth"), strict=False)
        try:
            return tuple(Window(center, width, function) for center, width in pairs if width > 0)
        except ValueError as error:
            raise ReadError(f"{self.path}: {error}") from error

    def spacing(self) -> tuple[float, float] | None:
        """Return row and column spacing in mm, None where the file has no valid one."""
        for name in ("PixelSpacing", "ImagerPixelSpacing"):
            spacing = self.numbers(name)
            if len(spacing) == 2 and all(isfinite(mm) and mm > 0 for mm in spacing):
                return spacing[0], spacing[1]
        return None

    def luts(self, name: str, signed: bool) -> tuple[Lut, ...]:
        """Return the tables of a LUT sequence. ``signed``: values that are looked up in them may be negative."""
        little = self.syntax != ExplicitVRBigEndian
        try:
            return tuple(_lut(item, signed, little) for item in self.dataset.get(name) or ())
        except DamagedError as error:
            raise ReadError(f"{self.path}: {name} is damaged: {error}") from error
        except (KeyError, AttributeError, TypeError, ValueError, OverflowError) as error:
            raise ReadError(f"{self.path}: {name} is damaged ({type(error).__name__} on reading it)") from error


def _lut(item: Dataset, signed: bool, little_endian: bool) -> Lut:
    """Return a lookup table from its sequence item (PS3.3 C.11.1.1.1, C.11.2.1.1)."""
    for name in ("LUTDescriptor", "LUTData"):
        raw = item.get_item(name)
        if raw is not None and isinstance(raw.value, bytes) and len(raw.value) > _MOST_LUT:
            raise DamagedError(f"{name} has {len(raw.value):,} bytes, expected at most {_MOST_LUT:,}")
    descriptor = item["LUTDescriptor"].value
    if isinstance(descriptor, bytes):
        descriptor = _words(descriptor, little_endian)
    count, first, bits = (int(value) for value in descriptor)
    if bits not in range(8, 17):
        raise DamagedError(f"LUTDescriptor gives entries of {bits} bits, expected 8 to 16")
    if not -32768 <= first <= 65535:
        raise DamagedError(f"LUTDescriptor maps from {first} on, expected a value of 16 bits")
    count = count % 65536 or 65536  # 0 stands for 2^16; the count is unsigned even where the VR is SS
    entries = _words(item["LUTData"].value, little_endian)
    if len(entries) < count:  # 8-bit entries, two in each word
        entries = entries.astype("<u2" if little_endian else ">u2").view(np.uint8).astype(np.uint16)
    if len(entries) < count:
        raise DamagedError(f"LUTData holds {len(entries)} entries, LUTDescriptor promises {count}")
    if signed and first > 32767:
        first -= 65536
    return Lut(first, bits, entries[:count])


def _words(value: Any, little_endian: bool) -> NDArray[np.uint16]:
    """Return the 16-bit words of a US, SS or OW value as unsigned numbers, whatever VR the file gave them."""
    if isinstance(value, bytes):
        return np.frombuffer(value, "<u2" if little_endian else ">u2").astype(np.uint16)
    return np.asarray(value, np.int64).astype(np.uint16)
