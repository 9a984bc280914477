"""The HTTP server itself: its address, TLS, and clients that are slow, silent or many."""

import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from io import BytesIO
from pathlib import Path

import httpx
import pytest
from dicomweb_client import DICOMwebClient
from pydicom import dcmread
from pydicom.uid import CTImageStorage

from cxr.serve.tls import Tls
from cxr.serve.web import Service, build_app
from cxr.serve.web_server import bind, web_server
from web_service import film, limits, service

Serve = Callable[..., AbstractContextManager[tuple[str, Service]]]
PATIENT = 60.0  # seconds that a client may be silent where none is to be cut, and that something is waited for


@pytest.fixture
def serve(tmp_path: Path) -> Serve:
    """Serve a queue in a folder; yields the URL and the service behind it."""

    @contextmanager
    def running(idle: float = PATIENT, body: float = PATIENT, tls: Tls | None = None) -> Iterator[tuple[str, Service]]:
        """``idle``: silence that is allowed before a request; ``body``: within its body."""
        served, listener = service(tmp_path), bind("127.0.0.1:0", None)
        app = build_app(served, None, limits(requests=2, silence=body))
        with web_server(app, listener, limits(requests=2, silence=idle), served.counters, tls) as url:
            yield url, served

    return running


def connect(url: str) -> socket.socket:
    host, _, port = url.partition("://")[2].partition(":")
    connection = socket.create_connection((host, int(port)), timeout=PATIENT)
    connection.settimeout(PATIENT)
    return connection


def counted(served: Service, reason: str) -> int:
    """How often something was refused for this reason, as soon as it was."""
    end = time.monotonic() + PATIENT
    while reason not in served.counters.refusals() and time.monotonic() < end:
        time.sleep(0.01)
    return served.counters.refusals().get(reason, 0)  # type: ignore[call-overload]


def is_closed(connection: socket.socket) -> bool:
    """Whether the other side closes without a word."""
    try:
        return connection.recv(100) == b""
    except ConnectionError:
        return True


def is_well(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=PATIENT).status_code == 200
    except httpx.TransportError:
        return False


def test_a_film_goes_in_over_a_socket_and_nobody_listens_afterwards(serve: Serve) -> None:
    with serve() as (url, _):
        assert httpx.post(f"{url}/films", timeout=PATIENT, content=film()).status_code == 202
        assert httpx.get(f"{url}/health", timeout=PATIENT).json()["well"]
        assert "server" not in httpx.get(f"{url}/health", timeout=PATIENT).headers
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/health", timeout=PATIENT)


def test_a_client_of_archives_stores_films_and_reads_the_answer(serve: Serve, tmp_path: Path) -> None:
    films = [dcmread(BytesIO(content)) for content in (film("one"), film("two"), film("ct", CTImageStorage, "CT"))]
    with serve() as (url, _):
        answer = DICOMwebClient(f"{url}/dicom-web").store_instances(films)
    assert [one.ReferencedSOPInstanceUID for one in answer.ReferencedSOPSequence] == [
        one.SOPInstanceUID for one in films[:2]
    ]
    (failed,) = answer.FailedSOPSequence
    assert (failed.ReferencedSOPInstanceUID, failed.FailureReason) == (films[2].SOPInstanceUID, 0xA900)
    assert len(list((tmp_path / "films").iterdir())) == 2


def test_a_silent_and_a_half_asked_request_end(serve: Serve) -> None:
    with serve(idle=0.2) as (url, served), connect(url) as silent, connect(url) as half:
        with suppress(ConnectionError):  # where this was too slow itself
            half.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-")
        assert is_closed(silent)
        assert is_closed(half)
        assert counted(served, "stalled") == 2


def test_a_body_that_stops_ends_with_408_and_nothing_is_kept(serve: Serve, tmp_path: Path) -> None:
    with serve(body=0.2) as (url, served), connect(url) as slow:
        slow.sendall(b"POST /films HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\n" + film()[:500])
        assert slow.recv(1000).startswith(b"HTTP/1.1 408 ")
        assert counted(served, "stalled") == 1
        assert not list((tmp_path / "films").iterdir())


