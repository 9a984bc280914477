"""Objects are offered to an archive once: over real associations to a small one, and by STOW-RS."""

import json
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import (
    ComprehensiveSRStorage,
    ImplicitVRLittleEndian,
    ParametricMapStorage,
    RLELossless,
    SecondaryCaptureImageStorage,
)
from pynetdicom import AE, DEFAULT_TRANSFER_SYNTAXES, evt
from pynetdicom.sop_class import StorageCommitmentPushModel  # type: ignore[attr-defined]

from cxr.serve.archive import DAMAGED, Pledge, Stored
from cxr.serve.dicom_archive import DicomArchive
from cxr.serve.nodes import Node
from cxr.serve.web_archive import WebArchive
from web_service import film

pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.usefixtures("others_are_not_looked_at", "no_socket_is_left"),
]

PATIENT = 60.0  # seconds
NOBODY: Pledge = lambda uid, places: None  # noqa: E731


def made(path: Path, instance: str, sop_class: str = SecondaryCaptureImageStorage) -> Path:
    dicom = dcmread(BytesIO(film(sop_class=sop_class)))
    dicom.SOPInstanceUID = dicom.file_meta.MediaStorageSOPInstanceUID = instance
    dicom.save_as(path, enforce_file_format=True)
    return path


@contextmanager
def archive(
    *answers: int,
    commits: bool = False,
    classes: Sequence[str] = (),
    syntaxes: Sequence[str] = (),
    commit_status: int = 0x0000,
) -> Iterator[tuple[Node, list[str], Any]]:
    """A PACS that answers so, one status after the other, and then with success; yields what it has kept."""
    kept: list[str] = []
    left, asked = list(answers), []

    def store(event: evt.Event) -> int:
        status = left.pop(0) if left else 0x0000
        if status == -1:
            event.assoc.abort()
            return 0x0000
        if status == 0 or status >= 0xB000:
            kept.append(str(event.request.AffectedSOPInstanceUID))
        return status

    def commit(event: evt.Event) -> tuple[int, Dataset | None]:
        asked.append(event.action_information)
        return commit_status, None

    entity = AE("PACS")
    for sop_class in classes or (ComprehensiveSRStorage, SecondaryCaptureImageStorage):
        entity.add_supported_context(sop_class, list(syntaxes) or DEFAULT_TRANSFER_SYNTAXES)
    if commits:
        entity.add_supported_context(StorageCommitmentPushModel)
    server = entity.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, store), (evt.EVT_N_ACTION, commit)]
    )
    assert server is not None
    try:
        yield Node("PACS", "127.0.0.1", server.server_address[1]), kept, asked
    finally:
        server.shutdown()


def ours(node: Node, commits: bool = False) -> DicomArchive:
    return DicomArchive("CXR", node, PATIENT, None, commits)


def test_each_object_has_its_own_answer(tmp_path: Path) -> None:
    files = [made(tmp_path / f"{n}.dcm", f"1.2.{n}") for n in range(3)]
    files.append(made(tmp_path / "map.dcm", "1.2.9", ParametricMapStorage))  # of a kind the archive does not know
    (tmp_path / "cut.dcm").write_bytes(files[0].read_bytes()[:40])
    with archive(0x0000, 0xA700, 0xB007) as (node, kept, _):  # the last: taken, though odd (PS3.4 B.2.3)
        stored = ours(node).store([*files, tmp_path / "cut.dcm"], NOBODY)
    assert kept == ["1.2.0", "1.2.2"]
    assert stored.refusals == [
        "", "refused Secondary Capture Image Storage with status 0xA700", "",
        "does not take Parametric Map Storage", DAMAGED,
    ]  # fmt: skip
    assert (stored.broken, stored.pledged) == ("", False)


def test_a_map_is_brought_as_it_is_compressed(tmp_path: Path) -> None:
    path = made(tmp_path / "map.dcm", "1.2.9", ParametricMapStorage)
    dicom = dcmread(path)
    dicom.compress(RLELossless, generate_instance_uid=False)
    dicom.save_as(path)
    with archive(classes=[ParametricMapStorage], syntaxes=[RLELossless]) as (node, kept, _):
        assert ours(node).store([path], NOBODY).refusals == [""]
    assert kept == ["1.2.9"]


def test_an_association_that_breaks_off_says_how_far_it_came(tmp_path: Path) -> None:
    files = [made(tmp_path / f"{n}.dcm", f"1.2.{n}") for n in range(3)]
    with archive(0x0000, -1) as (node, _, _):
        stored = ours(node).store(files, NOBODY)
    assert stored.refusals == [""]
    assert stored.broken == "the association broke off"
    assert ours(node).store(files, NOBODY).broken == "cannot be reached"


def test_an_archive_that_offers_commitment_is_asked_for_what_it_has_taken(tmp_path: Path) -> None:
    files = [made(tmp_path / f"{n}.dcm", f"1.2.{n}") for n in range(3)]
    pledges: list[tuple[str, list[int]]] = []
    with archive(0x0000, 0xA700, commits=True) as (node, _, asked):
        stored = ours(node, commits=True).store(files, lambda uid, places: pledges.append((uid, list(places))))
        assert not ours(node).store(files, NOBODY).pledged  # nobody would hear the answer
    assert stored.pledged
    (request,) = asked
    assert pledges == [(request.TransactionUID, [0, 2])]
    assert [one.ReferencedSOPInstanceUID for one in request.ReferencedSOPSequence] == ["1.2.0", "1.2.2"]


