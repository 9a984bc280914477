"""Orthanc with its DICOMweb plugin, as Debian packages them (orthanc, orthanc-dicomweb): an archive for tests."""

import base64
import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PROGRAM = shutil.which("Orthanc") or "/usr/sbin/Orthanc"
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
USER, PASSWORD = "tester", "geheim123"  # of an archive that lives for a test

_WITHOUT_PROXY = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def is_here() -> bool:
    """Return whether Orthanc and its plugin are installed."""
    return Path(PROGRAM).exists() and PLUGIN.exists()


class Orthanc:
    """An archive at work on a port of this machine alone, behind a password.

    Args:
        folder: for its files; one that worked there before had the same films.
        port: of HTTP; None takes a free one.
    """

    def __init__(self, folder: Path, port: int | None = None) -> None:
        self.folder, self.port = folder, port or _free_port()
        self.address = f"dicomweb://127.0.0.1:{self.port}/dicom-web"
        settings = {
            "Name": "test", "StorageDirectory": str(folder / "films"), "IndexDirectory": str(folder / "films"),
            "HttpPort": self.port, "DicomServerEnabled": False, "RemoteAccessAllowed": False,
            "AuthenticationEnabled": True, "RegisteredUsers": {USER: PASSWORD}, "Plugins": [str(PLUGIN)],
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"}, "HttpServerEnabled": True,
        }  # fmt: skip
        folder.mkdir(exist_ok=True)
        (folder / "orthanc.json").write_text(json.dumps(settings))
        (folder / "netrc").write_text(f"machine 127.0.0.1 login {USER} password {PASSWORD}\n")
        (folder / "netrc").chmod(0o600)
        self.log = (folder / "orthanc.log").open("ab")
        command = [PROGRAM, str(folder / "orthanc.json")]
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log, stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while not self._answers():
            assert self.process.poll() is None, (folder / "orthanc.log").read_text(errors="replace")
            assert time.monotonic() < deadline, (folder / "orthanc.log").read_text(errors="replace")
            time.sleep(0.05)

    def ask(self, path: str, body: bytes | None = None, method: str | None = None) -> Any:
        """Return what its own REST interface answers, from JSON."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/{path}", body, method=method)
        word = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        request.add_header("Authorization", f"Basic {word}")
        with _WITHOUT_PROXY.open(request, timeout=10) as answer:
            return json.loads(answer.read() or b"null")

    def store(self, film: Path) -> str:
        """Put a DICOM file into the archive, and return its name there."""
        return str(self.ask("instances", film.read_bytes())["ID"])

    def stop(self) -> None:
        """End it; its films stay in the folder."""
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)
        self.log.close()

    def _answers(self) -> bool:
        try:
            self.ask("system")
        except (urllib.error.URLError, ConnectionError):
            return False
        return True


@contextmanager
def orthanc(folder: Path) -> Iterator[Orthanc]:
    """Have an archive at work in the block."""
    archive = Orthanc(folder)
    try:
        yield archive
    finally:
        archive.stop()


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
