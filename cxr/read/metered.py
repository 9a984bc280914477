"""Files from which pydicom reads elements with bounded memory: plain ones and deflated ones."""

import zlib
from io import BytesIO
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from cxr.read.limits import HEADER_BYTES

UNDEFINED = 0xFFFFFFFF
"""The length of an element whose end is marked (PS3.5 7.1.1). As an argument it means: all that follows."""

_OBJECT_BYTES = 512  # at each read pydicom keeps about so many bytes beside the value, for an element or an item
_PIECE = 2**14


class DamagedError(ValueError):
    """An error of a damaged file. Its text neither names the file nor repeats any value from it."""


class Metered:
    """A file from which pydicom reads elements. Raises ``DamagedError`` if they take more than ``HEADER_BYTES``.

    Elements that pydicom skips are not counted. If the file gives a length larger than itself, only the bytes that
    exist are allocated.
    """

    def __init__(self, file: BinaryIO, position: int = 0) -> None:
        self._file = file
        self._size = file.seek(0, 2)
        self._spent = 0
        self.seek(position)

    def read(self, count: int) -> bytes:
        """Return the next ``count`` bytes, fewer at the end of the file."""
        count = max(0, min(count, self._size - self.tell()))
        self._spend(count)
        return self._file.read(count)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a position in the file, as file objects do."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Return the position in the file."""
        return self._file.tell()

    def rest(self, count: int = UNDEFINED) -> memoryview:
        """Return the next ``count`` bytes, or as many as there are; a view if the whole file is in memory."""
        if isinstance(self._file, BytesIO):
            whole = memoryview(self._file.getvalue())  # not a copy: the bytes from which the BytesIO was made
            return whole[self.tell() :][:count]
        return memoryview(self._file.read(min(count, self._size - self.tell())))

    def _spend(self, count: int) -> None:
        self._spent += count + _OBJECT_BYTES
        if self._spent > HEADER_BYTES:
            raise DamagedError(f"the elements before Pixel Data take more than {HEADER_BYTES:,} bytes of memory")


class Inflated(Metered):
    """A deflated data set (PS3.5 A.5), inflated only as far as it is read.

    The bytes before Pixel Data are kept in memory, at most ``HEADER_BYTES`` of them.
    """

    def __init__(self, deflated: memoryview) -> None:
        self._deflated = deflated
        self._fed = 0
        self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        self._known = bytearray()
        self._position = 0
        self._spent = 0

    def read(self, count: int) -> bytes:
        """Return the next ``count`` bytes, fewer at the end of the data."""
        self._spend(0)
        end = self._position + max(0, count)
        while len(self._known) < min(end, HEADER_BYTES) and (piece := self._more(_PIECE)):
            self._known += piece
        if end > HEADER_BYTES and len(self._known) >= HEADER_BYTES:
            raise DamagedError(f"the elements before Pixel Data inflate to more than {HEADER_BYTES:,} bytes")
        read = bytes(self._known[self._position : end])
        self._position += len(read)
        return read

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a position in the inflated data, counted from its start (0) or from the current position (1)."""
        self._position = offset + (self._position if whence == 1 else 0)
        return self._position

    def tell(self) -> int:
        """Return the position in the inflated data."""
        return self._position

    def rest(self, count: int = UNDEFINED) -> memoryview:
        """Return the next ``count`` inflated bytes, or as many as there are.

        The system only provides the part of the array that is filled, so a wrong ``count`` takes no memory.
        """
        whole: NDArray[Any] = np.empty(count, np.uint8)
        start = self._known[self._position : self._position + count]
        whole[: len(start)] = start
        filled = len(start)
        while filled < count and (piece := self._more(min(count - filled, _PIECE))):
            whole[filled : filled + len(piece)] = np.frombuffer(piece, np.uint8)
            filled += len(piece)
        return whole.data[:filled]

    def _more(self, limit: int) -> bytes:
        """Return at most ``limit`` further inflated bytes; none at the end of the data, or where they are cut off."""
        inflated = b""
        while not (inflated or self._inflate.eof):
            piece = self._inflate.unconsumed_tail
            if not piece:
                piece = bytes(self._deflated[self._fed : self._fed + _PIECE])
                self._fed += len(piece)
            try:
                inflated = self._inflate.decompress(piece, limit)
            except zlib.error as error:
                raise DamagedError("the deflated data set is damaged") from error
            if not piece:
                break
        return inflated
