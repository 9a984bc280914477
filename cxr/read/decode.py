"""Turns the Pixel Data of a file into integer pixels, with the fastest exact decoder of each transfer syntax.

Pixel data are not trusted: before memory is allocated, sizes are checked against the number of bytes in the file and
against the header of the codestream.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom import uid

from cxr.read.codestream import Codestream, check_whole, open_jpeg, open_wavelet
from cxr.read.htj2k import decode_htj2k
from cxr.read.jpeg_end import decode_whole
from cxr.read.limits import check_pixels
from cxr.read.part10 import PixelElement

log = logging.getLogger(__name__)

_NATIVE = (
    uid.ImplicitVRLittleEndian,
    uid.ExplicitVRLittleEndian,
    uid.DeflatedExplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
)

# One decoder for each transfer syntax: the fastest of those that give the same pixels (benchmarks/reading.py).
_CODECS: dict[uid.UID, tuple[str, Callable[..., Any]]] = {
    uid.JPEGBaseline8Bit: ("libjpeg-turbo", imagecodecs.jpeg8_decode),
    uid.JPEGExtended12Bit: ("libjpeg-turbo", imagecodecs.jpeg8_decode),
    uid.JPEGLossless: ("libjpeg-turbo", imagecodecs.jpeg8_decode),
    uid.JPEGLosslessSV1: ("libjpeg-turbo", imagecodecs.jpeg8_decode),
    uid.JPEGLSLossless: ("CharLS", imagecodecs.jpegls_decode),
    uid.JPEGLSNearLossless: ("CharLS", imagecodecs.jpegls_decode),
    uid.JPEG2000Lossless: ("OpenJPEG", imagecodecs.jpeg2k_decode),
    uid.JPEG2000: ("OpenJPEG", imagecodecs.jpeg2k_decode),
    uid.HTJ2KLossless: ("OpenJPH", decode_htj2k),
    uid.HTJ2KLosslessRPCL: ("OpenJPH", decode_htj2k),
    uid.HTJ2K: ("OpenJPH", decode_htj2k),
}
_LOSSY = (uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit, uid.JPEGLSNearLossless, uid.JPEG2000, uid.HTJ2K)
_WAVELET = (uid.JPEG2000Lossless, uid.JPEG2000, uid.HTJ2KLossless, uid.HTJ2KLosslessRPCL, uid.HTJ2K)

_in_use: dict[uid.UID, str] = {}

SUPPORTED = (*_NATIVE, uid.RLELossless, *_CODECS)
"""Transfer syntaxes that are read."""


@dataclass(frozen=True)
class PixelLayout:
    """How a film's pixels are stored (PS3.3 C.7.6.3, PS3.5 8.1.1). Raises ``ValueError`` if that is not supported."""

    rows: int
    columns: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool

    def __post_init__(self) -> None:
        check_pixels(self.rows, self.columns)
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
        """Number of bytes of the uncompressed film."""
        return self.rows * self.columns * self.bits_allocated // 8


def decode(element: PixelElement, syntax: uid.UID, layout: PixelLayout) -> NDArray[Any]:
    """Return the stored values of a single-frame film, [rows, columns], uint8/uint16 or int8/int16.

    Unused high bits are dropped and the sign is applied. Only the codec takes memory beside the bytes of the file and
    the returned pixels. Raises ``ValueError`` with the reason.
    """
    data = check_data(element, syntax, layout)
    if not isinstance(data, Codestream):
        if syntax == uid.RLELossless:
            announce({syntax: "imagecodecs"})
            return _stored_bits(_rle_words(data, layout), layout)
        announce({syntax: "numpy"})
        return _stored_bits(_native_words(data, syntax, _swapped(element, syntax, layout), layout), layout)
    codestream = data
    name, codec = _CODECS[syntax]
    announce({syntax: name})
    whole = codestream.process in ("sequential", "lossless")
    decoder = partial(_decoded, name, codec)
    samples = decode_whole(codestream, decoder) if whole else decoder(codestream.stream)
    if samples.shape != (layout.rows, layout.columns):
        raise ValueError(f"{name} gave pixels of shape {samples.shape}, expected {(layout.rows, layout.columns)}")
    return _samples_to_stored(samples, layout, lossy=syntax in _LOSSY)


def check_data(element: PixelElement, syntax: uid.UID, layout: PixelLayout) -> Codestream | memoryview:
    """Return the data of a film: its codestream, or its bytes where it is not compressed or RLE.

    Raises ``ValueError`` unless they are all there, as far as this is seen without decoding them. Deflated data can be
    had only once.
    """
    compressed = syntax == uid.RLELossless or syntax in _CODECS
    if not compressed and syntax not in _NATIVE:
        raise ValueError(f"no decoder for this transfer syntax, expected one of {', '.join(s.name for s in SUPPORTED)}")
    if element.vr not in (("OB", "OW") if compressed else ("OB", "OW", "UN", "")):
        raise ValueError(f"the VR of Pixel Data is {element.vr or 'left out'}, expected OB or OW")
    if element.undefined_length and not compressed:
        raise ValueError("pixel data are compressed, expected uncompressed ones")
    if syntax in _NATIVE:
        return _native_bytes(element, syntax, layout)
    frame = element.frame()
    if syntax == uid.RLELossless:
        _check_rle(frame, layout)
        return frame
    codestream = open_wavelet(frame) if syntax in _WAVELET else open_jpeg(frame)
    _check_agreement(codestream, layout)
    check_whole(codestream)
    return codestream


def decoders_in_use() -> dict[uid.UID, str]:
    """Return the decoder of each transfer syntax that this process or one of its workers has decoded."""
    return dict(_in_use)


