"""The parts of a multipart body (RFC 2046), one at a time as the body arrives: of a form, or of STOW-RS."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.exceptions import HTTPException
from starlette.requests import Request

FORM, RELATED = "multipart/form-data", "multipart/related"


class MalformedError(ValueError):
    """A body is not made of the parts that its header announces."""


@dataclass
class Part:
    """A part of a body: the lines above it, their names in small letters, and its bytes."""

    headers: dict[str, str] = field(default_factory=dict)
    data: bytearray = field(default_factory=bytearray)


class PartReader:
    """Cuts a body into its parts as it arrives.

    Of a part that is larger than ``largest`` one byte more is kept than that: whoever takes it sees that it is.

    Args:
        boundary: between the parts.
        largest: bytes of a part.
    """

    def __init__(self, boundary: bytes, largest: int) -> None:
        self._largest = largest
        self._start = b"\n--" + boundary
        self._preamble: bytearray | None = bytearray(b"\n")  # its end, until the first boundary has come
        self._part = Part()
        self._name, self._value = bytearray(), bytearray()
        self._ready: list[Part] = []
        self._ended = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": lambda data, start, end: self._name.extend(data[start:end]),
                "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
                "on_header_end": self._end_header,
                "on_part_data": self._take,
                "on_part_end": lambda: self._ready.append(self._part),
                "on_end": self._end,
            },
        )

    def feed(self, piece: bytes) -> list[Part]:
        """Return the parts that end in the next piece of the body. Raises ``MalformedError``."""
        try:
            self._parser.write(self._without_preamble(piece))
        except FormParserError as error:
            raise MalformedError(f"the body is no multipart of its boundary: {error}") from None
        ready, self._ready = self._ready, []
        return ready

    def close(self) -> None:
        """Raise ``MalformedError`` where the body has ended before its last boundary."""
        if not self._ended:
            raise MalformedError("the body ends before its last boundary")

    def _without_preamble(self, piece: bytes) -> bytes:
        """Return the piece from the first boundary on; in front of it may be anything (RFC 2046 5.1.1)."""
        if self._preamble is None:
            return piece
        self._preamble += piece
        at = self._preamble.find(self._start)
        if at < 0:
            del self._preamble[: max(0, len(self._preamble) - len(self._start) + 1)]
            return b""
        rest, self._preamble = bytes(self._preamble[at + 1 :]), None
        return rest

    def _begin(self) -> None:
        self._part = Part()

    def _end_header(self) -> None:
        self._part.headers[self._name.decode("latin-1").lower()] = self._value.decode("latin-1")
        self._name, self._value = bytearray(), bytearray()

    def _take(self, data: bytes, start: int, end: int) -> None:
        room = self._largest + 1 - len(self._part.data)
        self._part.data += data[start : min(end, start + room)]

    def _end(self) -> None:
        self._ended = True


async def read_parts(request: Request, kind: str, largest: int) -> AsyncIterator[Part]:
    """Yield the parts of a request's body of this ``kind``.

    Raises an ``HTTPException`` for another kind of body (415) and for a damaged one (400).
    """
    found, options = parse_options_header(request.headers.get("content-type"))
    if found != kind.encode() or not options.get(b"boundary"):
        raise HTTPException(415, f"Content-Type should be {kind} with a boundary")
    try:
        reader = PartReader(options[b"boundary"], largest)
        async for piece in request.stream():
            for part in reader.feed(piece):
                yield part
        reader.close()
    except (FormParserError, MalformedError) as error:
        raise HTTPException(400, str(error)) from None


async def read_one(request: Request, largest: int) -> bytes:
    """Return the one file that a request brings: as its body, or in a form."""
    if not request.headers.get("content-type", "").lower().startswith(FORM):
        return await request.body()
    files = [part async for part in read_parts(request, FORM, largest) if b"filename" in _options(part)]
    if len(files) != 1:
        raise HTTPException(400, f"the form has {len(files)} files, expected one film")
    return bytes(files[0].data)


def _options(part: Part) -> dict[bytes, bytes]:
    return parse_options_header(part.headers.get("content-disposition"))[1]
