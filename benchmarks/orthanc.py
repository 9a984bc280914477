"""An Orthanc of Debian's package in a folder of its own, and a line to it that can be cut; for serving.py."""

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
from contextlib import suppress
from pathlib import Path
from typing import Any

PROGRAM = shutil.which("Orthanc") or "/usr/sbin/Orthanc"
ROUTE = """
function OnStoredInstance(instance, tags, metadata, origin)
   if origin['RemoteAet'] == 'MODALITY' then SendToModality(instance, 'cxr') end
end
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Orthanc:
    """An archive that sends each film it gets from the AE title MODALITY on to CXR, at ``serve_port``."""

    def __init__(self, folder: Path, serve_port: int) -> None:
        folder.mkdir()
        self.dicom, self.http, self._folder = free_port(), free_port(), folder
        (folder / "route.lua").write_text(ROUTE)
        settings = {
            "Name": "archive", "StorageDirectory": str(folder / "db"), "IndexDirectory": str(folder / "db"),
            "LuaScripts": [str(folder / "route.lua")], "Plugins": [], "HttpPort": self.http, "DicomPort": self.dicom,
            "DicomAet": "ORTHANC", "DicomAlwaysAllowStore": True, "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False, "DicomModalities": {"cxr": ["CXR", "127.0.0.1", serve_port]},
            "OverwriteInstances": False, "StableAge": 2, "JobsHistorySize": 5000, "DicomThreadsCount": 4,
        }  # fmt: skip
        (folder / "orthanc.json").write_text(json.dumps(settings))
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        log = (self._folder / "log").open("ab")
        self.process = subprocess.Popen([PROGRAM, str(self._folder / "orthanc.json")], stdout=log, stderr=log)  # noqa: S603
        end = time.monotonic() + 60
        while time.monotonic() < end:
            with suppress(OSError):
                self.ask("/system")
                return
            time.sleep(0.1)
        raise TimeoutError((self._folder / "log").read_text()[-2000:])

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(60)
            self.process = None

    def ask(self, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.http}{path}", data)
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            content = answer.read()
        return json.loads(content) if answer.headers["Content-Type"].startswith("application/json") else content

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
