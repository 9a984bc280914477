"""Decodes a JPEG codestream and tells whether its data end where its picture ends.

JPEG has no checksum, and libjpeg goes on after damage: it decodes other samples, often too many or too few of them. So
the data of a damaged film end before its last sample, or go on behind it. libjpeg knows, but imagecodecs does not pass
its warnings on. Here the codestream is decoded with some rows more than it has. They cost next to nothing, and what
libjpeg makes up for them says where the data have ended: when it needs a bit that is not there, it reads zeros up to
the end of that row, and every row after that is grey.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr.read.codestream import Codestream, without_end

Codec = Callable[[Any], NDArray[Any]]

_FILLER = b"\x55\xaa\x33\xcc" * 16  # decodes to samples that no decoder would fill in for missing data
_END = b"\xff\xd9"
_MOST_ROWS = 65_500  # that libjpeg decodes
_PADDING = 15  # bits of 1 that may follow the last sample: encoders write up to 7, here a byte more is allowed
_BLOCKS = 2  # blocks of 8 × 8 that the padding of a lossy film may decode to; it has too few bits for more
_COMPARED = 32  # samples behind the end of a lossless film that are compared with padding


def decode_whole(codestream: Codestream, codec: Codec) -> NDArray[Any]:
    """Return the samples of a sequential or lossless codestream, [rows, columns].

    Raises ``ValueError`` where the data end before the last sample or go on behind it, and what ``codec`` raises.
    """
    rows, side = codestream.rows, 1 if codestream.process == "lossless" else 8
    below = -(-rows // side) * side  # the last blocks may reach below the picture
    if below + 2 * side > _MOST_ROWS:
        raise ValueError(f"the codestream has {rows:,} rows, expected at most {_MOST_ROWS - 3 * side:,}")
    decoded = codec(_resized(codestream, below + 2 * side, codestream.columns))
    samples, first, second = decoded[:rows], decoded[below : below + side], decoded[below + side :]
    grey = 1 << (codestream.bits - 1)
    if (first == grey).all():
        if _lacks_data(codestream, codec, samples):
            raise ValueError("the codestream ends before the last rows, which the decoder filled")
    elif not (second == grey).all() or not _is_padding(codestream, codec, decoded[rows - 1], first, grey):
        raise ValueError("the codestream holds more data than its picture takes: it is damaged")
    return samples


def _resized(codestream: Codestream, rows: int, columns: int) -> bytearray:
    """Return a codestream whose header tells another size."""
    stream = bytearray(codestream.stream)
    stream[codestream.rows_at : codestream.rows_at + 4] = rows.to_bytes(2, "big") + columns.to_bytes(2, "big")
    return stream


def _lacks_data(codestream: Codestream, codec: Codec, samples: NDArray[Any]) -> bool:
    """Return whether a codestream whose data seem to have ended lacks those of its last samples.

    A sound film may end in grey, too. So the film is decoded once more with some bytes put in front of the end marker:
    if the data are complete, the decoder never reads these bytes.
    """
    again = codec(b"".join((without_end(codestream.stream), _FILLER, _END)))
    return any(not np.array_equal(again[row : row + 64], samples[row : row + 64]) for row in range(0, len(samples), 64))


def _is_padding(codestream: Codestream, codec: Codec, last: NDArray[Any], behind: NDArray[Any], grey: int) -> bool:
    """Return whether what is decoded ``behind`` the ``last`` row is what padding gives.

    Padding is some bits of 1, and then the zeros that libjpeg adds. In a lossy film they are hardly a block. In a
    lossless one a picture of a single row with the same codes tells what they are.
    """
    if codestream.process == "sequential":
        return bool((behind[:, 8 * _BLOCKS :] == grey).all())
    if codestream.restarts or (codestream.predictor > 4 and behind.itemsize == 1):
        return True  # libjpeg leaves out what stands before a restart; and it rounds what is beyond 8 bits otherwise
    columns = min(_COMPARED, codestream.columns)
    header = _resized(codestream, 1, columns)[: len(codestream.stream) - codestream.scans]
    modulus = 1 << (8 * behind.itemsize - codestream.transform)
    found = _differences(codestream, last[:columns], behind[0, :columns]) % modulus
    for ones in range(_PADDING + 1):
        bits = ((1 << 24) - (1 << (24 - ones))).to_bytes(3, "big").replace(b"\xff", b"\xff\0")
        row = codec(header + bits + _END)[0].astype(np.int64)
        differences = np.diff(row, prepend=grey) >> codestream.transform
        if np.array_equal(found, differences % modulus):
            return True
    return False


def _differences(codestream: Codestream, last: NDArray[Any], behind: NDArray[Any]) -> NDArray[np.int64]:
    """Return by how much a row differs from what the predictor makes of it and of the row above it (H.1.2.1)."""
    row, above = behind.astype(np.int64) >> codestream.transform, last.astype(np.int64) >> codestream.transform
    a, b, c = row[:-1], above[1:], above[:-1]  # to the left, above, above left
    predictions = (a, b, c, a + b - c, a + ((b - c) >> 1), b + ((a - c) >> 1), (a + b) >> 1)
    first = row[:1] - above[:1]  # the first sample of a row is predicted from the one above it
    return np.concatenate([first, row[1:] - predictions[codestream.predictor - 1]])
