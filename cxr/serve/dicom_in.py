"""The DICOM door: a storage SCP that takes films from the nodes it knows, within limits, and answers their echo."""

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

from pydicom import Dataset
from pynetdicom import AE, evt
from pynetdicom.sop_class import StorageCommitmentPushModel, Verification  # type: ignore[attr-defined]

from cxr.read.decode import SUPPORTED
from cxr.serve.counters import Counters, Refusal, where
from cxr.serve.dicom_server import DicomServer, Limits, quiet_pynetdicom
from cxr.serve.intake import SOP_CLASSES, Intake, Refused
from cxr.serve.nodes import Node, caller
from cxr.serve.sends import Sends
from cxr.serve.tls import Tls

LOG = logging.getLogger(__name__)

_PDU = 2**17  # bytes: a film of 10 MB in 80 pieces
_REJECTIONS = {  # result, source and diagnostic (PS3.8 9.3.4)
    Refusal.CALLER: (0x01, 0x01, 0x03),
    Refusal.CALLED_TITLE: (0x01, 0x01, 0x07),
    Refusal.BUSY: (0x02, 0x03, 0x02),
}
_FAILED = 0x0110  # PS3.7 C.5: processing failure

_ALL_COMMITTED = 1  # PS3.4 J.3.3.1
_NO_SUCH_OBJECT = 0x0112


class DicomIn:
    """Listens at an address for the nodes that may call.

    Args:
        title: our AE title.
        nodes: who may call.
        intake: where films go.
        counters: what is refused.
        limits: of each peer.
    """

    def __init__(
        self,
        title: str,
        nodes: Sequence[Node],
        intake: Intake,
        counters: Counters,
        limits: Limits,
    ) -> None:
        self._title, self._nodes, self._intake, self._counters = title, nodes, intake, counters
        self._limits = limits
        self._inside: list[Any] = []  # associations that were let in
        self._lock = threading.Lock()

    @contextmanager
    def listening(self, address: tuple[str, int], tls: Tls | None) -> Iterator[int]:
        """Take films while the block runs; yield the port. Raises ``OSError`` where the address cannot be had."""
        quiet_pynetdicom()
        handlers: list[Any] = [
            (evt.EVT_REQUESTED, self._admit),
            (evt.EVT_ESTABLISHED, self._note_empty),
            (evt.EVT_DIMSE_RECV, _begin_message),
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_N_EVENT_REPORT, self._report),
        ]
        context = None if tls is None else tls.for_callers()
        server = DicomServer(self._entity(), address, self._title, context, handlers, self._limits, self._counters)
        thread = server.begin()
        try:
            yield int(server.server_address[1])
        finally:
            server.end()
            thread.join()

    def _entity(self) -> AE:
        entity = AE(self._title)
        entity.maximum_associations = self._limits.associations + 100  # ours is in _is_room: this counts strangers, too
        entity.maximum_pdu_size = _PDU
        # The look at all connections comes first, which also counts what it cuts
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 2 * self._limits.silence
        entity.add_supported_context(Verification)
        for sop_class in SOP_CLASSES:
            entity.add_supported_context(sop_class, list(SUPPORTED))
        entity.add_supported_context(StorageCommitmentPushModel, scu_role=False, scp_role=True)
        return entity

    def _admit(self, event: evt.Event) -> None:
        """Reject an association for another title, from a node that is not known at its address, or one too many.

        The library would let one in at which this raises. So that one is rejected, too.
        """
        try:
            why = self._refusal(event.assoc)
        except Exception as error:
            LOG.error("a caller could not be looked up: %s", where(error))
            why = Refusal.CALLER
        connection = _socket(event)
        if connection is not None:  # not closed in the meantime
            connection.answered = True
        if why is not None:
            if connection is None or connection.refusal is None:  # else it is counted as what it is cut for
                self._counters.refused(why, _peer(event))
            event.assoc.acse.send_reject(*_REJECTIONS[why])
            event.assoc.kill()  # which waits until it is sent

    def _refusal(self, association: Any) -> Refusal | None:
        """Return why an association is not let in."""
        primitive = association.requestor.primitive
        if primitive.called_ae_title.strip() != self._title:
            return Refusal.CALLED_TITLE
        if caller(self._nodes, primitive.calling_ae_title.strip(), association.requestor.address) is None:
            return Refusal.CALLER
        return None if self._is_room(association) else Refusal.BUSY

    def _is_room(self, association: Any) -> bool:
        """Let an association in if there are not too many; connections of strangers do not count."""
        with self._lock:
            self._inside = [one for one in self._inside if one.is_alive()]
            if len(self._inside) >= self._limits.associations:
                return False
            self._inside.append(association)
            return True

    def _note_empty(self, event: evt.Event) -> None:
        takes_films = any(one.abstract_syntax in SOP_CLASSES for one in event.assoc.accepted_contexts)
        if event.assoc.rejected_contexts and not takes_films:  # a CT scanner, or a transfer syntax that is not read
            self._counters.refused(Refusal.NO_FILM, _peer(event))

    def _store(self, event: evt.Event) -> int:
        """Take a film and return the status of the answer."""
        connection = _socket(event)
        with nullcontext() if connection is None else connection.at_work():
            try:
                self._intake.take(event.encoded_dataset(), _peer(event))
            except Refused as refused:
                self._counters.refused(refused.cause, _peer(event))  # the reason may quote a header
                return refused.dicom
            except Exception as error:  # which the library would tell nobody
                LOG.error("a film could not be taken: %s", where(error))
                return _FAILED
        return 0x0000

    def _report(self, event: evt.Event) -> tuple[int, Dataset | None]:
        """Note what a node says of the objects that it was asked to commit itself to."""
        information = event.event_information
        transaction = str(information.get("TransactionUID", ""))
        sends = Sends(self._intake.queue, event.assoc.requestor.ae_title.strip())
        known = sends.committed(transaction, whole=event.event_type == _ALL_COMMITTED)
        return 0x0000 if known else _NO_SUCH_OBJECT, None


def _begin_message(event: evt.Event) -> None:
    if (connection := _socket(event)) is not None:  # not closed in the meantime
        connection.begin_message()


def _socket(event: evt.Event) -> Any:
    wrapped: Any = event.assoc.dul.socket
    return wrapped.socket


def _peer(event: evt.Event) -> str:
    requestor: Any = event.assoc.requestor
    return f"{requestor.primitive.calling_ae_title.strip()}@{requestor.address}"
