"""End to end: films whose decoder brings its process down. They are named, and every command goes on."""

import json
import shutil
import signal
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from pydicom import dcmread

pytest.importorskip("pynetdicom", reason="the extra is not installed: pip install 'cxr[serve]'")

from scripts import Job, start
from test_serve import KINDS, Archive, free_port, listens, send, wait_for, words

pytestmark = pytest.mark.slow

CKPT = "ckpt=run/checkpoints/best.ckpt"
DEATH = """
import os, pathlib, signal
read = pathlib.Path.read_bytes
def read_bytes(path):
    data = read(path)
    if b"KILLING FILM" in data[:4000]:
        os.kill(os.getpid(), signal.SIGSEGV)  # as a fault in a library of C ends it
    return data
pathlib.Path.read_bytes = read_bytes
"""


@pytest.fixture(scope="module")
def films(place: Path) -> Path:
    """A folder with a sound film, one that kills whatever process reads it, and another sound one."""
    (place / "site").mkdir()
    (place / "site" / "sitecustomize.py").write_text(DEATH)  # for the processes of a pool
    (place / "some").mkdir()
    for n, film in enumerate(sorted((place / "data").rglob("*.dcm"))[:3]):
        shutil.copy(film, place / "some" / f"{n}.dcm")
    killing = dcmread(place / "some" / "1.dcm")
    killing.PatientComments = "KILLING FILM"
    killing.save_as(place / "some" / "1.dcm")
    return place / "some"


def predict(place: Path) -> Job:
    more = ("images=some", "hydra.run.dir=predicted")
    return start("predict.py", place, CKPT, *more, before=DEATH, PYTHONPATH=str(place / "site"))


def test_the_same_command_names_the_film_that_has_killed_it(place: Path, films: Path) -> None:
    first = predict(place)
    assert first.wait() == -signal.SIGSEGV  # few films are read in the process itself
    again = predict(place)
    assert again.wait() == 0, again.printed()
    assert "some/1.dcm: reading it kills the process" in again.printed()
    result = json.loads((place / "predicted" / "result.json").read_text(encoding="utf-8"))
    assert (result["films"], result["failed"]) == (2, 1)


@pytest.fixture
def archive() -> Iterator[Archive]:
    archive = Archive()
    yield archive
    archive.server.shutdown()
    archive.server.server_close()


@pytest.mark.parametrize("workers", [1, 2])
def test_the_service_goes_on_after_a_film_that_kills_its_decoder(
    place: Path, films: Path, archive: Archive, workers: int
) -> None:
    port, run = free_port(), place / f"served_{workers}"
    command = [*words(archive, port, f"workers={workers}")[:-2], f"hydra.run.dir={run}", f"workers={workers}"]

    def serve() -> Job:
        job = start("serve.py", place, *command, before=DEATH, PYTHONPATH=str(place / "site"))
        listens(job, port)
        return job

    job = serve()
    send(sorted(films.iterdir()), port)
    if workers == 1:  # there is no other process to read in; systemd begins the service again
        assert job.wait(60) == -signal.SIGSEGV
        job = serve()
        send(sorted(films.iterdir()), port)  # those that did not come through
    assert wait_for(lambda: len(archive.kept) == 2 * len(KINDS), 60), job.printed()
    assert job.poll() is None
    job.send_signal(signal.SIGTERM)
    assert job.wait() == 0, job.printed()
    with closing(sqlite3.connect(run / "queue.sqlite")) as rows:
        states = Counter(state for (state,) in rows.execute("SELECT state FROM films"))
        (reason,) = rows.execute("SELECT reason FROM films WHERE state = 'failed'").fetchone()
    assert states == {"sent": 2, "failed": 1}
    assert reason.startswith("the film: reading it kills the process")
