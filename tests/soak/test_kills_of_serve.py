"""kill -9 at random moments of serve.py: each film that it took has each of its objects in the archive, once."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import generate_uid

pytest.importorskip("pynetdicom", reason="the extra is not installed: pip install 'cxr[serve]'")

from cxr.serve.queue import Queue, State
from scripts import start
from soak.kills import killed_after
from soak.sizes import KILLS, SECONDS, chance_of, tell
from test_serve import KINDS, Archive, free_port, listens, send, wait_for, words

pytestmark = pytest.mark.soak


@pytest.fixture
def archive() -> Iterator[Archive]:
    archive = Archive()
    yield archive
    archive.server.shutdown()
    archive.server.server_close()


def copies(place: Path) -> Iterator[Path]:
    """Yield the films of ``place`` again and again, each under a UID of its own."""
    films = sorted((place / "data").rglob("*.dcm"))
    (place / "copies").mkdir()
    while True:
        for film in films:
            copy = dcmread(film)
            copy.SOPInstanceUID = copy.file_meta.MediaStorageSOPInstanceUID = generate_uid()
            path = place / "copies" / f"{copy.SOPInstanceUID}.dcm"
            copy.save_as(path)
            yield path


def by_the_clock(pid: int) -> float:
    """Return the time: a service that waits has no processor."""
    return time.monotonic()


def test_whatever_kills_the_service_nothing_is_lost_or_doubled(place: Path, archive: Archive) -> None:
    chance, port, source = chance_of("serve"), free_port(), copies(place)
    taken: set[str] = set()
    left: list[Path] = []
    kills, until = 0, time.monotonic() + SECONDS
    while kills < KILLS and time.monotonic() < until:
        job = start("serve.py", place, *words(archive, port))
        if chance.random() < 0.2:  # while it starts
            assert killed_after(job, chance.uniform(0, 4), True, by_the_clock), job.printed()
        else:
            listens(job, port)
            given = left + [next(source) for _ in range(chance.choice([1, 2, 4, 16]))]
            left = send(given, port)
            taken |= {path.stem for path in given if path not in left}
            assert killed_after(job, chance.uniform(0, 3), chance.random() < 0.5, by_the_clock), job.printed()
        kills += 1
    job = start("serve.py", place, *words(archive, port))
    listens(job, port)
    taken |= {path.stem for path in left}
    assert not send(left, port)
    whole = wait_for(lambda: len(archive.kept) >= len(KINDS) * len(taken), 300)
    job.send_signal(15)
    assert job.wait() == 0, job.printed()
    objects = archive.of_films()
    wrong = [uid for uid in taken | objects.keys() if objects.get(uid) != Counter(KINDS)]
    with closing(Queue(place / "served")) as queue:
        counts = queue.counts()
    twice = sum(archive.came.values()) - len(archive.kept)
    tell("kill -9 of serve", kills=kills, films=len(taken), wrong=len(wrong), came_again=twice, whole=whole)
    assert not wrong
    assert counts == {**dict.fromkeys(State, 0), State.SENT: len(taken)}
