"""Five hundred who call at once, and a disk of 20 MB: what is refused, what is kept, and that the others go on."""

import selectors
import shutil
import socket
import struct
import subprocess
import time
from collections import Counter
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import httpx
import psutil
import pytest
from pydicom import dcmread
from pydicom.uid import ComputedRadiographyImageStorage
from pynetdicom import AE

from cxr.serve.counters import Counters, Refusal
from cxr.serve.dicom_in import DicomIn
from cxr.serve.dicom_server import Limits
from cxr.serve.intake import Intake
from cxr.serve.nodes import Node
from cxr.serve.queue import Queue
from scripts import Job, start
from web_service import film

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")]

PATIENT = 240.0  # seconds
ACCEPTED, REJECTED = 2, 3  # types of PDU (PS3.8 9.3)


def item(kind: int, content: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(content)) + content


def association_request() -> bytes:
    """An A-ASSOCIATE-RQ (PS3.8 9.3.2) of PACS for CXR, for CR films in explicit VR."""
    syntaxes = item(0x30, ComputedRadiographyImageStorage.encode()) + item(0x40, b"1.2.840.10008.1.2.1")
    items = item(0x10, b"1.2.840.10008.3.1.1.1") + item(0x20, b"\x01\0\0\0" + syntaxes)
    items += item(0x50, item(0x51, struct.pack(">I", 16384)) + item(0x52, b"1.2.3"))
    body = struct.pack(">H2x16s16s32x", 1, b"CXR".ljust(16), b"PACS".ljust(16)) + items
    return struct.pack(">BxI", 1, len(body)) + body


def answers(port: int, n: int) -> Counter[int]:
    """Ask for ``n`` associations at once; the type of PDU that each is answered with, 0 where it is cut off."""
    calls, told = selectors.DefaultSelector(), Counter[int]()
    for _ in range(n):
        call = socket.socket()
        call.setblocking(False)
        call.connect_ex(("127.0.0.1", port))
        calls.register(call, selectors.EVENT_WRITE)
    held, end = [], time.monotonic() + PATIENT
    while calls.get_map() and time.monotonic() < end:
        for key, event in calls.select(1):
            call = key.fileobj
            assert isinstance(call, socket.socket)
            with suppress(BlockingIOError):
                try:
                    if event & selectors.EVENT_WRITE:
                        call.sendall(association_request())
                        calls.modify(call, selectors.EVENT_READ)
                        continue
                    first = call.recv(1)
                except OSError:
                    first = b""
                told[first[0] if first else 0] += 1
                calls.unregister(call)
                held.append(call)  # open until all have their answer
    for call in held:
        call.close()
    return told


def sent(port: int, data: bytes, seconds: float = PATIENT) -> int | None:
    """Send a film as PACS; the status of the answer, None where nobody lets it in for so long."""
    entity = AE("PACS")
    entity.add_requested_context(ComputedRadiographyImageStorage)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = entity.connection_timeout = PATIENT
    end = time.monotonic() + seconds
    while not (association := entity.associate("127.0.0.1", port, ae_title="CXR")).is_established:
        if time.monotonic() > end:
            return None
        time.sleep(0.1)
    status = association.send_c_store(dcmread(BytesIO(data)))
    association.release()
    return int(status.Status)


def test_of_five_hundred_at_once_some_are_let_in_and_all_others_are_refused_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    intake, counters, process = Intake(tmp_path, Queue(tmp_path), 1, 0), Counters(), psutil.Process()
    door = DicomIn("CXR", [Node("PACS", "127.0.0.1")], intake, counters, Limits(2**20, 16, PATIENT))
    with door.listening(("127.0.0.1", 0), None) as port:
        before, began = process.memory_info().rss, time.monotonic()
        told = answers(port, 500)
        seconds, grown, threads = time.monotonic() - began, process.memory_info().rss - before, process.num_threads()
        assert told.total() == 500
        assert 1 <= told[ACCEPTED] <= 16
        refused = 500 - told[ACCEPTED]
        end = time.monotonic() + PATIENT
        while counters.refusals().get(Refusal.BUSY, 0) < refused and time.monotonic() < end:
            time.sleep(0.1)
        assert counters.refusals() == {Refusal.BUSY: refused}
        assert not list(intake.films.iterdir())
        assert sent(port, film("afterwards")) == 0x0000
    with capsys.disabled():
        print(
            f"\n500 at once in {seconds:.1f} s: {told[ACCEPTED]} let in, {told[REJECTED]} rejected, {told[0]} cut off;"
        )
        print(f"{grown / 2**20:.0f} MB more, {threads} threads at the end")


