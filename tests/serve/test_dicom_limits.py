"""The limits of the DICOM door: what is too large, too slow or one too many is cut off, and who waits for us is not."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from cxr.serve import dicom_server
from cxr.serve.counters import Refusal
from dicom_door import PATIENT, Door, associate, established, opened, sent
from web_service import film

pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.usefixtures("others_are_not_looked_at", "no_socket_is_left", "frequent_looks"),
]


@pytest.fixture
def impatient(tmp_path: Path) -> Iterator[Door]:
    with opened(tmp_path, silence=0.3) as door:
        yield door


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