def announce(decoders: Mapping[uid.UID, str]) -> None:
    """Log which decoder is used for each transfer syntax, once in each process."""
    for syntax, decoder in decoders.items():
        if syntax not in _in_use:
            _in_use[syntax] = decoder
            log.info("%s (%s) is decoded by %s", syntax.name, syntax, decoder)


def _native_bytes(element: PixelElement, syntax: uid.UID, layout: PixelLayout) -> memoryview:
    """Return the bytes of an uncompressed film. Raises ``ValueError`` where there are too few."""
    needed = layout.nbytes + (layout.nbytes % 2 if _swapped(element, syntax, layout) else 0)
    data = element.value(needed)
    if len(data) < needed:
        raise ValueError(
            f"Pixel Data holds {len(data):,} bytes, expected {needed:,} "
            f"for {layout.rows} × {layout.columns} pixels of {layout.bits_allocated} bits"
        )
    return data


def _swapped(element: PixelElement, syntax: uid.UID, layout: PixelLayout) -> bool:
    """Return whether 8-bit pixels are written as big-endian 16-bit words (PS3.5 8.1.1, Annex D)."""
    return syntax == uid.ExplicitVRBigEndian and element.vr == "OW" and layout.bits_allocated == 8


def _native_words(data: memoryview, syntax: uid.UID, swapped: bool, layout: PixelLayout) -> NDArray[Any]:
    """Return uncompressed words, as a view of the file's bytes where no byte has to change."""
    words: NDArray[Any]
    if layout.bits_allocated == 16:
        words = np.frombuffer(data, "<u2" if syntax.is_little_endian else ">u2").astype(np.uint16, copy=False)
    elif swapped:
        words = np.frombuffer(data, ">u2").astype("<u2").view(np.uint8)[: layout.nbytes]
    else:
        words = np.frombuffer(data, np.uint8)
    return words.reshape(layout.rows, layout.columns)


def _check_rle(frame: memoryview, layout: PixelLayout) -> None:
    """Raise ``ValueError`` unless an RLE frame has the segments of its film and enough bytes for them."""
    segments = int.from_bytes(frame[:4], "little")
    if len(frame) < 64 or segments != layout.bits_allocated // 8:
        raise ValueError(f"the RLE header lists {segments} segments, expected {layout.bits_allocated // 8}")
    if layout.nbytes > 64 * len(frame):  # two bytes of RLE decode to at most 128
        raise ValueError(f"{len(frame):,} bytes of RLE cannot hold the expected {layout.nbytes:,} bytes")


def _rle_words(frame: memoryview, layout: PixelLayout) -> NDArray[Any]:
    """Return the words of an RLE frame (PS3.5 Annex G): one segment for each byte of a word, highest byte first."""
    word = np.dtype(f"<u{layout.bits_allocated // 8}")
    coded: Any = frame  # imagecodecs accepts views, but its type hints do not say so
    try:
        decoded = imagecodecs.dicomrle_decode(coded, word, out=bytearray(layout.nbytes))
        return np.frombuffer(decoded, word, layout.rows * layout.columns).reshape(layout.rows, layout.columns)
    except Exception as error:  # a codec may raise anything on untrusted bytes
        raise ValueError(f"the RLE pixel data cannot be decoded: {error}") from error


def _check_agreement(codestream: Codestream, layout: PixelLayout) -> None:
    """Raise ``ValueError`` unless the codestream has the size and bits that the film's header gives."""
    size, expected = (codestream.rows, codestream.columns, codestream.samples), (layout.rows, layout.columns, 1)
    if size != expected:
        raise ValueError(f"the codestream holds rows × columns × samples {size}, expected {expected}")
    if codestream.bits > layout.bits_allocated:
        raise ValueError(
            f"the codestream has {codestream.bits} bits a sample, expected at most {layout.bits_allocated}"
        )


def _decoded(name: str, codec: Callable[..., Any], stream: Any) -> NDArray[Any]:
    try:
        return np.asarray(codec(stream))
    except Exception as error:  # a codec may raise anything on untrusted bytes
        raise ValueError(f"{name} cannot decode the pixel data: {error or type(error).__name__}") from error


def _stored_bits(words: NDArray[Any], layout: PixelLayout) -> NDArray[Any]:
    """Return the values of the stored bits of each word; the other bits may have any value (PS3.5 8.1.1)."""
    signed = np.dtype(f"i{layout.bits_allocated // 8}")
    if layout.bits_stored < layout.bits_allocated:
        # In place where the words are not a view of the file, so that there are never three films in memory
        left, right = layout.bits_allocated - 1 - layout.high_bit, layout.bits_allocated - layout.bits_stored
        words = np.left_shift(words, left, out=words if words.flags.writeable else None)
        words = words.view(signed) if layout.signed else words
        words >>= right  # for signed words this keeps the sign
        return words
    return words.view(signed) if layout.signed else words


def _samples_to_stored(samples: NDArray[Any], layout: PixelLayout, lossy: bool) -> NDArray[Any]:
    """Return a codec's samples as stored values: unused bits are dropped; samples of lossy codecs are clipped first.

    A few samples of a lossy 10-bit film may decode to 1024; without clipping, these white points would become black.
    """
    low = -(2 ** (layout.bits_stored - 1)) if layout.signed else 0
    sign_lost = layout.signed and np.issubdtype(samples.dtype, np.unsignedinteger)
    if lossy and not sign_lost:
        whole = np.iinfo(samples.dtype)
        np.clip(samples, max(low, whole.min), min(low + 2**layout.bits_stored - 1, whole.max), out=samples)
    unsigned = np.dtype(f"u{layout.bits_allocated // 8}")
    words = samples.view(unsigned) if samples.itemsize == unsigned.itemsize else samples.astype(unsigned)
    return _stored_bits(words, replace(layout, high_bit=layout.bits_stored - 1))
