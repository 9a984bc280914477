"""Who may come in by HTTP, how much they may bring and how long they may take; and what each answer says to a browser.

This stands in front of the app. What it refuses has cost nothing yet: no body is read, no file is written.
"""

import asyncio
import base64
import binascii
import hmac
import logging
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cxr.serve.counters import Counters, Refusal, where

LOG = logging.getLogger(__name__)

LOOPBACK = ("localhost", "127.0.0.1", "::1")
OPEN = "/health"
"""What is answered without a token: whatever restarts the service asks here."""

_SHORTEST_TOKEN = 16
_FORM = 2**16  # bytes of a form around a film
_FILMS = 64  # in one request
_WHOLE_BODY = 10  # times the silence that is allowed: a body that trickles in takes no longer
_SECURITY = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self' data:; style-src 'unsafe-inline'; font-src data:;"
    " form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # with "no-referrer" a form would name "null" as its origin
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True)
class Limits:
    """What a client may ask of the service.

    Args:
        film: bytes of a film.
        requests: that are answered at once.
        silence: seconds a client may be silent while it sends a request; the whole of it may take ten times as long.
        wait: seconds that an answer is waited for.
    """

    film: int
    requests: int
    silence: float
    wait: float

    def body(self, path: str) -> int:
        """Return how many bytes the body of a request to ``path`` may have."""
        return self.film + _FORM if path == "/films" else _FILMS * self.film


def read_token(path: Path) -> str:
    """Return the token that a file holds. Raises ``ValueError`` where it holds none that protects anything."""
    token = path.read_text(encoding="utf-8").strip()
    if not re.fullmatch(r"[!-~]+", token):
        raise ValueError(f"{path} should hold a token on one line: letters, digits and signs of ASCII without a space")
    if len(token) < _SHORTEST_TOKEN:
        raise ValueError(
            f"the token in {path} has {len(token)} characters, expected at least {_SHORTEST_TOKEN};"
            f" openssl rand -hex 32 > {path} makes one"
        )
    return token


