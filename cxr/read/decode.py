"""Pixel Data as it lies in the file → integer pixels, with the fastest exact decoder for each transfer syntax.

Pixel data are untrusted: sizes are checked against the bytes there are, and against the codestream's own header,
before anything of that size is allocated.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom import uid
from pydicom.encaps import generate_frames

log = logging.getLogger(__name__)

MAX_PIXELS = 2**27
"""Largest film accepted: 134 megapixels, four times a stitched whole-spine film of 3,000 × 10,000."""

_NATIVE = (
    uid.ImplicitVRLittleEndian,
    uid.ExplicitVRLittleEndian,
    uid.DeflatedExplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
)

# One decoder a transfer syntax: the fastest of those that gave equal pixels (benchmarks/reading.py).
_CODECS: dict[uid.UID, tuple[str, Callable[[bytes], Any]]] = {
    uid.JPEGBaseline8Bit: ("libjpeg-turbo", imagecodecs.jpeg8_decode),
    uid.JPEGExtended12Bit: ("libjpeg-turbo", imagecodecs.jpeg8_decode),
    uid.JPEGLossless: ("libjpeg-turbo", imagecodecs.jpeg8_decode),
    uid.JPEGLosslessSV1: ("libjpeg-turbo", imagecodecs.jpeg8_decode),
    uid.JPEGLSLossless: ("CharLS", imagecodecs.jpegls_decode),
    uid.JPEGLSNearLossless: ("CharLS", imagecodecs.jpegls_decode),
    uid.JPEG2000Lossless: ("OpenJPEG", imagecodecs.jpeg2k_decode),
    uid.JPEG2000: ("OpenJPEG", imagecodecs.jpeg2k_decode),
    uid.HTJ2KLossless: ("OpenJPH", imagecodecs.htj2k_decode),
    uid.HTJ2KLosslessRPCL: ("OpenJPH", imagecodecs.htj2k_decode),
    uid.HTJ2K: ("OpenJPH", imagecodecs.htj2k_decode),
}
_LOSSY = (uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit, uid.JPEGLSNearLossless, uid.JPEG2000, uid.HTJ2K)
_WAVELET = (uid.JPEG2000Lossless, uid.JPEG2000, uid.HTJ2KLossless, uid.HTJ2KLosslessRPCL, uid.HTJ2K)

_in_use: dict[uid.UID, str] = {}

SUPPORTED = (*_NATIVE, uid.RLELossless, *_CODECS)
"""Transfer syntaxes that are read."""


@dataclass(frozen=True)
class PixelLayout:
    """How a film's pixels are stored (PS3.3 C.7.6.3, PS3.5 8.1.1). Raises ``ValueError`` for what is not read."""

    rows: int
    columns: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool

    def __post_init__(self) -> None:
        if self.rows < 1 or self.columns < 1:
            raise ValueError(f"Rows × Columns is {self.rows} × {self.columns}, expected at least 1 × 1")
        if self.rows * self.columns > MAX_PIXELS:
            raise ValueError(
                f"Rows × Columns is {self.rows} × {self.columns}, expected at most {MAX_PIXELS:,} pixels together"
            )
        if self.bits_allocated not in (8, 16):
            raise ValueError(f"BitsAllocated is {self.bits_allocated}, expected 8 or 16")
        if not 1 <= self.bits_stored <= self.bits_allocated:
            raise ValueError(f"BitsStored is {self.bits_stored}, expected 1..{self.bits_allocated} (BitsAllocated)")
        if not self.bits_stored - 1 <= self.high_bit < self.bits_allocated:
            raise ValueError(
                f"HighBit is {self.high_bit}, expected {self.bits_stored - 1} (BitsStored - 1) "
                f"to {self.bits_allocated - 1} (BitsAllocated - 1)"
            )

    @property
    def nbytes(self) -> int:
        """Bytes of the uncompressed film."""
        return self.rows * self.columns * self.bits_allocated // 8


