"""Ways to damage a DICOM file, for tests/fuzz.py: its header, its stream, or where it ends."""

import re
from collections.abc import Callable

import numpy as np

Mutation = Callable[[bytearray, np.random.Generator], bytearray]


def _pixels_at(data: bytearray) -> int:
    """Return about where the pixels begin."""
    at = max(data.find(b"\xe0\x7f\x10\x00"), data.find(b"\x7f\xe0\x00\x10"))
    return at if at > 0 else len(data) // 2


def _elements(data: bytearray) -> list[tuple[int, int]]:
    """Return start and end of the elements with a short explicit VR in front of the pixels, as far as they are seen."""
    pattern = re.compile(rb"[\x00-\x70]\x00..[A-Z]{2}(..)", re.DOTALL)
    spans = []
    for match in pattern.finditer(bytes(data[: _pixels_at(data)])):
        end = match.end() + int.from_bytes(match[1], "little")
        if end < len(data):
            spans.append((match.start(), end))
    return spans or [(132, 140)]


def _an_element(data: bytearray, rng: np.random.Generator) -> tuple[int, int]:
    spans = _elements(data)
    return spans[rng.integers(len(spans))]


def flip_header(data: bytearray, rng: np.random.Generator) -> bytearray:
    """Set a few bytes in front of the pixels to anything."""
    for at in rng.integers(132, max(133, _pixels_at(data) + 12), rng.integers(1, 6)):
        data[min(at, len(data) - 1)] = rng.integers(256)
    return data


def value(data: bytearray, rng: np.random.Generator) -> bytearray:
    """Give an element another value of the same length: extreme numbers, texts of other kinds."""
    start, end = _an_element(data, rng)
    # fmt: off
    words = [b"1e300", b"-1e300", b"1e-300", b"nan", b"inf", b"0", b"-1", b"65535", b"\xff" * 16, b"\0" * 16, b"9" * 16,
             b"1\\2\\3", b"\\\\\\", b"LINEAR", b"SIGMOID", b"MONOCHROME2", b"RGB", b"\x1b$B", b"\xc3\x28"]
    # fmt: on
    word = words[rng.integers(len(words))]
    data[start + 8 : end] = (word * (end - start))[: end - start - 8]
    return data


def longer_value(data: bytearray, rng: np.random.Generator) -> bytearray:
    """Give an element a decimal value of its own length, with the length told rightly."""
    start, end = _an_element(data, rng)
    words = [b"1e300 ", b"1e-300", b"-1e38 ", b"1e20", b"3.5\\1e9 ", b"", b"0 ", b"1e5000", b"0.000001"]
    word = words[rng.integers(len(words))]
    return data[: start + 6] + len(word).to_bytes(2, "little") + word + data[end:]


