"""Checks of compressed pixel data before they are decoded: JPEG (ISO 10918-1), JPEG-LS (ISO 14495-1), JPEG 2000.

A decoder allocates as much memory as the codestream's header asks for, and fills missing data with grey. So the
codestream is checked first: its size, its bits, whether it is whole, and whether it has enough bytes for a picture.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

_SIGNATURE = b"\x00\x00\x00\x0cjP  \r\n\x87\n"  # the first box of a JP2 file (ISO 15444-1 I.5.1)
_SOC, _SIZ, _COD, _COC, _SOT, _SOD, _EOC = 0xFF4F, 0xFF51, 0xFF52, 0xFF53, 0xFF90, 0xFF93, 0xFFD9
_QCD, _QCC = 0xFF5C, 0xFF5D
_OTHER = "progressive or arithmetic"
_PROCESSES = {0xC0: "sequential", 0xC1: "sequential", 0xC3: "lossless", 0xF7: "JPEG-LS"}
_NO_FRAME = (0xC4, 0xC8, 0xCC)  # markers from C0 to CF that begin tables or the like, not a frame
_MOST_SEGMENTS = 4096  # a film's codestream has about ten
_MOST_PARTS = 65536  # a tile's number has 16 bits
_MOST_LAYERS = 256  # encoders write 1 to about 20
_MANY_PRECINCTS = 1024
_MOST_BITS = 30  # in a coefficient; those of 16-bit films have 18 to 22
_SMALLEST_TILE = _SMALLEST_BLOCK = 256  # pixels. OpenJPEG keeps hundreds of bytes for a block, thousands for a tile
_MANY_PIXELS = 2**20
_PIXELS_A_BYTE = 4096  # one byte for a block of 64 × 64; the most compressed films have a hundred times as many bytes


@dataclass(frozen=True)
class Codestream:
    """A codestream with the values of its header.

    Args:
        stream: the codestream, without a file format around it.
        rows, columns: size of the picture.
        samples: samples in a pixel, 1 for a grayscale picture.
        bits: bits of a sample, 1 to 38.
        process: "sequential" (blocks of 8 × 8, one after the other), "lossless", "JPEG-LS", "JPEG 2000", or another
            process of JPEG, which is not read.
        scans: number of bytes from the first scan of a JPEG codestream to its end.
        rows_at: position of the number of rows in a JPEG codestream.
        predictor: of a lossless JPEG codestream, 1 to 7.
        transform: number of low bits that a lossless JPEG codestream leaves out of each sample.
        restarts: whether the decoder begins anew now and then (ISO 10918-1 B.2.4.4).
    """

    stream: memoryview
    rows: int
    columns: int
    samples: int
    bits: int
    process: str
    scans: int = 0
    rows_at: int = 0
    predictor: int = 0
    transform: int = 0
    restarts: bool = False


def open_jpeg(data: memoryview) -> Codestream:
    """Return a JPEG or JPEG-LS codestream with its header. Raises ``ValueError`` where it has none."""
    frame = _jpeg_frame(data)
    if frame is None:
        raise ValueError("the codestream has no header with rows, columns and samples")
    return frame


def open_wavelet(data: memoryview) -> Codestream:
    """Return a JPEG 2000 or HTJ2K codestream, bare or in a JP2 file, with its header. Raises ``ValueError``."""
    stream = _contiguous(data) if bytes(data[:12]) == _SIGNATURE else data
    if len(stream) < 46 or _number(stream, 0, 2) != _SOC or _number(stream, 2, 2) != _SIZ:
        raise ValueError("the codestream has no header with rows, columns and samples")
    x1, y1, x0, y0 = (_number(stream, at, 4) for at in (8, 12, 16, 20))  # ISO 15444-1 A.5.1
    bits = (stream[42] & 0x7F) + 1  # the highest bit says whether the samples have a sign
    return Codestream(stream, y1 - y0, x1 - x0, _number(stream, 40, 2), bits, "JPEG 2000")


def check_whole(codestream: Codestream) -> None:
    """Raise ``ValueError`` if a codestream is cut off, cannot hold its picture or makes a decoder use too much memory.

    Only the JPEG processes of DICOM are allowed: baseline, extended, lossless and JPEG-LS (PS3.5 8.2.1, 8.2.3). With a
    progressive one the decoder keeps every coefficient, which takes three times the memory of the film.
    """
    if codestream.process == "JPEG 2000":
        _check_tiles(codestream)
        _check_parts(codestream.stream)
        return
    if codestream.process == _OTHER:
        raise ValueError(f"the codestream is of a {_OTHER} process, expected a sequential or a lossless one")
    _check_scan(codestream)
    if not bytes(codestream.stream[-66:]).rstrip(b"\0\xff").endswith(b"\xff\xd9"):  # padding may follow
        raise ValueError(f"the codestream of {len(codestream.stream):,} bytes is cut off, it has no end marker")


def check_jpeg_data(data: memoryview) -> None:
    """Raise ``ValueError`` if JPEG data are too short for their picture: a decoder would return a grey one."""
    if (frame := _jpeg_frame(data)) is not None:
        _check_scan(frame)


def _jpeg_frame(data: memoryview) -> Codestream | None:
    """Return the codestream with its frame header and scans (ISO 10918-1 B.2.2); None if it lacks either."""
    frame: Codestream | None = None
    restarts = False
    for marker, start, end in _jpeg_segments(data):
        if (0xC0 <= marker <= 0xCF and marker not in _NO_FRAME) or marker == 0xF7:
            rows, columns = _number(data, start + 1, 2), _number(data, start + 3, 2)
            process = _PROCESSES.get(marker, _OTHER)
            samples, bits = _number(data, start + 5, 1), _number(data, start, 1)
            frame = Codestream(data, rows, columns, samples, bits, process, rows_at=start + 1)
        elif marker == 0xDD:
            restarts = _number(data, start, 2) > 0
        elif marker == 0xDA:
            return frame and replace(_with_coding(frame, data[start:end]), scans=len(data) - end, restarts=restarts)
    return None


def _with_coding(frame: Codestream, scan: memoryview) -> Codestream:
    """Return a frame with what the header of its scan tells of a lossless one (ISO 10918-1 B.2.3, H.1.2.1)."""
    if frame.process != "lossless":
        return frame
    return replace(frame, predictor=_number(scan, len(scan) - 3, 1), transform=_number(scan, len(scan) - 1, 1) & 15)


def _jpeg_segments(data: memoryview) -> Iterator[tuple[int, int, int]]:
    """Yield each segment up to the first scan: marker, start and end of its parameters (ISO 10918-1 B.1.1)."""
    position = 2
    for _ in range(_MOST_SEGMENTS):
        if position + 4 > len(data) or data[position] != 0xFF:
            return
        marker = data[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        start, end = position + 4, position + 2 + _number(data, position + 2, 2)
        if end < start or end > len(data):
            return
        yield marker, start, end
        position = end


def _check_scan(frame: Codestream) -> None:
    """Raise ``ValueError`` if the scans have too few bytes for the frame, however well it was compressed.

    A Huffman code has at least one bit. A block of 8 × 8 has one code for its mean and, unless it is progressive, one
    for the rest (ISO 10918-1 F.1.2, G.1.2). A lossless sample has one code (H.1.2.2). A line of JPEG-LS takes at least
    one bit (ISO 14495-1 A.7).
    """
    if frame.process == "lossless":
        bits = frame.rows * frame.columns
    elif frame.process == "JPEG-LS":
        bits = frame.rows
    else:
        bits = ((frame.rows + 7) // 8) * ((frame.columns + 7) // 8) * (2 if frame.process == "sequential" else 1)
    nbytes = max(0, frame.scans - 2)  # without the end marker
    if (frame.process != _OTHER and 8 * nbytes < bits) or not nbytes:
        raise ValueError(
            f"the codestream holds {nbytes:,} bytes of picture, expected at least {(bits + 7) // 8:,} for "
            f"{frame.rows} × {frame.columns} pixels: its data are missing"
        )


def _check_tiles(codestream: Codestream) -> None:
    """Raise ``ValueError`` for tiles that no film has (SIZ, ISO 15444-1 A.5.1), or for too few bytes for the pixels."""
    x1, y1, x0, y0, width, height, left, top = (_number(codestream.stream, 8 + 4 * n, 4) for n in range(8))
    if not (left <= x0 < left + width and top <= y0 < top + height):  # B.3: the first tile holds the first pixel
        raise ValueError(f"the codestream has tiles of {height} × {width} that do not begin where its picture does")
    tiles = -(-(x1 - left) // width) * -(-(y1 - top) // height)
    if tiles > 1 and width * height < _SMALLEST_TILE:
        raise ValueError(f"the codestream has {tiles:,} tiles of {height} × {width}, expected larger ones")
    if bytes(codestream.stream[43:45]) != b"\1\1":
        raise ValueError("the codestream has fewer samples than its picture has pixels, expected one for each pixel")
    if codestream.rows * codestream.columns > max(_MANY_PIXELS, _PIXELS_A_BYTE * len(codestream.stream)):
        raise ValueError(
            f"the codestream has {len(codestream.stream):,} bytes for {codestream.rows} × {codestream.columns} pixels, "
            "fewer than any picture of a body"
        )


def _contiguous(data: memoryview) -> memoryview:
    """Return the codestream in a JP2 file: the content of its box jp2c, wherever that stands (ISO 15444-1 I.4)."""
    position = 0
    for _ in range(_MOST_SEGMENTS):
        length, kind, header = _number(data, position, 4), bytes(data[position + 4 : position + 8]), 8
        if length == 1:  # the length follows the kind, in 8 bytes
            length, header = _number(data, position + 8, 8), 16
        elif length == 0:  # the box ends with the file
            length = len(data) - position
        if length < header or position + length > len(data):  # true also when there is no further box
            break
        if kind == b"jp2c":
            return data[position + header : position + length]
        position += length
    raise ValueError("the JP2 file is damaged or cut off: it has no whole box jp2c, which holds the codestream")


def _check_parts(stream: memoryview) -> None:
    """Walk through the tile-parts of a codestream up to its end marker (ISO 15444-1 A.4). Raises ``ValueError``."""
    position = _behind_markers(stream, 2, _SOT)
    for _ in range(_MOST_PARTS):
        if _number(stream, position, 2) != _SOT:
            break
        length = _number(stream, position + 6, 4)
        data = _behind_markers(stream, position, _SOD) + 2
        if length == 0:  # the part ends at the end marker; padding may follow that
            length = len(stream) - position - 2 - _padding(stream)
        if position + length < data:
            break
        position += length
    if _number(stream, position, 2) != _EOC:
        raise ValueError(f"the codestream is damaged or cut off: no end marker, nor a tile-part, at byte {position:,}")


def _behind_markers(stream: memoryview, position: int, last: int) -> int:
    """Check the segments from ``position`` on and return the position of the marker ``last``. Raises ``ValueError``."""
    for _ in range(_MOST_SEGMENTS):
        marker = _number(stream, position, 2)
        if marker == last:
            return position
        if marker < 0xFF00 or position + 4 > len(stream):
            break
        if marker == _COD:
            _check_coding(stream, position + 9, _number(stream, position + 6, 2), bool(stream[position + 4] & 1))
        elif marker == _COC:
            _check_coding(stream, position + 6, 1, bool(stream[position + 5] & 1))
        elif marker in (_QCD, _QCC):
            length = _number(stream, position + 2, 2)
            _check_quantisation(stream[position + (4 if marker == _QCD else 5) : position + 2 + length])
        position += 2 + _number(stream, position + 2, 2)
    raise ValueError(f"the codestream is damaged or cut off: no marker at byte {position:,}, where one is expected")


def _check_coding(stream: memoryview, start: int, layers: int, own_precincts: bool) -> None:
    """Raise ``ValueError`` for a coding style (COD, COC; A.6.1) that takes a decoder more memory than the pixels.

    ``start`` is the position of the number of decomposition levels; the sizes of blocks and precincts follow it.
    """
    levels, *block = (_number(stream, start + n, 1) for n in range(3))
    area = 1 << sum((exponent & 15) + 2 for exponent in block)
    if layers > _MOST_LAYERS or levels > 32 or area < _SMALLEST_BLOCK:
        raise ValueError(
            f"the codestream has {layers} layers, {levels} levels, blocks of {area} px: more than any film"
        )
    height, width = (_number(stream, at, 4) - _number(stream, at + 8, 4) for at in (12, 8))
    precincts = 0
    for level in range(levels + 1) if own_precincts else ():
        size = _number(stream, start + 5 + level, 1)
        shrunk = 1 << (levels - level)
        precincts += -(-height // (shrunk << (size >> 4))) * -(-width // (shrunk << (size & 15)))
    if precincts > _MANY_PRECINCTS + height * width // _SMALLEST_BLOCK:
        raise ValueError(
            f"the codestream has {precincts:,} precincts for {height} × {width} pixels: more than any film"
        )


def _check_quantisation(segment: memoryview) -> None:
    """Raise ``ValueError`` for coefficients of more bits than decoders can hold (QCD, QCC; ISO 15444-1 A.6.4).

    A band has as many bits as its exponent plus the guard bits, less one (equation E-2). OpenJPH 0.26 crashes at 31.
    """
    style, guard = _number(segment, 0, 1) & 31, _number(segment, 0, 1) >> 5
    exponents = [byte >> 3 for byte in bytes(segment[1 :: 2 if style else 1])]
    if (bits := guard + max(exponents, default=0) - 1) > _MOST_BITS:
        raise ValueError(f"the codestream has coefficients of {bits} bits, expected at most {_MOST_BITS}")


def without_end(stream: memoryview) -> memoryview:
    """Return a JPEG codestream without its end marker and the padding behind it."""
    return stream[: len(stream) - _padding(stream) - 2]


def _padding(stream: memoryview) -> int:
    """Return how many bytes of padding follow the end marker."""
    end = bytes(stream[-66:])
    return len(end) - len(end.rstrip(b"\0\xff"))


def _number(data: memoryview, position: int, nbytes: int) -> int:
    """Return the big-endian number at ``position``; bytes behind the end of the data are left out."""
    return int.from_bytes(data[position : position + nbytes], "big")