class Doors:
    """An app behind its doors.

    Args:
        app: that answers.
        token: what a client must know; None where only programs of this machine can come.
        limits: of size, number and time.
        counters: of what is refused.
    """

    def __init__(self, app: ASGIApp, token: str | None, limits: Limits, counters: Counters) -> None:
        self._app = app
        self._token = token
        self._limits = limits
        self._counters = counters
        self._inside = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request of HTTP; there is nothing else here to ask for."""
        body = _Body(scope, receive, self._limits, self._counters)
        answer = _Answer(send, body, self._counters)
        refused = self._refuse(scope)
        if refused is not None:
            await refused(scope, receive, answer.send)
            return
        counted = scope["path"] != OPEN
        self._inside += counted
        try:
            await self._app(scope, body.receive, answer.send)
        except ClientDisconnect:
            pass
        except Exception as error:
            LOG.error("an HTTP request failed: %s", where(error))  # its message may quote a film
            if not answer.begun:
                await JSONResponse({"detail": "this failed; the log of the service says where"}, 500)(
                    scope, receive, answer.send
                )
        finally:
            self._inside -= counted

    def _refuse(self, scope: Scope) -> JSONResponse | None:
        """Return what a request that may not come in is told; None for one that may."""
        headers = Headers(scope=scope)
        if self._token is None and _host(headers.get("host", "")) not in LOOPBACK:
            return self._refusal(scope, Refusal.ORIGIN, 421, "without a token only this machine is answered")
        if scope["path"] == OPEN:
            return None
        if self._token is not None and not _knows(headers.get("authorization", ""), self._token):
            refusal = self._refusal(scope, Refusal.TOKEN, 401, "the token of the service is needed")
            refusal.headers.append("WWW-Authenticate", 'Basic realm="cxr", charset="UTF-8"')
            refusal.headers.append("WWW-Authenticate", "Bearer")
            return refusal
        if scope["method"] not in ("GET", "HEAD") and not _same_origin(headers):
            return self._refusal(scope, Refusal.ORIGIN, 403, "a page of another site may not ask this")
        if headers.get("content-encoding", "identity") != "identity":
            return self._refusal(scope, Refusal.MALFORMED, 415, "a packed body is not accepted")
        if int(headers.get("content-length", 0)) > self._limits.body(scope["path"]):
            return self._refusal(scope, Refusal.TOO_LARGE, 413, _too_large(scope, self._limits))
        if self._inside >= self._limits.requests:
            refusal = self._refusal(scope, Refusal.BUSY, 503, f"{self._inside} requests are being answered")
            refusal.headers["Retry-After"] = "2"
            return refusal
        return None

    def _refusal(self, scope: Scope, reason: Refusal, status: int, text: str) -> JSONResponse:
        client: Sequence[object] = scope.get("client") or ("",)
        self._counters.refused(reason, str(client[0]))
        return JSONResponse({"detail": text}, status)


class _Body:
    """The body of a request, of which no more is passed on than is allowed, and nothing that comes too slowly."""

    def __init__(self, scope: Scope, receive: Receive, limits: Limits, counters: Counters) -> None:
        headers = Headers(scope=scope)
        self.whole = "transfer-encoding" not in headers and headers.get("content-length", "0") == "0"
        self._scope = scope
        self._receive = receive
        self._limits = limits
        self._counters = counters
        self._bytes = 0
        self._end = time.monotonic() + _WHOLE_BODY * limits.silence

    async def receive(self) -> Message:
        """Return the next piece of the body, or that the client has gone."""
        if self.whole:
            return await self._receive()
        try:
            async with asyncio.timeout(min(self._limits.silence, self._end - time.monotonic())):
                message = await self._receive()
        except TimeoutError:
            self._counters.refused(Refusal.STALLED)
            raise HTTPException(408, "the request came too slowly") from None
        self._bytes += len(message.get("body", b""))
        if self._bytes > self._limits.body(self._scope["path"]):
            self._counters.refused(Refusal.TOO_LARGE)
            raise HTTPException(413, _too_large(self._scope, self._limits))
        self.whole = not message.get("more_body", False)
        return message


class _Answer:
    """An answer on its way out: with the headers that every answer has, and counted."""

    def __init__(self, send: Send, body: _Body, counters: Counters) -> None:
        self._send = send
        self._body = body
        self._counters = counters
        self.begun = False

    async def send(self, message: Message) -> None:
        """Pass a piece of the answer on."""
        if message["type"] == "http.response.start":
            self.begun = True
            self._counters.request(message["status"])
            headers = MutableHeaders(scope=message)
            for name, value in _SECURITY.items():
                headers[name] = value
            if not self._body.whole:  # else the rest of what was refused would be read
                headers["Connection"] = "close"
        await self._send(message)


def _too_large(scope: Scope, limits: Limits) -> str:
    return f"the request may have {limits.body(scope['path']) / 2**20:.0f} MB"


def _knows(authorization: str, token: str) -> bool:
    """Return whether a request carries the token: as a bearer, or as the password that a browser asks for."""
    scheme, _, word = authorization.partition(" ")
    if scheme.lower() == "basic":
        try:
            word = base64.b64decode(word, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return False
    elif scheme.lower() != "bearer":
        return False
    return hmac.compare_digest(word.strip().encode(), token.encode())


def _host(header: str) -> str:
    """Return the host of a ``Host`` header, without its port; "" for what is no host."""
    try:
        return urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return ""


def _same_origin(headers: Headers) -> bool:
    """Return whether a request comes from a page of this service, or from a program, which names no page.

    Behind a proxy that ends TLS the scheme is another. So only host and port are compared.
    """
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    origin = headers.get("origin")
    return origin is None or origin.partition("://")[2] == headers.get("host")
