"""The files of ``deploy/`` as far as they can be tried without a container: none is built here.

The commands of the Dockerfile run in a clean environment. The packages that they would fetch (7 GB) are lent by a
``.pth`` file, as in tests/test_wheel.py.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any
from venv import EnvBuilder

import httpx
import pytest
import yaml
from pynetdicom import AE, AllStoragePresentationContexts, evt

from scripts import ROOT
from web_service import film

DEPLOY = ROOT / "deploy"
ORTHANC = shutil.which("Orthanc")


def dockerfile() -> list[tuple[str, str]]:
    """The steps of the Dockerfile: the word of each, and what stands behind it."""
    lines = (DEPLOY / "Dockerfile").read_text(encoding="utf-8").splitlines()
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines if line and line[0] != "#")]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean environment in which the Dockerfile's commands for Python have run: its variables, with its PATH."""
    place, folder = tmp_path_factory.mktemp("build"), tmp_path_factory.mktemp("environment")
    EnvBuilder(with_pip=False, symlinks=True).create(folder)
    purelib = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
    (purelib / "lent.pth").write_text("\n".join(path for path in sys.path if path.endswith("-packages")))
    for name in build_context():
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, place / name)
    plain = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    plain |= {"PATH": f"{folder / 'bin'}:{plain['PATH']}", "HOME": str(place), "OMP_NUM_THREADS": "1"}
    # no network: nothing is fetched, and what is lent does not count as installed
    offline = {"PIP_NO_INDEX": "1", "PIP_NO_DEPS": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_IGNORE_INSTALLED": "1"}
    for word, command in dockerfile():
        if word == "RUN" and command.startswith("python"):
            call = ["sh", "-c", command]
            done = subprocess.run(call, cwd=place, env=plain | offline, capture_output=True, text=True, timeout=300)
            assert done.returncode == 0, done.stdout + done.stderr
    return plain


def build_context() -> list[str]:
    """What a build is given of the clone."""
    lines = (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "*"
    return [line[1:] for line in lines if line.startswith("!")]


@pytest.mark.slow
def test_the_commands_of_the_dockerfile_leave_a_service_that_is_well(
    environment: dict[str, str], learned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with capsys.disabled():
        print("\nno container is built here: the Dockerfile's commands have run in a clean environment")
    steps, port = dict(dockerfile()), free_port()
    words = [
        f"ckpt={learned / 'run/checkpoints/best.ckpt'}",
        "dicom=null",
        f"http=127.0.0.1:{port}",
        "hydra.run.dir=queue",
    ]
    check = json.loads(steps["HEALTHCHECK"].partition("CMD ")[2])
    assert ":8000/" in check[-1]
    check[-1] = check[-1].replace(":8000/", f":{port}/")
    with (tmp_path / "log").open("w+") as log:
        service = subprocess.Popen(
            [*json.loads(steps["ENTRYPOINT"]), *words], cwd=tmp_path, env=environment, stdout=log, stderr=log
        )
        try:
            end = time.monotonic() + 240
            while subprocess.run(check, env=environment, capture_output=True).returncode:
                assert service.poll() is None, (tmp_path / "log").read_text()
                assert time.monotonic() < end, (tmp_path / "log").read_text()
                time.sleep(0.5)
        finally:
            service.send_signal(signal.Signals[steps["STOPSIGNAL"]])
            code = service.wait(120)
    assert code == 0, (tmp_path / "log").read_text()


def test_the_compose_file_gives_the_service_what_it_needs_and_no_more() -> None:
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))["services"]
    ours = services["cxr"]
    assert (ours["build"]["context"], ours["build"]["dockerfile"]) == ("..", "deploy/Dockerfile")
    assert {"ports", "volumes", "secrets"} <= set(ours)
    assert ours["read_only"]
    assert ours["cap_drop"] == ["ALL"]
    words = dict(word.split("=", 1) for word in ours["command"])
    assert words["token"].removeprefix("/run/secrets/") in ours["secrets"]
    orthanc = json.loads((DEPLOY / "orthanc.json").read_text(encoding="utf-8"))
    title, host, port = orthanc["DicomModalities"]["cxr"]
    assert title == words["ae"]
    assert host in services
    assert words["dicom"].endswith(f":{port}")
    assert words["allow"] == f"[{orthanc['DicomAet']}@orthanc:{orthanc['DicomPort']}]"
    for one in services.values():
        for mount in one["volumes"]:
            source = mount.split(":")[0]
            assert not source.startswith("./") or source == "./model" or (DEPLOY / source).is_file()


def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("needs systemd-analyze: apt-get install systemd")
    unit = (DEPLOY / "cxr-serve.service").read_text(encoding="utf-8")
    (tmp_path / "cxr-serve.service").write_text(unit.replace("/opt/cxr/bin/cxr", sys.executable))  # it must exist
    done = subprocess.run(
        [analyze, "verify", tmp_path / "cxr-serve.service"], capture_output=True, text=True, timeout=120
    )
    said = [line for line in done.stderr.splitlines() if "cxr-serve" in line]
    assert (done.returncode, said) == (0, []), done.stderr


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """Orthanc with the files of ``deploy/``, and a node in place of the service that keeps what it is sent."""
    if ORTHANC is None:
        pytest.skip("needs Orthanc: apt-get install orthanc")
    received: list[str] = []
    come = Event()

    def store(event: evt.Event) -> int:
        received.append(event.dataset.SOPInstanceUID)
        come.set()
        return 0x0000

    node = AE("CXR")
    node.supported_contexts = AllStoragePresentationContexts
    server = node.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
    settings = json.loads((DEPLOY / "orthanc.json").read_text(encoding="utf-8"))
    dicom, http, (title, _, _) = free_port(), free_port(), settings["DicomModalities"]["cxr"]
    settings |= {"StorageDirectory": str(tmp_path / "db"), "IndexDirectory": str(tmp_path / "db"), "DicomPort": dicom,
                 "HttpPort": http, "LuaScripts": [str(DEPLOY / "route.lua")], "RemoteAccessAllowed": False,
                 "DicomModalities": {"cxr": [title, "127.0.0.1", server.socket.getsockname()[1]]}}  # fmt: skip
    (tmp_path / "orthanc.json").write_text(json.dumps(settings), encoding="utf-8")
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen([ORTHANC, tmp_path / "orthanc.json"], stdout=log, stderr=log, cwd=tmp_path)
        ((user, password),) = settings["RegisteredUsers"].items()
        web = httpx.Client(base_url=f"http://127.0.0.1:{http}", auth=(user, password))
        try:
            _wait_for(web, process, tmp_path / "log")
            yield {"web": web, "dicom": dicom, "received": received, "come": come}
        finally:
            web.close()
            process.terminate()
            process.wait(30)
            server.shutdown()


def _wait_for(web: httpx.Client, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < end:
        try:
            if web.get("/system").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise AssertionError(log.read_text())


@pytest.mark.slow
def test_orthanc_sends_films_on_and_not_what_came_from_the_service(archive: dict[str, Any]) -> None:
    from io import BytesIO

    from pydicom import dcmread

    def send(title: str, name: str, **changes: str) -> str:
        dataset = dcmread(BytesIO(film(name, **changes)))
        caller = AE(title)
        caller.add_requested_context(dataset.SOPClassUID, dataset.file_meta.TransferSyntaxUID)
        association = caller.associate("127.0.0.1", archive["dicom"], ae_title="ORTHANC")
        assert association.is_established
        assert association.send_c_store(dataset).Status == 0
        association.release()
        return str(dataset.SOPInstanceUID)

    send("CXR", "ours")  # what the service itself has sent
    send("CT1", "slice", Modality="CT")
    sent = send("CR1", "film")
    assert archive["come"].wait(120)
    time.sleep(1)
    assert archive["received"] == [sent]