SMALL_DISK = """
import ctypes, os
libc, who = ctypes.CDLL(None), (os.geteuid(), os.getegid())
assert libc.unshare(0x10000000 | 0x20000) == 0  # CLONE_NEWUSER, CLONE_NEWNS
for name, line in (("setgroups", "deny"), ("uid_map", f"0 {who[0]} 1"), ("gid_map", f"0 {who[1]} 1")):
    with open(f"/proc/self/{name}", "w") as file:
        file.write(line)
assert libc.mount(b"none", b"/", None, 0x44000, None) == 0  # MS_REC, MS_PRIVATE
assert libc.mount(b"none", FOLDER, b"tmpfs", 0, b"size=20m") == 0
"""


@pytest.fixture
def disk(place: Path, tmp_path: Path) -> str:
    """What a script executes first so that its folder ``small`` is a disk of 20 MB, which nobody else sees."""
    call = ["unshare", "-rm", "mount", "-t", "tmpfs", "none", str(tmp_path)]
    if shutil.which("unshare") is None or subprocess.run(call, capture_output=True).returncode:
        pytest.skip("nothing can be mounted here, not even in a namespace of its own")
    (place / "small").mkdir(exist_ok=True)
    return SMALL_DISK.replace("FOLDER", repr(str(place / "small").encode()))


def large_film(name: str) -> bytes:
    dicom = dcmread(BytesIO(film(name)))
    dicom.Rows, dicom.Columns, dicom.PixelData = 1000, 900, bytes(2 * 1000 * 900)
    content = BytesIO()
    dicom.save_as(content, enforce_file_format=True)
    return content.getvalue()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def numbers(url: str, job: Job) -> dict[str, float]:
    """The numbers of the service by their names, as soon as it answers."""
    end = time.monotonic() + PATIENT
    while time.monotonic() < end:
        assert job.poll() is None, job.printed()
        with suppress(httpx.TransportError):
            lines = httpx.get(f"{url}/metrics", timeout=PATIENT).text.splitlines()
            return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}
        time.sleep(0.1)
    raise TimeoutError(job.printed())


@pytest.mark.parametrize(("free", "some"), [(200, False), (4, True)])
def test_on_a_disk_of_20_mb_what_is_taken_is_worked_off_and_all_else_is_out_of_resources(
    place: Path, disk: str, free: int, some: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    port, web = free_port(), free_port()
    words = ["ckpt=run/checkpoints/best.ckpt", "allow=[PACS@127.0.0.1]", f"dicom=127.0.0.1:{port}", "workers=1"]
    words += [f"http=127.0.0.1:{web}", f"free_mb={free}", f"hydra.run.dir={place / 'small'}"]
    job, url = start("serve.py", place, *words, before=disk), f"http://127.0.0.1:{web}"
    try:
        left = numbers(url, job)["cxr_free_bytes"]
        statuses = [sent(port, large_film(f"{free} {n}")) for n in range(12)]
        taken, refused = statuses.count(0x0000), statuses.count(0xA700)
        assert taken + refused == 12
        assert refused > 0
        assert (taken > 0) is some
        if not some:
            assert httpx.post(f"{url}/films", content=large_film("more"), timeout=PATIENT).status_code == 507
            assert httpx.get(f"{url}/health", timeout=PATIENT).status_code == 503
            refused += 1
        end = time.monotonic() + PATIENT
        while (now := numbers(url, job))['cxr_queue_films{state="sent"}'] < taken and time.monotonic() < end:
            time.sleep(0.2)
        states = {name: films for name, films in now.items() if name.startswith("cxr_queue_films") and films}
        assert states == ({'cxr_queue_films{state="sent"}': taken} if taken else {})
        assert now['cxr_refused_total{reason="full"}'] == refused
    finally:
        job.send_signal(15)
        assert job.wait() == 0, job.printed()
    with capsys.disabled():
        print(f"\nfree_mb={free} with {left / 2**20:.1f} MB free: {taken} films of 1.8 MB taken and worked off,")
        print(f"{refused} out of resources; {now['cxr_free_bytes'] / 2**20:.1f} MB are left")