def decode(data: bytes, syntax: uid.UID, layout: PixelLayout, swapped_bytes: bool = False) -> NDArray[Any]:
    """Return the stored values of a single-frame film, [rows, columns], uint8/uint16 or int8/int16.

    Unused high bits are dropped and the sign is applied. ``data`` is the value of Pixel Data. ``swapped_bytes``
    tells that 8-bit pixels were written as big-endian 16-bit words (VR OW). Raises ``ValueError`` with the reason.
    """
    if syntax in _NATIVE:
        announce({syntax: "numpy"})
        return _stored_bits(_native_words(data, syntax.is_little_endian, layout, swapped_bytes), layout)
    if syntax == uid.RLELossless:
        announce({syntax: "imagecodecs"})
        return _stored_bits(_rle_words(_only_frame(data), layout), layout)
    if syntax not in _CODECS:
        raise ValueError(f"no decoder for this transfer syntax, expected one of {', '.join(s.name for s in SUPPORTED)}")
    name, codec = _CODECS[syntax]
    announce({syntax: name})
    frame = _only_frame(data)
    _check_codestream(frame, syntax, layout)
    try:
        samples = np.asarray(codec(frame))
    except Exception as error:  # whatever a codec makes of untrusted bytes
        raise ValueError(f"{name} cannot decode the pixel data: {error}") from error
    if samples.shape != (layout.rows, layout.columns):
        raise ValueError(f"{name} gave pixels of shape {samples.shape}, expected {(layout.rows, layout.columns)}")
    return _samples_to_stored(samples, layout, lossy=syntax in _LOSSY)


def decoders_in_use() -> dict[uid.UID, str]:
    """Return the decoder of each transfer syntax that this process, or a worker it heard of, has decoded."""
    return dict(_in_use)


def announce(decoders: Mapping[uid.UID, str]) -> None:
    """Log the decoders of transfer syntaxes, each once a process."""
    for syntax, decoder in decoders.items():
        if syntax not in _in_use:
            _in_use[syntax] = decoder
            log.info("%s (%s) is decoded by %s", syntax.name, syntax, decoder)


