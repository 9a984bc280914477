"""An archive that takes objects by C-STORE, and commits itself to them where it offers to (PS3.4 B and J)."""

import socket
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread
from pydicom.uid import (
    ComprehensiveSRStorage,
    ExplicitVRLittleEndian,
    GrayscaleSoftcopyPresentationStateStorage,
    ImplicitVRLittleEndian,
    ParametricMapStorage,
    RLELossless,
    SecondaryCaptureImageStorage,
    generate_uid,
)
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
)

from cxr.serve.archive import DAMAGED, Pledge, Stored
from cxr.serve.dicom_server import quiet_pynetdicom
from cxr.serve.nodes import Node

_CLASSES = (ComprehensiveSRStorage, GrayscaleSoftcopyPresentationStateStorage, SecondaryCaptureImageStorage)
_PLAIN = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]
_WARNINGS = range(0xB000, 0xC000)  # taken, with something changed (PS3.4 B.2.3)
_REQUEST_COMMITMENT = 1  # PS3.4 J.3.2.1


class DicomArchive:
    """A DICOM node that takes objects.

    Args:
        title: our AE title.
        node: where they go.
        silence: seconds for which it may be silent.
        context: of TLS, None without.
        commits: whether it is asked to commit itself; its answer comes to our own address.
    """

    def __init__(self, title: str, node: Node, silence: float, context: ssl.SSLContext | None, commits: bool) -> None:
        if node.port is None:
            raise ValueError(f"{node} has no port, and so takes no objects")
        quiet_pynetdicom()
        self.name = node.title
        self._node, self._port, self._silence, self._context = node, node.port, silence, context
        self._entity = AE(title)
        self._entity.acse_timeout = self._entity.dimse_timeout = self._entity.network_timeout = silence
        self._entity.connection_timeout = silence
        for sop_class in _CLASSES:
            self._entity.add_requested_context(sop_class, _PLAIN)
        self._entity.add_requested_context(ParametricMapStorage, RLELossless)
        if commits:
            self._entity.add_requested_context(StorageCommitmentPushModel)

    def store(self, files: Sequence[Path], pledge: Pledge) -> Stored:
        """Offer ``files`` over one association; see ``Archive``."""
        handlers: list[Any] = [(evt.EVT_CONN_OPEN, self._bound)]
        secured = None if self._context is None else (self._context, self._node.address)
        try:
            association = self._entity.associate(
                self._node.address, self._port, ae_title=self._node.title, evt_handlers=handlers, tls_args=secured
            )
        except (OSError, RuntimeError) as error:  # a name that cannot be looked up
            return Stored(broken=f"cannot be reached ({type(error).__name__})")
        if not association.is_established:
            return Stored(broken="has rejected us" if association.is_rejected else "cannot be reached")
        try:
            stored, taken = self._offered(association, files)
            if taken and not stored.broken:
                stored.pledged = _asked_to_commit(association, taken, pledge)
        finally:
            if association.is_established:
                association.release()
        return stored

    def _offered(self, association: Association, files: Sequence[Path]) -> tuple[Stored, dict[int, Dataset]]:
        """Return what became of the files, and a reference to each that was taken."""
        stored, taken = Stored(), dict[int, Dataset]()
        for place, path in enumerate(files):
            try:
                made = dcmread(path)
                reference = Dataset()
                reference.ReferencedSOPClassUID = made.SOPClassUID
                reference.ReferencedSOPInstanceUID = made.SOPInstanceUID
            except Exception:  # whatever a file that was cut short makes pydicom raise
                stored.refusals.append(DAMAGED)
                continue
            try:
                status = association.send_c_store(made)
            except ValueError:
                stored.refusals.append(f"does not take {made.SOPClassUID.name}")
                continue
            except RuntimeError:
                status = Dataset()
            if "Status" not in status:
                stored.broken = "the association broke off"
                break
            if status.Status == 0 or status.Status in _WARNINGS:
                taken[place] = reference
                stored.refusals.append("")
            else:
                stored.refusals.append(f"refused {made.SOPClassUID.name} with status 0x{status.Status:04X}")
        return stored, taken

    def _bound(self, event: evt.Event) -> None:
        """Let no byte be waited for longer than is allowed: the library waits for ever within a message.

        Nor wait with the last bytes of an object for an answer to those before: that takes 80 ms for each.
        """
        connection: Any = event.assoc.dul.socket
        connection.socket.settimeout(self._silence)
        connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _asked_to_commit(association: Association, taken: dict[int, Dataset], pledge: Pledge) -> bool:
    """Ask for a commitment where the archive offers it; return whether an answer will come."""
    if not any(one.abstract_syntax == StorageCommitmentPushModel for one in association.accepted_contexts):
        return False
    request = Dataset()
    request.TransactionUID = generate_uid(prefix=None)
    request.ReferencedSOPSequence = list(taken.values())
    pledge(str(request.TransactionUID), list(taken))  # noted first: the answer may be here before the next line
    try:
        status, _ = association.send_n_action(
            request, _REQUEST_COMMITMENT, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
        )
    except (ValueError, RuntimeError):
        return False
    return "Status" in status and status.Status == 0
