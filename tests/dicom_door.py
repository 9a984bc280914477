"""A DICOM door of our own that tests call over loopback."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.uid import ComputedRadiographyImageStorage
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from cxr.read.decode import SUPPORTED
from cxr.serve.counters import Counters, Refusal
from cxr.serve.dicom_in import DicomIn
from cxr.serve.dicom_server import Limits
from cxr.serve.intake import Intake
from cxr.serve.nodes import Node
from cxr.serve.queue import Queue
from cxr.serve.tls import Tls

NODES = [Node("PACS", "127.0.0.1", 4242), Node("FAR", "10.0.0.9")]
PATIENT = 60.0  # seconds that a peer may be silent where none is to be cut, and that something is waited for


@dataclass
class Door:
    intake: Intake
    counters: Counters
    port: int
    before: dict[Any, int]

    def new_refusals(self, *wanted: Refusal, seconds: float = PATIENT) -> dict[Refusal, int]:
        """What was refused since the test began; the ``wanted`` ones are waited for, each as often as it is named."""
        end = time.monotonic() + seconds
        while True:
            now = self.counters.refusals()
            new = {why: n - self.before.get(why, 0) for why, n in now.items() if n > self.before.get(why, 0)}
            if not Counter(wanted) - Counter(new) or time.monotonic() > end:
                return new
            time.sleep(0.02)


@contextmanager
def opened(folder: Path, tls: Tls | None = None, silence: float = PATIENT, associations: int = 16) -> Iterator[Door]:
    intake, counters = Intake(folder, Queue(folder), 1, 0), Counters()
    door = DicomIn("CXR", NODES, intake, counters, Limits(2**20, associations, silence))
    with door.listening(("127.0.0.1", 0), tls) as port:
        yield Door(intake, counters, port, {})


def associate(
    door: Door, title: str = "PACS", called: str = "CXR", sop_class: str = ComputedRadiographyImageStorage, **tls: Any
) -> Association:
    entity = AE(title)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = PATIENT
    entity.add_requested_context(sop_class, list(SUPPORTED)[:2])
    entity.add_requested_context(Verification)
    return entity.associate("127.0.0.1", door.port, ae_title=called, **tls)


def established(door: Door, sop_class: str = ComputedRadiographyImageStorage) -> Association:
    """An association; others, which have just been released, may have to end first."""
    end = time.monotonic() + PATIENT
    while not (association := associate(door, sop_class=sop_class)).is_established and time.monotonic() < end:
        time.sleep(0.1)
    assert association.is_established
    return association


def sent(door: Door, data: bytes, sop_class: str = ComputedRadiographyImageStorage) -> int:
    """Send a film, and return the status of the answer."""
    association = established(door, sop_class)
    status = association.send_c_store(dcmread(BytesIO(data)))
    association.release()
    return int(status.Status)
