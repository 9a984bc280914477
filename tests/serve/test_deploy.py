"""The files of ``deploy/`` as far as they can be tried without a container: none is built here.

The commands of the Dockerfile are run in a clean environment. The packages that they would fetch (7 GB) are lent by a
``.pth`` file, as in tests/test_wheel.py.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from venv import EnvBuilder

import pytest

from scripts import ROOT

DEPLOY = ROOT / "deploy"


def dockerfile() -> list[tuple[str, str]]:
    """The steps of the Dockerfile: its word and what stands behind it, continued lines joined."""
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines)]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ``bin`` of a clean environment in which the Dockerfile's commands for Python have run."""
    place = tmp_path_factory.mktemp("build")
    folder = tmp_path_factory.mktemp("environment")
    EnvBuilder(with_pip=True, symlinks=True).create(folder)
    purelib = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
    (purelib / "lent.pth").write_text("\n".join(path for path in sys.path if path.endswith("-packages")))
    for name in ignored_by_nobody():
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, place / name)
    offline = {"PIP_NO_INDEX": "1", "PIP_NO_DEPS": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_IGNORE_INSTALLED": "1"}
    plain = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    known = plain | offline | {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}
    for word, command in dockerfile():
        if word == "RUN" and command.startswith("python"):
            done = subprocess.run(
                ["sh", "-c", command], cwd=place, env=known, capture_output=True, text=True, timeout=300
            )
            assert done.returncode == 0, done.stdout + done.stderr
    return folder / "bin"


def ignored_by_nobody() -> list[str]:
    """What the Dockerfile's build is given of the clone."""
    lines = (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "*"
    return [line[1:] for line in lines if line.startswith("!")]


@pytest.mark.slow
def test_the_commands_of_the_dockerfile_leave_a_service_that_is_well(
    environment: Path, learned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if shutil.which("docker") is None or subprocess.run(["docker", "info"], capture_output=True).returncode:
        with capsys.disabled():
            print("\nno container is built: the Dockerfile's commands run in a clean environment")
    steps = dict(dockerfile())
    entry = json.loads(steps["ENTRYPOINT"])
    words = [f"ckpt={learned / 'run/checkpoints/best.ckpt'}", "dicom=null", "http=127.0.0.1:0", "hydra.run.dir=queue"]
    plain = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [environment / entry[0], *entry[1:], *words], cwd=tmp_path, env=plain, stdout=log, stderr=log
        )
    try:
        url = _url(tmp_path / "log", process)
        check = shlex.split(steps["HEALTHCHECK"].partition("CMD ")[2])
        ours = json.loads(steps["HEALTHCHECK"].partition("CMD ")[2])
        assert check
        ours[-1] = ours[-1].replace("http://127.0.0.1:8000", url)
        done = subprocess.run([environment / ours[0], *ours[1:]], env=plain, capture_output=True, text=True, timeout=30)
        assert done.returncode == 0, done.stderr
    finally:
        process.send_signal(getattr(__import__("signal"), steps["STOPSIGNAL"]))
        assert process.wait(60) == 0, (tmp_path / "log").read_text()
