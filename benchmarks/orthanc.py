"""An Orthanc of Debian's package in a folder of its own, and a line to it that can be cut; for serving.py and tests."""

import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

PROGRAM = shutil.which("Orthanc") or "/usr/sbin/Orthanc"
_WITHOUT_PROXY = urllib.request.build_opener(urllib.request.ProxyHandler({}))
ROUTE = """
function OnStoredInstance(instance, tags, metadata, origin)
   if origin['RemoteAet'] == 'MODALITY' then SendToModality(instance, 'cxr') end
end
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """An Orthanc of Debian's package at work in a folder of its own, for this machine alone.

    Args:
        folder: for its files; one that worked there before had the same films.
        http: port of its REST interface.
        settings: what else it is set to.
        login: user and password that it asks for.
    """

    def __init__(
        self, folder: Path, http: int, settings: Mapping[str, Any], login: tuple[str, str] | None = None
    ) -> None:
        folder.mkdir(exist_ok=True)
        self.folder, self.http, self._login = folder, http, login
        all_settings = {
            "StorageDirectory": str(folder / "db"), "IndexDirectory": str(folder / "db"), "HttpPort": http,
            "RemoteAccessAllowed": False, "AuthenticationEnabled": login is not None,
            "RegisteredUsers": dict([login] if login else []), **settings,
        }  # fmt: skip
        (folder / "orthanc.json").write_text(json.dumps(all_settings))
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Begin, and return when it answers."""
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen([PROGRAM, str(self.folder / "orthanc.json")], stdout=log, stderr=log)  # noqa: S603
        end = time.monotonic() + 60
        while self.process.poll() is None and time.monotonic() < end:
            with suppress(OSError):
                self.ask("system")
                return
            time.sleep(0.1)
        raise TimeoutError((self.folder / "log").read_text(errors="replace")[-2000:])

    def stop(self) -> None:
        """End it; its films stay in the folder."""
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process = None

    def ask(self, path: str, body: Any = None, method: str | None = None) -> Any:
        """Return what its REST interface answers: from JSON, or bytes. ``body`` is bytes, or what is sent as JSON."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.http}/{path.lstrip('/')}", data, method=method)
        if self._login is not None:
            word = base64.b64encode(":".join(self._login).encode()).decode()
            request.add_header("Authorization", f"Basic {word}")
        with _WITHOUT_PROXY.open(request, timeout=30) as answer:
            content = answer.read()
        return json.loads(content) if answer.headers["Content-Type"].startswith("application/json") else content


class Orthanc(Server):
    """An archive that sends each film it gets from the AE title MODALITY on to CXR, at ``serve_port``."""

    def __init__(self, folder: Path, serve_port: int) -> None:
        self.dicom = free_port()
        settings = {
            "Name": "archive", "LuaScripts": [str(folder / "route.lua")], "Plugins": [], "DicomPort": self.dicom,
            "DicomAet": "ORTHANC", "DicomAlwaysAllowStore": True, "OverwriteInstances": False, "StableAge": 2,
            "DicomModalities": {"cxr": ["CXR", "127.0.0.1", serve_port]}, "JobsHistorySize": 5000,
            "DicomThreadsCount": 4,
        }  # fmt: skip
        super().__init__(folder, free_port(), settings)
        (folder / "route.lua").write_text(ROUTE)

    def route_again(self) -> int:
        """Submit again what could not be sent on; return how many jobs are not done."""
        left = 0
        for job in self.ask("/jobs?expand"):
            if job["State"] == "Failure":
                with suppress(urllib.error.HTTPError):
                    self.ask(f"/jobs/{job['ID']}/resubmit", "")
            left += job["State"] != "Success"
        return left


class Line:
    """A TCP line to a port, in a process of its own that can be stopped: then nothing comes through, or is refused."""

    def __init__(self, to: int) -> None:
        self.port = free_port()
        self.process = subprocess.Popen([sys.executable, __file__, str(self.port), str(to)])  # noqa: S603
        end = time.monotonic() + 20
        while time.monotonic() < end:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise TimeoutError("the line does not stand")

    def cut(self, seconds: float) -> None:
        os.kill(self.process.pid, signal.SIGSTOP)
        time.sleep(seconds)
        os.kill(self.process.pid, signal.SIGCONT)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


def carry(port: int, to: int) -> None:
    """Carry bytes between each connection to ``port`` and one to ``to``."""
    with socket.create_server(("127.0.0.1", port), backlog=64) as server:
        while True:
            near, _ = server.accept()
            try:
                far = socket.create_connection(("127.0.0.1", to), 5)
            except OSError:
                near.close()
                continue
            for source, target in ((near, far), (far, near)):
                source.settimeout(None)
                source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else each answer waits 40 ms
                threading.Thread(target=pump, args=(source, target), daemon=True).start()


def pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    for end in (source, target):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


if __name__ == "__main__":
    carry(int(sys.argv[1]), int(sys.argv[2]))
