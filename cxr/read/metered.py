"""A file whose elements pydicom reads, or what a deflated one inflates to, with bounded memory."""

import zlib
from io import BytesIO
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from cxr.read.limits import HEADER_BYTES

UNDEFINED = 0xFFFFFFFF
"""The length of an element whose end is marked (PS3.5 7.1.1), or of all that follows."""

_OBJECT_BYTES = 512  # what pydicom keeps for an element or an item beside its value, about, for each time it reads
_PIECE = 2**14


class DamagedError(ValueError):
    """What is wrong with a file, in words that repeat nothing of what stands in it and do not name it."""


class Metered:
    """A file that pydicom reads elements from. Raises ``DamagedError`` where these take more than ``HEADER_BYTES``.

    What pydicom skips costs nothing. A length in the file that is larger than the file makes nobody allocate it.
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
        """Go to a place in the file, as ``io`` does."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Return the place in the file."""
        return self._file.tell()

    def rest(self, count: int = UNDEFINED) -> memoryview:
        """Return the next ``count`` bytes, or as many as there are: a view where the file lies in memory."""
        if isinstance(self._file, BytesIO):
            whole = memoryview(self._file.getvalue())  # the bytes that the file was made of, not a copy
            return whole[self.tell() :][:count]
        return memoryview(self._file.read(min(count, self._size - self.tell())))

    def _spend(self, count: int) -> None:
        self._spent += count + _OBJECT_BYTES
        if self._spent > HEADER_BYTES:
            raise DamagedError(f"the elements before Pixel Data take more than {HEADER_BYTES:,} bytes of memory")


class Inflated(Metered):
    """A deflated data set (PS3.5 A.5), inflated only as far as somebody reads.

    What stands in front of Pixel Data is kept; that is limited, so nothing of it costs more than ``HEADER_BYTES``.
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
        """Go to a place in the inflated data, counted from its start (0) or from here (1)."""
        self._position = offset + (self._position if whence == 1 else 0)
        return self._position

    def tell(self) -> int:
        """Return the place in the inflated data."""
        return self._position

    def rest(self, count: int = UNDEFINED) -> memoryview:
        """Return the next ``count`` bytes, inflating them; memory that is not filled is not taken from the system."""
        whole: NDArray[Any] = np.empty(count, np.uint8)
        start = self._known[self._position : self._position + count]
        whole[: len(start)] = start
        filled = len(start)
        while filled < count and (piece := self._more(min(count - filled, _PIECE))):
            whole[filled : filled + len(piece)] = np.frombuffer(piece, np.uint8)
            filled += len(piece)
        return whole.data[:filled]

    def _more(self, limit: int) -> bytes:
        """Return the next inflated bytes, ``limit`` at most; none at the end of the data or where they are cut off."""
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