def _native_words(data: bytes, little_endian: bool, layout: PixelLayout, swapped_bytes: bool) -> NDArray[Any]:
    if len(data) < layout.nbytes:
        raise ValueError(
            f"Pixel Data holds {len(data):,} bytes, expected {layout.nbytes:,} "
            f"for {layout.rows} × {layout.columns} pixels of {layout.bits_allocated} bits"
        )
    count = layout.rows * layout.columns
    words: NDArray[Any]
    if layout.bits_allocated == 16:
        words = np.frombuffer(data, "<u2" if little_endian else ">u2", count).astype(np.uint16, copy=False)
    elif swapped_bytes:
        words = np.frombuffer(data, ">u2", len(data) // 2).astype("<u2").view(np.uint8)[:count]
    else:
        words = np.frombuffer(data, np.uint8, count)
    return words.reshape(layout.rows, layout.columns)


def _rle_words(frame: bytes, layout: PixelLayout) -> NDArray[Any]:
    """Return the words of an RLE frame (PS3.5 Annex G): one segment a byte, most significant first."""
    segments = int.from_bytes(frame[:4], "little")
    if len(frame) < 64 or segments != layout.bits_allocated // 8:
        raise ValueError(f"the RLE header lists {segments} segments, expected {layout.bits_allocated // 8}")
    if layout.nbytes > 64 * len(frame):  # two bytes stand for at most 128
        raise ValueError(f"{len(frame):,} bytes of RLE cannot hold the expected {layout.nbytes:,} bytes")
    word = np.dtype(f"<u{layout.bits_allocated // 8}")
    try:
        decoded = imagecodecs.dicomrle_decode(frame, word)
        return np.frombuffer(decoded, word, layout.rows * layout.columns).reshape(layout.rows, layout.columns)
    except Exception as error:  # whatever a codec makes of untrusted bytes
        raise ValueError(f"the RLE pixel data cannot be decoded: {error}") from error


def _only_frame(data: bytes) -> bytes:
    """Return the codestream of the single frame, its fragments joined (PS3.5 A.4)."""
    try:
        frames = list(generate_frames(data, number_of_frames=1))
    except Exception as error:  # whatever pydicom makes of untrusted bytes
        raise ValueError(f"the encapsulated pixel data are damaged: {error}") from error
    if len(frames) != 1 or not frames[0]:
        raise ValueError(f"the encapsulated pixel data hold {len(frames)} frames, expected 1 that is not empty")
    return frames[0]


def _check_codestream(frame: bytes, syntax: uid.UID, layout: PixelLayout) -> None:
    """Raise ``ValueError`` unless the codestream is whole and promises the size that the film's header does.

    Decoders fill what a cut codestream lacks with grey, or allocate whatever its header asks for.
    """
    found = _wavelet_size(frame) if syntax in _WAVELET else _jpeg_size(frame)
    expected = (layout.rows, layout.columns, 1)
    if found != expected:
        raise ValueError(f"the codestream holds rows × columns × samples {found}, expected {expected}")
    if not frame[-64:].rstrip(b"\0\xff").endswith(b"\xff\xd9"):  # EOI of JPEG, EOC of JPEG 2000; padding may follow
        raise ValueError(f"the codestream of {len(frame):,} bytes is cut off, it has no end marker")


def _jpeg_size(frame: bytes) -> tuple[int, int, int] | None:
    """Return rows, columns and components from the frame header of JPEG or JPEG-LS (ISO 10918-1 B.2.2)."""
    position = 2
    while position + 10 <= len(frame) and frame[position] == 0xFF:
        marker = frame[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
        elif marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            rows, columns = (int.from_bytes(frame[position + at : position + at + 2], "big") for at in (5, 7))
            return rows, columns, frame[position + 9]
        else:
            position += 2 + int.from_bytes(frame[position + 2 : position + 4], "big")
    return None


def _wavelet_size(frame: bytes) -> tuple[int, int, int] | None:
    """Return rows, columns and components from the SIZ segment of JPEG 2000 (ISO 15444-1 A.5.1)."""
    start = frame.find(b"\xff\x4f\xff\x51")  # not always at 0: some writers put a whole JP2 file into the item
    if start < 0 or len(frame) < start + 42:
        return None
    siz = start + 8
    x1, y1, x0, y0 = (int.from_bytes(frame[siz + at : siz + at + 4], "big") for at in (0, 4, 8, 12))
    return y1 - y0, x1 - x0, int.from_bytes(frame[siz + 32 : siz + 34], "big")


def _stored_bits(words: NDArray[Any], layout: PixelLayout) -> NDArray[Any]:
    """Return the values in the stored bits of each word; the others may hold anything (PS3.5 8.1.1)."""
    signed = np.dtype(f"i{layout.bits_allocated // 8}")
    if layout.bits_stored < layout.bits_allocated:
        words = words << (layout.bits_allocated - 1 - layout.high_bit)
        words = words.view(signed) if layout.signed else words
        return words >> (layout.bits_allocated - layout.bits_stored)  # arithmetic where signed: extends the sign
    return words.view(signed) if layout.signed else words


def _samples_to_stored(samples: NDArray[Any], layout: PixelLayout, lossy: bool) -> NDArray[Any]:
    """Return a codec's samples as stored values: lossless ones drop unused bits, lossy ones that overshoot are clipped.

    A lossy 10-bit film decodes to 1024 here and there; dropping bits would turn these white points black.
    """
    low = -(2 ** (layout.bits_stored - 1)) if layout.signed else 0
    sign_lost = layout.signed and np.issubdtype(samples.dtype, np.unsignedinteger)
    if lossy and not sign_lost:
        samples = np.clip(samples, low, low + 2**layout.bits_stored - 1)
    words = samples.astype(f"u{layout.bits_allocated // 8}")
    return _stored_bits(words, replace(layout, high_bit=layout.bits_stored - 1))