def vr(data: bytearray, rng: np.random.Generator) -> bytearray:
    """Give an element another VR."""
    start, _ = _an_element(data, rng)
    vrs = b"AEASATCSDADSDTFLFDISLOLTOBODOFOLOVOWPNSHSLSQSSSTSVTMUCUIULUNURUSUTUVZZ\0\0"
    at = 2 * rng.integers(len(vrs) // 2)
    data[start + 4 : start + 6] = vrs[at : at + 2]
    return data


def length(data: bytearray, rng: np.random.Generator) -> bytearray:
    """Give an element another length: none, one more, the longest, undefined."""
    start, _ = _an_element(data, rng)
    options = [b"\0\0", b"\1\0", b"\xff\xff", b"\xfe\xff", b"\x10\0", b"\xff\xff\xff\xff", rng.bytes(2)]
    new = options[rng.integers(len(options))]
    data[start + 6 : start + 6 + len(new)] = new
    return data


def delete(data: bytearray, rng: np.random.Generator) -> bytearray:
    """Take an element out."""
    start, end = _an_element(data, rng)
    return data[:start] + data[end:]


def duplicate(data: bytearray, rng: np.random.Generator) -> bytearray:
    """Put an element in once more, or many times, there or elsewhere."""
    start, end = _an_element(data, rng)
    at, _ = _an_element(data, rng)
    return data[:at] + data[start:end] * int(rng.choice([1, 2, 50])) + data[at:]


def nest(data: bytearray, rng: np.random.Generator) -> bytearray:
    """Put in sequences within sequences, closed or not."""
    at, _ = _an_element(data, rng)
    depth = int(rng.choice([2, 20, 200, 2000]))
    tag = rng.choice([b"\x28\x00\x10\x30SQ\0\0", b"\x08\x00\x40\x11SQ\0\0", b"\x09\x00\x10\x10UN\0\0"])
    begin = (bytes(tag) + b"\xff" * 4 + b"\xfe\xff\x00\xe0" + b"\xff" * 4) * depth
    end = b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0" * (depth if rng.integers(2) else 0)
    return data[:at] + begin + end + data[at:]


def syntax(data: bytearray, rng: np.random.Generator) -> bytearray:
    """Say another transfer syntax, in the length that the UID has."""
    at = data.find(b"\x02\x00\x10\x00UI")
    if at < 0:
        return flip_header(data, rng)
    end = at + 8 + int.from_bytes(data[at + 6 : at + 8], "little")
    uids = [b"1.2.840.10008.1.2", b"1.2.840.10008.1.2.1", b"1.2.840.10008.1.2.1.99", b"1.2.840.10008.1.2.2"]
    uids += [b"1.2.840.10008.1.2." + end for end in (b"5", b"4.50", b"4.51", b"4.57", b"4.70", b"4.80", b"4.81")]
    uids += [b"1.2.840.10008.1.2.4." + end for end in (b"90", b"91", b"201", b"202", b"203", b"100")] + [b"", b"1.2"]
    other = uids[rng.integers(len(uids))]
    other += b"\0" * (len(other) % 2)
    return data[: at + 6] + len(other).to_bytes(2, "little") + other + data[end:]


def flip_stream(data: bytearray, rng: np.random.Generator) -> bytearray:
    """Flip bits behind the header."""
    for at in rng.integers(_pixels_at(data), len(data), rng.integers(1, 9)):
        data[at] ^= 1 << rng.integers(8)
    return data


def flip_stream_header(data: bytearray, rng: np.random.Generator) -> bytearray:
    """Set bytes near the start of the pixels, where a codestream has its own header, to anything."""
    start = _pixels_at(data)
    for at in rng.integers(start, min(len(data), start + 300), rng.integers(1, 6)):
        data[at] = rng.integers(256)
    return data


def truncate(data: bytearray, rng: np.random.Generator) -> bytearray:
    """Cut the file off."""
    return data[: rng.integers(1, len(data))]


def cut_out(data: bytearray, rng: np.random.Generator) -> bytearray:
    """Take bytes out of the pixels, or fill them with one value; half the time the items' lengths stay right."""
    start = _pixels_at(data) + 40
    if start >= len(data) - 20:
        return truncate(data, rng)
    at = int(rng.integers(start, len(data) - 20))
    size = int(min(rng.integers(1, 4000), len(data) - 20 - at))
    return data[:at] + (bytes([rng.integers(256)]) * size if rng.integers(2) else b"") + data[at + size :]


def splice(data: bytearray, rng: np.random.Generator) -> bytearray:
    """Copy a piece of the pixels to another place in them."""
    start = _pixels_at(data)
    size = int(rng.integers(1, max(2, (len(data) - start) // 2)))
    source, target = (int(at) for at in rng.integers(start, max(start + 1, len(data) - size), 2))
    data[target : target + size] = data[source : source + size]
    return data


MUTATIONS: tuple[Mutation, ...] = (
    flip_header, value, longer_value, vr, length, delete, duplicate, nest, syntax,
    flip_stream, flip_stream_header, truncate, cut_out, splice,
)  # fmt: skip


def mutant(data: bytes, rng: np.random.Generator) -> tuple[bytes, str]:
    """Return ``data`` after one mutation, or two or three, and their names."""
    damaged, names = bytearray(data), []
    for _ in range(int(rng.choice([1, 1, 1, 2, 3]))):
        mutation = MUTATIONS[rng.integers(len(MUTATIONS))]
        if len(damaged) > 160:
            damaged = mutation(damaged, rng)
            names.append(mutation.__name__)
    return bytes(damaged), "+".join(names)
