"""The DICOM door, called by real associations over loopback: who is let in, what is taken, and who is cut off."""

import ssl
import time
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    CTImageStorage,
    DigitalXRayImageStorageForPresentation,
    SecondaryCaptureImageStorage,
)
from pynetdicom import AE
from pynetdicom.sop_class import StorageCommitmentPushModel, Verification  # type: ignore[attr-defined]

from cxr.read.decode import SUPPORTED
from cxr.serve.counters import Refusal
from cxr.serve.sends import Sends
from cxr.serve.tls import Tls
from dicom_door import Door, associate, established, opened, sent
from web_service import film

pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.usefixtures("others_are_not_looked_at", "no_socket_is_left", "frequent_looks"),
]


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
