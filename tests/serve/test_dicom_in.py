"""The DICOM door, called by real associations over loopback: who is let in, what is taken, and who is cut off."""

import gc
import socket
import ssl
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    CTImageStorage,
    DigitalXRayImageStorageForPresentation,
    SecondaryCaptureImageStorage,
)
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.sop_class import StorageCommitmentPushModel, Verification  # type: ignore[attr-defined]

from cxr.read.decode import SUPPORTED
from cxr.serve import dicom_server
from cxr.serve.counters import Counters, Refusal
from cxr.serve.dicom_in import DicomIn
from cxr.serve.dicom_server import Limits
from cxr.serve.intake import Intake
from cxr.serve.nodes import Node
from cxr.serve.queue import Queue
from cxr.serve.sends import Sends
from cxr.serve.tls import Tls
from web_service import film

pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")

NODES = [Node("PACS", "127.0.0.1", 4242), Node("FAR", "10.0.0.9")]
PATIENT = 60.0  # seconds that a peer may be silent where none is to be cut, and that something is waited for


@pytest.fixture(autouse=True, scope="module")
def others_are_not_looked_at() -> Iterator[None]:
    """So that to collect what a test leaves takes no second."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def no_socket_is_left() -> Iterator[None]:
    """pynetdicom leaves the socket of a call that failed to the garbage collection, which warns of it."""
    yield
    gc.collect()


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


@pytest.fixture(autouse=True, scope="module")
def frequent_looks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cxr.serve.dicom_server._LOOK", 0.02)
        yield


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    with opened(tmp_path_factory.mktemp("door")) as door:
        yield door


@pytest.fixture
def door(shared: Door) -> Door:
    shared.before = dict(shared.counters.refusals())
    return shared


@pytest.fixture
def impatient(tmp_path: Path) -> Iterator[Door]:
    with opened(tmp_path, silence=0.3) as door:
        yield door


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


def test_a_known_node_is_answered_and_its_film_is_on_the_disk(door: Door) -> None:
    association = established(door)
    assert association.send_c_echo().Status == 0x0000
    association.release()
    assert sent(door, film("a film")) == 0x0000
    row = door.intake.queue.latest(1)[0]
    assert row.source == "PACS@127.0.0.1"
    assert dcmread(door.intake.path(row.digest)).PixelData == dcmread(BytesIO(film("a film"))).PixelData
    assert sent(door, film("a film")) == 0x0000  # again: it is the same one
    assert door.intake.queue.latest(1)[0].number == row.number
    assert door.new_refusals() == {}


@pytest.mark.parametrize(
    ("title", "called", "refusal", "diagnostic"),
    [
        ("STRANGER", "CXR", Refusal.CALLER, 3),
        ("FAR", "CXR", Refusal.CALLER, 3),  # known, but at another address
        ("PACS", "OTHER", Refusal.CALLED_TITLE, 7),
    ],
)
def test_a_stranger_and_a_call_for_another_are_rejected_and_counted(
    door: Door, title: str, called: str, refusal: Refusal, diagnostic: int
) -> None:
    association = associate(door, title, called)
    assert association.is_rejected
    assert association.acceptor.primitive.diagnostic == diagnostic
    assert door.new_refusals(refusal) == {refusal: 1}


def test_a_ct_finds_no_context_and_a_film_of_each_kind_does(door: Door) -> None:
    association = established(door, CTImageStorage)
    accepted = [one.abstract_syntax for one in association.accepted_contexts]
    association.release()
    assert accepted == [Verification]
    assert door.new_refusals(Refusal.NO_FILM) == {Refusal.NO_FILM: 1}
    for sop_class in (DigitalXRayImageStorageForPresentation, SecondaryCaptureImageStorage):
        assert sent(door, film(f"of {sop_class}", sop_class), sop_class) == 0x0000


def test_every_transfer_syntax_that_is_read_is_accepted(door: Door) -> None:
    entity = AE("PACS")
    for syntax in SUPPORTED:
        entity.add_requested_context(ComputedRadiographyImageStorage, syntax)
    association = entity.associate("127.0.0.1", door.port, ae_title="CXR")
    taken = {one.transfer_syntax[0] for one in association.accepted_contexts}
    association.release()
    assert taken == set(SUPPORTED)


def test_a_film_that_is_not_whole_gets_a_status_and_is_not_stored(door: Door) -> None:
    dicom = dcmread(BytesIO(film("cut")))
    dicom.PixelData = dicom.PixelData[:-200]
    content = BytesIO()
    dicom.save_as(content, enforce_file_format=True)
    before = len(list(door.intake.films.iterdir()))
    assert sent(door, content.getvalue()) == 0xC000
    assert door.new_refusals(Refusal.TRUNCATED) == {Refusal.TRUNCATED: 1}
    assert len(list(door.intake.films.iterdir())) == before


def test_a_film_that_is_too_large_ends_its_association_before_it_is_whole(door: Door) -> None:
    dicom = dcmread(BytesIO(film("large")))
    dicom.PixelData = bytes(5 * 2**20)
    association = established(door)
    assert "Status" not in association.send_c_store(dicom)
    assert door.new_refusals(Refusal.TOO_LARGE) == {Refusal.TOO_LARGE: 1}


def test_a_peer_that_stands_still_is_cut(impatient: Door) -> None:
    silent = socket.create_connection(("127.0.0.1", impatient.port))
    midway = socket.create_connection(("127.0.0.1", impatient.port))
    midway.sendall(b"\x01\x00\x00\x00\x10\x00half of a request")
    for connection in (silent, midway):
        connection.settimeout(PATIENT)
        assert connection.recv(1) == b""
        connection.close()
    assert impatient.new_refusals(Refusal.STALLED, Refusal.STALLED) == {Refusal.STALLED: 2}


def trickle(connection: socket.socket, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        connection.sendall(b"x")
        time.sleep(0.02)


def test_a_peer_that_only_trickles_is_cut(impatient: Door) -> None:
    slow = socket.create_connection(("127.0.0.1", impatient.port))
    slow.sendall(b"\x01\x00\x00\x00\x10\x00")
    with pytest.raises(OSError, match=r"pipe|reset"):
        trickle(slow, seconds=PATIENT)
    slow.close()
    assert impatient.new_refusals(Refusal.STALLED) == {Refusal.STALLED: 1}


def test_a_peer_may_bring_more_in_all_than_one_message_may_have(door: Door) -> None:
    association = established(door)
    for n in range(6):  # of 0.5 MB each, where a message may have 2 MB
        dicom = dcmread(BytesIO(film(f"one of many {n}")))
        dicom.Rows, dicom.Columns, dicom.PixelData = 500, 500, bytes(2 * 500 * 500)
        assert association.send_c_store(dicom).Status == 0x0000
    association.release()


def test_a_connection_stands_still_when_nothing_comes_but_not_while_its_peer_waits_for_us(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [100.0]
    monkeypatch.setattr(dicom_server.time, "monotonic", lambda: now[0])
    ours, theirs = socket.socketpair()
    with dicom_server._Plain(fileno=ours.detach()) as connection, theirs:
        connection.watch(10**6)
        now[0] += 29
        assert not connection.stands_still(30)
        now[0] += 2
        assert connection.stands_still(30)
        with connection.at_work():
            now[0] += 1000
            assert not connection.stands_still(30)
        assert not connection.stands_still(30)  # its peer has just had the answer
        theirs.sendall(bytes(2**15))
        assert len(connection.recv(2**15)) == 2**15
        now[0] += 31
        assert connection.stands_still(30)
        theirs.sendall(bytes(2**15))
        assert len(connection.recv(2**15)) == 2**15
        assert not connection.stands_still(30)  # 64 kB in 31 s are slow, and not too slow
        connection.begin_message()
        theirs.sendall(b"x")
        connection.recv(1)
        now[0] += 29
        theirs.sendall(b"x")
        connection.recv(1)
        assert not connection.stands_still(30)
        now[0] += 2
        assert connection.stands_still(30)  # two bytes of a message in 31 s are


def settled(door: Door) -> int:
    """How many were refused because there were too many, as soon as that grows no more."""
    before, now = -1, door.new_refusals(Refusal.BUSY)[Refusal.BUSY]
    while before != now:
        time.sleep(0.2)
        before, now = now, door.new_refusals()[Refusal.BUSY]
    return now


def test_a_connection_whose_peer_is_gone_is_closed() -> None:
    connection = dicom_server._Plain()  # nobody is at its other end: to shut it down fails
    connection.shutdown(socket.SHUT_RDWR)
    assert connection.fileno() == -1


def test_one_association_too_many_is_rejected_and_a_flood_is_cut_off(tmp_path: Path) -> None:
    with opened(tmp_path, associations=2, silence=10 * PATIENT) as door:
        strangers = [socket.create_connection(("127.0.0.1", door.port)) for _ in range(12)]
        held = [established(door), established(door)]  # though ten is all that there is room for
        for connection in strangers:
            connection.close()
        rejected = associate(door)
        assert rejected.is_rejected
        assert rejected.acceptor.primitive.diagnostic == 2  # local limit exceeded
        before = settled(door)
        flood = [socket.create_connection(("127.0.0.1", door.port)) for _ in range(40)]
        wanted = before + 40 - 8  # eight may wait beside the two
        assert door.new_refusals(*[Refusal.BUSY] * wanted)[Refusal.BUSY] >= wanted
        assert all(association.send_c_echo().Status == 0x0000 for association in held)
        for association in held:
            association.release()
        established(door).release()
        for connection in flood:
            connection.close()


def test_a_caller_that_cannot_be_looked_up_is_not_let_in(
    door: Door, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*words: object) -> None:
        raise RuntimeError("Lin^Yu-Ting")

    monkeypatch.setattr("cxr.serve.dicom_in.caller", fails)
    assert associate(door).is_rejected
    assert door.new_refusals(Refusal.CALLER) == {Refusal.CALLER: 1}
    assert "RuntimeError in test_dicom_in.py" in caplog.text
    assert "Lin" not in caplog.text


def test_an_error_of_the_program_is_no_success_and_stands_in_the_log(
    door: Door, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(data: bytes, source: str) -> None:
        raise RuntimeError("Lin^Yu-Ting")

    monkeypatch.setattr(door.intake, "take", fails)
    assert sent(door, film("unlucky")) == 0x0110
    assert "RuntimeError in test_dicom_in.py" in caplog.text
    assert "Lin" not in caplog.text


def test_what_a_node_commits_itself_to_is_noted(door: Door) -> None:
    queue = door.intake.queue
    number = door.intake.take(film("committed"), "PACS@127.0.0.1").number
    queue.has_assessed(number, ["x-sr.dcm"], ["PACS"])
    sends = Sends(queue, "PACS")
    sends.pledged(sends.due(time.time(), 1), "2.25.99")

    def told(uid: str, kind: int = 1) -> int:
        from pynetdicom import build_role

        entity = AE("PACS")
        entity.add_requested_context(StorageCommitmentPushModel)
        roles = [build_role(StorageCommitmentPushModel, scp_role=True)]
        association = entity.associate("127.0.0.1", door.port, ae_title="CXR", ext_neg=roles)
        information = Dataset()
        information.TransactionUID = uid
        status, _ = association.send_n_event_report(
            information, kind, StorageCommitmentPushModel, "1.2.840.10008.1.20.1.1"
        )
        association.release()
        return int(status.Status)

    assert told("2.25.98") == 0x0112
    assert queue.get(number).state == "assessed"
    assert told("2.25.99", kind=2) == 0x0000  # there are failures
    assert queue.get(number).state == "assessed"
    sends.pledged(sends.due(time.time() + 60, 1), "2.25.100")
    assert told("2.25.100") == 0x0000
    assert queue.get(number).state == "sent"


def test_a_peer_whose_film_is_being_written_is_not_silent(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    at_work, take, order = dicom_server._Watched.at_work, door.intake.take, list[str]()

    @contextmanager
    def noted_work(self: Any) -> Iterator[None]:
        order.append("begun")
        with at_work(self):
            yield
        order.append("done")

    def noted_take(data: bytes, source: str) -> object:
        order.append("taken")
        return take(data, source)

    monkeypatch.setattr(dicom_server._Watched, "at_work", noted_work)
    monkeypatch.setattr(door.intake, "take", noted_take)
    assert sent(door, film("slowly written")) == 0x0000
    assert order == ["begun", "taken", "done"]


def test_with_tls_only_peers_that_the_ca_has_signed_come_in(tmp_path: Path, keys: Path) -> None:
    ours = Tls(keys / "ours.pem", keys / "ours.key", keys / "ours.pem")
    stranger = Tls(keys / "stranger.pem", keys / "stranger.key", keys / "ours.pem")
    with opened(tmp_path, ours) as door:
        association = associate(door, tls_args=(ours.for_calls(), "127.0.0.1"))
        assert association.send_c_store(dcmread(BytesIO(film()))).Status == 0x0000
        association.release()
        assert not associate(door).is_established  # without TLS
        assert door.new_refusals(Refusal.NO_TLS) == {Refusal.NO_TLS: 1}
        assert not associate(door, tls_args=(stranger.for_calls(), "127.0.0.1")).is_established
        bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        bare.check_hostname, bare.verify_mode = False, ssl.CERT_NONE
        assert not associate(door, tls_args=(bare, "127.0.0.1")).is_established
        assert len(door.intake.queue.latest(9)) == 1
