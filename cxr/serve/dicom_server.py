"""Connections of DICOM peers, within limits.

pynetdicom (3.0) bounds neither the bytes of a message nor the time it takes. So each connection is a socket that counts
what it brings, and a look at all of them twice a second cuts those that stand still.
"""

import logging
import socket
import ssl
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from pynetdicom import AE, _config
from pynetdicom.transport import ThreadedAssociationServer

from cxr.serve.counters import Counters, Refusal

LOG = logging.getLogger(__name__)

_LOOK = 0.5  # seconds between two looks at the connections
_CONNECTIONS_ASIDE = 8  # beyond the associations, so that one too many is told so and not only cut off
_SLOWEST = 1024  # bytes a second of a message that takes longer than a peer may be silent
_COMMANDS = 2**20  # bytes of a message beside its film


@dataclass(frozen=True)
class Limits:
    """What a peer may do.

    Args:
        film: bytes of a film.
        associations: at once.
        silence: seconds for which a peer may send nothing.
    """

    film: int
    associations: int
    silence: float


def quiet_pynetdicom() -> None:
    """Keep pynetdicom from logging: its lines name instances and hold what peers have sent."""
    _config.LOG_HANDLER_LEVEL = "none"
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL + 1)


class _Watched:
    """What a connection brings, of one message at a time, and since when it is silent. A part of a socket's class."""

    refusal: Refusal | None = None  # why it ends, if that is for something it has brought
    answered = False  # whether its association is let in or rejected
    _most, _brought, _working, _spoke = 0, 0, False, False
    _heard = _began = 0.0

    def watch(self, most: int) -> None:
        """Begin; ``most`` bytes of one message are taken."""
        self._most = most
        self._heard = self._began = time.monotonic()

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Return what has come. Raises ``OSError`` for a message that is too large."""
        try:
            data: bytes = super().recv(size, flags)  # type: ignore[misc]
        except ssl.SSLError:
            self.refusal = None if self._spoke else Refusal.NO_TLS
            raise
        self._heard, self._spoke = time.monotonic(), True
        if self._brought == 0:
            self._began = self._heard
        self._brought += len(data)
        if self._brought > self._most:
            self.refusal = Refusal.TOO_LARGE
            raise OSError("a message that is too large")
        return data

    def shutdown(self, how: int) -> None:
        """Shut down. Where the peer is gone already, close: pynetdicom leaves a connection open of which this fails."""
        try:
            super().shutdown(how)  # type: ignore[misc]
        except OSError:
            self.close()  # type: ignore[attr-defined]

    def begin_message(self) -> None:
        """Count anew: a message is whole."""
        self._brought = 0

    def stands_still(self, silence: float) -> bool:
        """Return whether nothing has come for so many seconds, or hardly anything for longer."""
        now = time.monotonic()
        if self._working or now - self._began < silence:
            return False
        return now - self._heard > silence or 0 < self._brought < _SLOWEST * (now - self._began)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Say that the peer waits for us while the block runs."""
        self._working = True
        try:
            yield
        finally:
            self._heard, self._working = time.monotonic(), False


class _Plain(_Watched, socket.socket):
    """A connection without TLS."""


class _Secured(_Watched, ssl.SSLSocket):  # type: ignore[misc] # its recv takes None for a size, too
    """A connection with TLS; its handshake is made with the first bytes, not while others wait to be accepted."""


class DicomServer(ThreadedAssociationServer):
    """pynetdicom's server, with a look at who connects and how the connections go on."""

    request_queue_size = 128
    daemon_threads = True

    def __init__(
        self,
        entity: AE,
        address: tuple[str, int],
        title: str,
        context: ssl.SSLContext | None,
        handlers: list[Any],
        limits: Limits,
        counters: Counters,
    ) -> None:
        self._limits, self._counters = limits, counters
        self._connections: dict[Any, str] = {}
        if context is not None:
            context.sslsocket_class = _Secured
        super().__init__(entity, address, title, entity.supported_contexts, context, handlers)
        entity._servers.append(self)  # as AE.start_server does; shutdown takes it out again

    def begin(self) -> threading.Thread:
        """Serve in a thread of its own, which is returned."""
        thread = threading.Thread(target=self.serve_forever, args=(_LOOK,), name="dicom", daemon=True)
        thread.start()
        return thread

    def end(self) -> None:
        """Accept nobody any more, and end the associations that are open.

        Who has asked for none yet is cut off: the library fails at an abort of what has not begun.
        """
        self.shutdown()
        for association in self.active_associations:
            if association.is_established:
                association.abort(block=False)
        for connection in self._connections:
            if not connection.answered:
                _shut(connection)

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection."""
        listener: Any = self.socket
        accepted, address = listener.accept()
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # an answer is not held back
        if self.ssl_context is None:
            connection: Any = _Plain(fileno=accepted.detach())
        else:
            connection = self.ssl_context.wrap_socket(accepted, server_side=True, do_handshake_on_connect=False)
        connection.watch(self._limits.film + _COMMANDS)
        return connection, address

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Make room for one more connection, and return whether there is any.

        The oldest of those that have asked for no association is cut for it. So a stranger who holds many and says
        nothing keeps no node out. Those that are cut take a moment to close, for which there is as much room again.
        """
        self._forget_closed()
        open_ones, most = [one for one in self._connections if one.refusal is None], self._limits.associations
        if len(open_ones) >= most + _CONNECTIONS_ASIDE:
            waiting = next((one for one in open_ones if not one.answered), None)
            if waiting is None or len(self._connections) >= most + 2 * _CONNECTIONS_ASIDE:
                self._counters.refused(Refusal.BUSY, client_address[0])
                return False
            self._cut(waiting, Refusal.BUSY)
        self._connections[request] = client_address[0]
        return True

    def service_actions(self) -> None:
        """Cut the connections that stand still; called by the server's loop."""
        super().service_actions()
        self._forget_closed()
        for connection in self._connections:
            if connection.refusal is None and connection.stands_still(self._limits.silence):
                self._cut(connection, Refusal.STALLED)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say of an error in a connection no more than its kind: its text may hold what the peer has sent."""
        LOG.warning("a connection from %s failed: %s", client_address[0], sys.exc_info()[0])

    def _cut(self, connection: Any, why: Refusal) -> None:
        connection.refusal = why
        _shut(connection)

    def _forget_closed(self) -> None:
        for connection, peer in list(self._connections.items()):
            if connection.fileno() == -1:
                del self._connections[connection]
                if connection.refusal is not None:
                    self._counters.refused(connection.refusal, peer)


def _shut(connection: Any) -> None:
    with suppress(OSError):
        socket.socket.shutdown(connection, socket.SHUT_RDWR)  # past TLS, which would wait for the peer
