"""Finds the parts of a DICOM file (PS3.10) or of a bare data set, with bounded memory.

pydicom reads the elements before Pixel Data through ``cxr.read.metered``, so no file can make it build millions of
objects or inflate gigabytes. Pixel Data are not copied; they are returned as a view of the file.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Literal, cast

from pydicom.charset import default_encoding
from pydicom.datadict import dictionary_VR, keyword_for_tag
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset, read_sequence
from pydicom.tag import BaseTag, Tag
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32, VR

from cxr.read.limits import HEADER_BYTES
from cxr.read.metered import UNDEFINED, DamagedError, Inflated, Metered
from cxr.read.radiograph import ReadError

_OTHER_KINDS = {b"%PDF": "a PDF", b"PK\3\4": "a ZIP archive", b"\x1f\x8b": "gzip", b"<": "an HTML or XML page"}
_PIXELS = {0x7FE00008: "FloatPixelData", 0x7FE00009: "DoubleFloatPixelData", 0x7FE00010: "PixelData"}
_ITEM, _DELIMITER = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"
_MOST_VALUE = 2**14  # bytes of an element that is no sequence; numbers and names of a film take about a hundred
_MOST_FRAGMENTS = 2**16  # a view of each is kept; a film has one, or one for every few kilobytes
_VRS = {vr.value.encode() for vr in VR}


def looks_like_dicom(start: bytes) -> bool:
    """Return whether a file with these first 132 bytes has the preamble of PS3.10, or is a bare data set."""
    if start[128:132] == b"DICM":
        return True
    if start[4:6] in (b"UL", b"UI", b"CS", b"OB"):  # explicit VR; a big endian data set has no file meta
        return start[:2] in (b"\2\0", b"\x08\0", b"\0\x08")
    # Implicit VR: the first element of file meta or of group 8 is short, and its length is even
    length = int.from_bytes(start[4:8], "little")
    return len(start) >= 8 and start[:2] in (b"\2\0", b"\x08\0") and length < 1024 and length % 2 == 0


@dataclass(frozen=True, eq=False)
class PixelElement:
    """Pixel Data as they are stored in a file; nothing is copied before it is asked for.

    Args:
        name: "PixelData", "FloatPixelData" or "DoubleFloatPixelData".
        vr: value representation of the element, "" in implicit VR.
        undefined_length: whether the value is a list of items (PS3.5 A.4), as compressed pixels are stored.
        source: the rest of the file, which begins with the value.
        length: bytes of the value according to the file; there may be fewer.
    """

    name: str
    vr: str
    undefined_length: bool
    length: int
    source: Metered

    def value(self, nbytes: int) -> memoryview:
        """Return the first ``nbytes`` of the value, or as many as there are."""
        return self.source.rest(min(nbytes, self.length))

    def frame(self) -> memoryview:
        """Return the codestream of the only frame, with its fragments joined (PS3.5 A.4). Raises ``DamagedError``."""
        fragments = list(_fragments(self.source.rest(self.length)))[1:]  # the first item is the offset table
        frame = fragments[0] if len(fragments) == 1 else memoryview(b"".join(fragments))
        if not frame:
            raise DamagedError("the encapsulated pixel data hold 0 frames, expected 1 that is not empty")
        return frame


def _fragments(value: memoryview) -> Iterator[memoryview]:
    """Yield the values of the items up to the sequence delimiter (PS3.5 A.4)."""
    position = 0
    for _ in range(_MOST_FRAGMENTS):
        if value[position : position + 4] == _DELIMITER:
            return
        start = position + 8
        end = start + int.from_bytes(value[position + 4 : start], "little")
        if value[position : position + 4] != _ITEM or end > len(value):
            break
        yield value[start:end]
        position = end
    raise DamagedError(
        f"the encapsulated pixel data are damaged or cut off at byte {position:,} of {len(value):,}, where an item or "
        "the delimiter is expected"
    )


def read_data_set(path: Path, file: BinaryIO, names: Sequence[str]) -> tuple[Dataset, UID, PixelElement | None]:
    """Return the elements ``names`` of the data set in ``file``, its transfer syntax, and its pixels if it has any.

    Only elements before Pixel Data are read. Raises ``ReadError`` if the file is no DICOM file; errors of pydicom are
    raised as they are.
    """
    start = file.read(1024)
    if not looks_like_dicom(start):
        text = start.lstrip(b"\xef\xbb\xbf \t\r\n")
        kind = next((f", it begins like {kind}" for magic, kind in _OTHER_KINDS.items() if text.startswith(magic)), "")
        raise ReadError(f"{path}: not a DICOM file{kind}; expected DICM after 128 bytes, or a bare data set")
    source = Metered(file, 132 if start[128:132] == b"DICM" else 0)
    # File meta is always explicit VR little endian (PS3.10 7.1); pydicom notices files in which it is implicit
    meta = read_dataset(cast(BinaryIO, source), is_implicit_VR=False, is_little_endian=True, stop_when=_behind_meta)
    syntax = UID(str(meta.get("TransferSyntaxUID") or ""))
    if not re.fullmatch(r"[0-9.]*", syntax):
        raise DamagedError("TransferSyntaxUID is no UID")
    implicit, little = _encoding(syntax, source)
    if syntax == DeflatedExplicitVRLittleEndian:
        # For a file on disk only the header is wanted, so no more bytes are read than a header can take
        source = Inflated(source.rest(UNDEFINED if isinstance(file, BytesIO) else 2 * HEADER_BYTES))
    tags: list[BaseTag | int] = [Tag(name) for name in names]
    dataset = read_dataset(cast(BinaryIO, source), implicit, little, stop_when=_at_pixels, specific_tags=tags)
    implicit, little = (bool(known) for known in dataset.original_encoding)
    for element in list(dataset.elements()):
        if isinstance(element, RawDataElement) and element.value:
            _bound(dataset, element)
    return dataset, syntax or _name(implicit, little), _pixel_element(source, implicit, little)


def _bound(dataset: Dataset, element: RawDataElement) -> None:
    """Parse a sequence within the limits of a header, and refuse other values that are too long for any film.

    pydicom would parse the value when it is asked for, but without limits: the file decides how many objects it builds.
    """
    value = element.value or b""
    if "SQ" in (element.VR, dictionary_VR(element.tag)):
        source = cast(BinaryIO, Metered(BytesIO(value)))
        items = read_sequence(source, element.is_implicit_VR, element.is_little_endian, len(value), default_encoding)
        dataset[element.tag] = DataElement(element.tag, "SQ", items)
    elif len(value) > _MOST_VALUE:
        name = keyword_for_tag(element.tag)
        raise DamagedError(f"{name} has {len(value):,} bytes, expected at most {_MOST_VALUE:,}")


def _behind_meta(tag: BaseTag, vr: str | None, length: int) -> bool:
    return tag >> 16 != 2


def _at_pixels(tag: BaseTag, vr: str | None, length: int) -> bool:
    return tag in _PIXELS


def _encoding(syntax: UID, source: Metered) -> tuple[bool, bool]:
    """Return whether the data set has implicit VRs, and whether it is little endian.

    A bare data set has no transfer syntax: there the first element shows both.
    """
    if syntax:
        return syntax == ImplicitVRLittleEndian, syntax != ExplicitVRBigEndian
    position = source.tell()
    start = source.read(6)
    source.seek(position)
    # Group 0x0008 becomes 0x0800 when its two bytes are read in the wrong order
    return start[4:6] not in _VRS, start[4:6] not in _VRS or int.from_bytes(start[:2], "little") < 0x0400


def _name(implicit: bool, little: bool) -> UID:
    if implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRLittleEndian if little else ExplicitVRBigEndian


def _pixel_element(source: Metered, implicit: bool, little: bool) -> PixelElement | None:
    """Return the pixel element at which reading stopped (PS3.5 7.1.2, 7.1.3), None if there is none."""
    order: Literal["little", "big"] = "little" if little else "big"
    head = source.read(8)
    tag = int.from_bytes(head[:2], order) << 16 | int.from_bytes(head[2:4], order)
    if len(head) < 8 or tag not in _PIXELS:
        return None
    vr, length = "", int.from_bytes(head[4:], order)
    if not implicit and head[4:6] in _VRS:
        vr, length = head[4:6].decode(), int.from_bytes(head[6:], order)
        if vr in EXPLICIT_VR_LENGTH_32:
            length = int.from_bytes(source.read(4), order)
    return PixelElement(_PIXELS[tag], vr, length == UNDEFINED, length, source)
