"""Runs the HTTP side in a thread: its socket, TLS, and connections that are too many or never ask anything."""

import asyncio
import ipaddress
import os
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from cxr.serve.counters import Counters, Refusal
from cxr.serve.doors import Doors, Limits
from cxr.serve.tls import Tls

_CONNECTIONS = 16  # times the requests that are answered at once
_LAST_ANSWERS = 5  # seconds for what is being answered when the service ends


def bind(address: str, token: str | None) -> socket.socket:
    """Return a socket that listens at ``address``, HOST:PORT; port 0 is one that is free.

    Raises ``ValueError`` for what is no address, and for one that other machines reach where there is no token.
    """
    host, port = _host_and_port(address)
    if token is None and not _is_loopback(host):
        raise ValueError(
            f"http={address} is reached from other machines, so it needs token=FILE that holds a token;"
            " http=127.0.0.1:8000 is for this machine alone"
        )
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        raise ValueError(f"http={address} cannot be listened at: {why_not_bound(error)}; type another") from error


def why_not_bound(error: OSError) -> str:
    """Return why an address cannot be listened at, without the address, which Python adds to its text."""
    known = error.errno is not None and error.errno > 0  # negative: of looking up a name
    return os.strerror(error.errno or 0) if known else str(error.strerror or error)


@contextmanager
def web_server(
    app: Doors, listener: socket.socket, limits: Limits, counters: Counters, tls: Tls | None = None
) -> Iterator[str]:
    """Serve ``app`` while the block runs; yield its URL. At the end what is being answered has five seconds."""
    config = uvicorn.Config(
        app, http=_connections(limits, counters), ws="none", lifespan="off", loop="asyncio", log_config=None,
        log_level="warning", access_log=False, server_header=False, proxy_headers=False,
        timeout_graceful_shutdown=_LAST_ANSWERS, **_tls(tls, counters),
    )  # fmt: skip
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],), name="http", daemon=True)
    thread.start()
    try:
        while not server.started:
            if not thread.is_alive():
                raise RuntimeError("the HTTP server has ended at its start; the log says why")
            time.sleep(0.01)
        host, port = listener.getsockname()[:2]
        yield f"{'http' if tls is None else 'https'}://{f'[{host}]' if ':' in host else host}:{port}"
    finally:
        server.should_exit = True
        thread.join(_LAST_ANSWERS + 5)


def _connections(limits: Limits, counters: Counters) -> type[H11Protocol]:
    """Return uvicorn's protocol with what it lacks: it waits for the first line of a request for ever.

    ``connections``, ``cycle`` and ``transport`` are uvicorn's own names, seen in 0.54.
    """

    class Connection(H11Protocol):
        _deadline: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            if len(self.connections) > _CONNECTIONS * limits.requests:
                counters.refused(Refusal.BUSY, _peer(transport))
                transport.abort()
                return
            self._await_request()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self._await_request()

        def send_400_response(self, msg: str) -> None:
            counters.refused(Refusal.MALFORMED, _peer(self.transport))
            super().send_400_response(msg)

        def connection_lost(self, exc: Exception | None) -> None:
            if self._deadline is not None:
                self._deadline.cancel()
            super().connection_lost(exc)

        def _await_request(self) -> None:
            if self._deadline is not None:
                self._deadline.cancel()
            self._deadline = self.loop.call_later(limits.silence, self._close_if_idle)

        def _close_if_idle(self) -> None:
            answered = self.cycle is None or self.cycle.response_complete
            if answered and not self.transport.is_closing():
                counters.refused(Refusal.STALLED, _peer(self.transport))
                self.transport.abort()

    return Connection


def _peer(transport: Any) -> str:
    address = transport.get_extra_info("peername")
    return str(address[0]) if address else ""


def _tls(tls: Tls | None, counters: Counters) -> dict[str, Any]:
    """Return uvicorn's setting for TLS, with handshakes that fail counted."""
    if tls is None:
        return {}
    context = tls.for_callers()

    class Handshake(ssl.SSLObject):
        def do_handshake(self) -> None:
            try:
                super().do_handshake()
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                raise
            except ssl.SSLError:  # no TLS at all, or a client without the certificate that it needs
                counters.refused(Refusal.NO_TLS)
                raise

    context.sslobject_class = Handshake
    return {"ssl_context_factory": lambda config, default: context}


def _host_and_port(address: str) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{address}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or port is None:
        raise ValueError(f"http is {address!r}, expected HOST:PORT, as 127.0.0.1:8000")
    return host, port


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
