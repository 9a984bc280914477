"""End to end: serve.py between a sender and an archive over loopback, killed, restarted and stopped."""

import signal
import socket
import stat
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pynetdicom", reason="the extra is not installed: pip install 'cxr[serve]'")

from pydicom import Dataset, dcmread
from pydicom.uid import (
    ComprehensiveSRStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    ParametricMapStorage,
    SecondaryCaptureImageStorage,
)
from pynetdicom import AE, evt
from pynetdicom.presentation import StoragePresentationContexts

from benchmarks.serving import film_of
from scripts import Job, call, start

pytestmark = pytest.mark.slow

KINDS = (ComprehensiveSRStorage, GrayscaleSoftcopyPresentationStateStorage, SecondaryCaptureImageStorage)


class Archive:
    """A PACS that keeps what it is sent; an instance that comes again is the same one."""

    def __init__(self) -> None:
        self.kept: dict[str, Dataset] = {}
        self.came: Counter[str] = Counter()
        entity = AE("PACS")
        for sop_class in (*KINDS, ParametricMapStorage):
            entity.add_supported_context(sop_class, ["1.2.840.10008.1.2.1", "1.2.840.10008.1.2.5"])
        server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, self._store)])
        assert server is not None
        self.server, self.port = server, server.server_address[1]

    def _store(self, event: evt.Event) -> int:
        made = event.dataset
        made.file_meta = event.file_meta
        self.came[str(made.SOPInstanceUID)] += 1
        self.kept.setdefault(str(made.SOPInstanceUID), made)
        return 0x0000

    def of_films(self) -> dict[str, Counter[str]]:
        """SOPInstanceUID of a film → how many objects of each class refer to it."""
        films: dict[str, Counter[str]] = defaultdict(Counter)
        for made in list(self.kept.values()):
            films[film_of(made)][made.SOPClassUID] += 1
        return films


@pytest.fixture
def archive() -> Iterator[Archive]:
    archive = Archive()
    yield archive
    archive.server.shutdown()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def words(archive: Archive, port: int, *more: str) -> list[str]:
    nodes = f"allow=[CR1@127.0.0.1,PACS@127.0.0.1:{archive.port}]"
    ckpt = "ckpt=run/checkpoints/best.ckpt"
    return [ckpt, nodes, f"dicom=127.0.0.1:{port}", "http=null", "free_mb=1", "hydra.run.dir=served", *more]


def listens(job: Job, port: int, seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert job.poll() is None, job.printed()
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise TimeoutError(job.printed())


def send(films: list[Path], port: int) -> list[Path]:
    """Send films, and return those that were not taken."""
    entity = AE("CR1")
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = entity.connection_timeout = 60
    entity.requested_contexts = StoragePresentationContexts[:20]
    association = entity.associate("127.0.0.1", port, ae_title="CXR")
    left = list(films)
    if association.is_established:
        try:
            while left and association.send_c_store(left[0]).get("Status") == 0x0000:
                left.pop(0)
        except RuntimeError:  # it has ended
            pass
        association.release() if association.is_established else association.abort()
    return left


def drawn(place: Path, n: int) -> list[Path]:
    films = sorted((place / "data").rglob("*.dcm"))[:n]
    assert len(films) == n
    return films


def wait_for(what: Any, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not (held := bool(what())) and time.monotonic() < end:
        time.sleep(0.1)
    return held


def test_each_film_has_one_of_each_object_in_the_archive_whatever_kills_the_service(
    place: Path, archive: Archive
) -> None:
    films, port = drawn(place, 20), free_port()
    uids = {str(dcmread(film).SOPInstanceUID) for film in films}
    left = list(films)
    for killed_at in (3, 9, None):
        job = start("serve.py", place, *words(archive, port))
        listens(job, port)
        if killed_at is None:
            assert not send(left, port)
        else:
            left = send(left[:killed_at], port) + left[killed_at:]
            came = len(archive.kept)
            assert wait_for(lambda before=came: len(archive.kept) > before, 240)  # it is in the middle of its work
            job.send_signal(signal.SIGKILL)
            assert job.wait() == -signal.SIGKILL
    assert wait_for(lambda: len(archive.of_films()) == 20 and set(map(len, archive.of_films().values())) == {3}, 240)
    assert "another process is working in this folder" in call("serve.py", place, *words(archive, 0), code=2)
    job.send_signal(signal.SIGTERM)
    assert job.wait() == 0, job.printed()
    assert "20 sent" in job.printed()
    objects = archive.of_films()
    assert set(objects) == uids
    ours = [place / "served", *(place / "served" / "films").iterdir()]
    assert [path for path in ours if stat.S_IMODE(path.stat().st_mode) & 0o077] == []
    for film in films:
        source = dcmread(film)
        assert objects[str(source.SOPInstanceUID)] == Counter(KINDS)
    logged = (place / "served" / "serve.log").read_text(encoding="utf-8") + job.printed()
    assert not [dcmread(film).PatientID for film in films if str(dcmread(film).PatientID) in logged]
    assert not [uid for uid in uids if uid in logged]


def test_films_of_a_study_wait_for_the_rest_and_maps_go_along(place: Path, archive: Archive) -> None:
    films, port = drawn(place, 2), free_port()
    more = ("when=study", "quiet_s=2", "cam=eigencam", "threshold=0.001", "hydra.run.dir=by_study")
    job = start("serve.py", place, *words(archive, port, *more))
    listens(job, port)
    begun = time.monotonic()
    assert not send(films, port)
    assert wait_for(lambda: archive.kept, 240)
    assert time.monotonic() - begun > 2
    assert wait_for(lambda: len(archive.kept) == 8, 240), Counter(
        made.SOPClassUID.name for made in archive.kept.values()
    )
    job.send_signal(signal.SIGTERM)
    assert job.wait() == 0, job.printed()


def test_what_is_typed_wrong_is_said_before_anything_is_restored(place: Path, archive: Archive) -> None:
    for wrong, said in (
        ("allow=[PACS]", "'PACS' is no DICOM node, expected AE@address or AE@address:port"),
        ("to=[OTHER]", "to names 'OTHER', expected a URL or a node of allow with a port: PACS"),
        ("when=day", "when is 'day', expected film or study"),
        ("timeout=0", "timeout is 0, expected a number above 0"),
        ("ae=A\\\\B", "is no AE title"),
        ("allow=[PACS@10.0.0.5:104,PACS@10.0.0.6:104]", "allow has two nodes PACS with a port"),
        ("dicom=null", "dicom=null and http=null: there is no way in for films"),
        ("http=0.0.0.0:8000", "is reached from other machines, so it needs token=FILE"),
        ("tls.key=nowhere.pem", "tls needs both tls.certificate and tls.key"),
    ):
        assert said in call("serve.py", place, *words(archive, 0, wrong, "hydra.run.dir=wrong"), code=2), wrong
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        for key in ("dicom", "http"):
            output = call("serve.py", place, *words(archive, 0, f"{key}={taken}", "hydra.run.dir=wrong"), code=2)
            assert f"{key}={taken} cannot be listened at: Address already in use; type another" in output