def test_an_archive_that_cannot_commit_itself_now_has_taken_what_it_stored(tmp_path: Path) -> None:
    files = [made(tmp_path / "0.dcm", "1.2.0")]
    with archive(commits=True, commit_status=0x0110) as (node, _, asked):
        stored = ours(node, commits=True).store(files, NOBODY)
    assert len(asked) == 1
    assert (stored.refusals, stored.pledged) == ([""], False)


def test_no_byte_of_an_archive_is_waited_for_longer_than_it_may_be_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def look(self: DicomArchive, association: Any, files: Sequence[Path]) -> tuple[Stored, dict[int, Dataset]]:
        seen.append(association.dul.socket.socket.gettimeout())
        return Stored(), {}

    monkeypatch.setattr(DicomArchive, "_offered", look)
    with archive() as (node, _, _):
        ours(node).store([], NOBODY)
    assert seen == [PATIENT]


def test_a_node_that_rejects_us_is_told_from_one_that_is_not_there() -> None:
    entity = AE("PACS")
    entity.add_supported_context(SecondaryCaptureImageStorage)
    entity.require_calling_aet = ["ANOTHER"]
    server = entity.start_server(("127.0.0.1", 0), block=False)
    assert server is not None
    try:
        node = Node("PACS", "127.0.0.1", server.server_address[1])
        assert ours(node).store([], NOBODY).broken == "has rejected us"
    finally:
        server.shutdown()
    assert ours(Node("PACS", "no-such-host.invalid", 104)).store([], NOBODY).broken.startswith("cannot be reached")


@contextmanager
def stow(status: int, answer: dict[str, Any], most: int = 0, small: int = 200) -> Iterator[tuple[str, list[Any]]]:
    """A server that answers so, and with ``small`` where there are up to ``most`` objects; yields URL and what came."""
    came: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            came.append((self.path, self.headers["Authorization"], body))
            content = json.dumps(answer).encode()
            self.send_response(small if body.count(b"Content-Type: application/dicom") <= most else status)
            self.send_header("Content-Type", "application/dicom+json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *words: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://me:se%40cret@127.0.0.1:{server.server_address[1]}/dicom-web/", came
    finally:
        server.shutdown()
        server.server_close()


def test_stow_says_of_each_object_whether_it_was_taken(tmp_path: Path) -> None:
    files = [made(tmp_path / f"{n}.dcm", f"1.2.{n}") for n in range(2)]
    (tmp_path / "cut.dcm").write_bytes(b"")
    failed = {
        "00081198": {"vr": "SQ", "Value": [{
            "00081155": {"vr": "UI", "Value": ["1.2.1"]}, "00081197": {"vr": "US", "Value": [0xA700]},
        }]},
    }  # fmt: skip
    with stow(202, failed) as (url, came):
        archive = WebArchive(url, PATIENT, None)
        stored = archive.store([*files, tmp_path / "cut.dcm"], NOBODY)
    assert stored.refusals == ["", "refused with reason 0xA700", DAMAGED]
    assert archive.name == url.replace("me:se%40cret@", "").rstrip("/")
    ((path, authorization, body),) = came
    assert path == "/dicom-web/studies"
    assert authorization == "Basic bWU6c2VAY3JldA=="
    assert all(file.read_bytes()[-500:] in body for file in files)
    assert WebArchive(url, PATIENT, None).store(files, NOBODY).broken == "cannot be reached (ConnectionError)"


def test_stow_that_is_refused_or_fails_as_a_whole_is_told_apart(tmp_path: Path) -> None:
    files = [made(tmp_path / "0.dcm", "1.2.0")]
    with stow(409, {}) as (url, _):
        assert WebArchive(url, PATIENT, None).store(files, NOBODY).refusals == ["refused with HTTP 409"]
    with stow(503, {}) as (url, _):
        assert WebArchive(url, PATIENT, None).store(files, NOBODY) == Stored(broken="answered with HTTP 503")


def test_objects_that_are_refused_together_are_offered_one_by_one(tmp_path: Path) -> None:
    files = [made(tmp_path / f"{n}.dcm", f"1.2.{n}") for n in range(3)]
    with stow(413, {}, most=1) as (url, came):
        stored = WebArchive(url, PATIENT, None).store(files, NOBODY)
    assert stored == Stored([""] * 3)
    assert [body.count(b"Content-Type: application/dicom") for _, _, body in came] == [3, 1, 1, 1]
    with stow(413, {}) as (url, _):
        assert WebArchive(url, PATIENT, None).store(files, NOBODY) == Stored(["refused with HTTP 413"] * 3)
    with stow(413, {}, most=1, small=503) as (url, _):  # nothing is taken of what it is too busy for
        assert WebArchive(url, PATIENT, None).store(files, NOBODY) == Stored(broken="answered with HTTP 503")


def test_an_archive_that_wants_another_encoding_makes_no_library_quote_a_patient(tmp_path: Path) -> None:
    """pydicom warns of a value that is out of standard, and says which, where it looks at it."""
    path = made(tmp_path / "odd.dcm", "1.2.3")
    dicom = dcmread(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dicom.PatientBirthDate = "Lin^Yu-Ting"
        dicom.save_as(path, enforce_file_format=True)
    with (
        archive(syntaxes=[ImplicitVRLittleEndian]) as (node, kept, _),
        warnings.catch_warnings(record=True) as warned,
    ):
        warnings.simplefilter("always")
        assert ours(node).store([path], NOBODY).refusals == [""]
    assert kept == ["1.2.3"]
    assert [str(one.message) for one in warned if "Lin" in str(one.message)] == []