def test_a_body_that_trickles_in_ends_too(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cxr.serve.doors._WHOLE_BODY", 0.3 / PATIENT)  # never silent, and not done after 0.3 s
    with serve() as (url, _), connect(url) as slow:
        slow.sendall(b"POST /films HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\n")
        begun = time.monotonic()
        slow.settimeout(0.02)
        answer = b""
        while not answer and time.monotonic() < begun + PATIENT:
            slow.sendall(b"x")
            try:
                answer = slow.recv(1000)
            except TimeoutError:
                continue
        assert answer.startswith(b"HTTP/1.1 408 ")


def test_a_body_that_is_announced_too_large_is_refused_before_it_comes(serve: Serve) -> None:
    with serve() as (url, served), connect(url) as large:
        large.sendall(b"POST /films HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 10000000000\r\n\r\n")
        answer = b"".join(iter(lambda: large.recv(1000), b""))  # until the other side closes
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert served.counters.refusals() == {"too_large": 1}


def test_a_body_in_chunks_is_cut_off_at_the_limit(serve: Serve, tmp_path: Path) -> None:
    with serve() as (url, served), connect(url) as large:
        large.sendall(b"POST /films HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n")
        sent = 0
        try:
            while sent < 1000:
                large.sendall(b"10000\r\n" + b"\0" * 2**16 + b"\r\n")
                sent += 1
        except ConnectionError:
            pass
        assert sent < 1000  # of 64 kB, where 1 MB is allowed; the buffers of the system take a few MB
        assert counted(served, "too_large") == 1
        assert not list((tmp_path / "films").iterdir())


def test_what_is_no_http_is_counted(serve: Serve) -> None:
    with serve() as (url, served), connect(url) as other:
        other.sendall(b"\x01\x00\x00\x00\x00\xcd\x00\x01\r\n\r\n")  # an A-ASSOCIATE-RQ at the wrong door
        assert other.recv(1000).startswith(b"HTTP/1.1 400 ")
        assert counted(served, "malformed") == 1


def test_of_many_connections_those_above_the_limit_are_closed(serve: Serve) -> None:
    with serve() as (url, served):
        connections = [connect(url) for _ in range(40)]  # 16 for each of two requests
        try:
            assert counted(served, "busy") >= 1
            assert is_closed(connections[-1])
            connections.pop(0).close()
        finally:
            for connection in connections:
                connection.close()
        end = time.monotonic() + PATIENT
        while not is_well(url) and time.monotonic() < end:  # until the server has noticed that they are closed
            time.sleep(0.02)
        assert is_well(url)


@pytest.mark.parametrize("address", ["8000", "127.0.0.1", "127.0.0.1:none", ":8000", "127.0.0.1:99999"])
def test_an_address_has_a_host_and_a_port(address: str) -> None:
    with pytest.raises(ValueError, match=r"expected HOST:PORT, as 127\.0\.0\.1:8000"):
        bind(address, "0123456789abcdef")


def test_other_machines_are_answered_only_with_a_token() -> None:
    with pytest.raises(ValueError, match="is reached from other machines, so it needs token=FILE"):
        bind("0.0.0.0:0", None)
    bind("0.0.0.0:0", "0123456789abcdef").close()


def test_an_address_that_is_taken_is_named() -> None:
    with bind("127.0.0.1:0", None) as listener:
        taken = f"127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(ValueError, match=f"http={taken} cannot be listened at"):
            bind(taken, None)


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    """A certificate that signed itself: the service's, a client's, and who must have signed both."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=cxr", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    return Tls(certificate, key, certificate)


def test_with_tls_plain_http_and_strangers_are_refused_and_counted(serve: Serve, tls: Tls) -> None:
    known = ssl.create_default_context(cafile=str(tls.certificate))
    with serve(tls=tls) as (url, served):
        assert url.startswith("https://")
        with pytest.raises(httpx.HTTPError):
            httpx.get(url.replace("https", "http") + "/health", timeout=PATIENT)
        assert counted(served, "no_tls") == 1
        with pytest.raises(httpx.HTTPError):
            httpx.get(f"{url}/health", timeout=PATIENT, verify=known)  # without a certificate of its own
        known.load_cert_chain(tls.certificate, tls.key)
        assert httpx.get(f"{url}/health", timeout=PATIENT, verify=known).json()["well"]
        assert served.counters.refusals() == {"no_tls": 2}
