"""Objects are brought until an archive has taken them, whatever it answers."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from cxr.serve.archive import DAMAGED, Archive, Pledge, Stored
from cxr.serve.counters import Counters
from cxr.serve.delivery import Delivery
from cxr.serve.queue import NewFilm, Queue, State

PATIENT = 60.0  # seconds


class Fake:
    """An archive that answers as it is told, and keeps what it was offered."""

    name = "PACS"

    def __init__(self, *answers: Callable[[int, Pledge], Stored]) -> None:
        self.answers, self.offered, self.times = list(answers), list[list[str]](), list[float]()

    def store(self, files: Sequence[Path], pledge: Pledge) -> Stored:
        self.offered.append([path.name for path in files])
        self.times.append(time.monotonic())
        return self.answers.pop(0)(len(files), pledge) if self.answers else Stored([""] * len(files))


def delivered(folder: Path, archive: Archive, until: Callable[[Queue], bool], queue: Queue | None = None) -> Queue:
    """Bring two objects of one film until something holds."""
    if queue is None:
        queue = Queue(folder)
        queue.add(NewFilm("p1", "p0", "d", "s", "PACS@127.0.0.1"))
        queue.has_assessed(1, ["a.dcm", "b.dcm"], [archive.name])
    delivery = Delivery(queue, folder, archive, Counters())
    delivery.start()
    with queue.changed:
        assert queue.changed.wait_for(lambda: until(queue), PATIENT)
    delivery.finish(time.monotonic() + PATIENT)
    assert not delivery.alive()
    return queue


def is_sent(queue: Queue) -> bool:
    return queue.get(1).state is State.SENT


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("sends", "delivery"):
        monkeypatch.setattr(f"cxr.serve.{module}.pause", lambda tries: 0.03 * 2**tries)
    monkeypatch.setattr("cxr.serve.delivery._LOOK", 0.005)


def test_an_archive_that_cannot_be_reached_is_tried_again_with_growing_pauses(tmp_path: Path) -> None:
    fake = Fake(GONE, GONE, GONE)
    queue = delivered(tmp_path, fake, is_sent)
    assert fake.offered == [["a.dcm", "b.dcm"]] * 4
    pauses = [after - before for before, after in zip(fake.times, fake.times[1:], strict=False)]
    for longest, waited in zip((0.06, 0.12, 0.24), pauses, strict=True):
        assert waited >= longest
    assert queue.get(1).reason == ""


def test_an_error_of_the_program_makes_pauses_too(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def fails(n: int, pledge: Pledge) -> Stored:
        raise RuntimeError("Lin^Yu-Ting")

    fake = Fake(fails, fails)
    delivered(tmp_path, fake, is_sent)
    pauses = [after - before for before, after in zip(fake.times, fake.times[1:], strict=False)]
    for longest, waited in zip((0.06, 0.12), pauses, strict=True):
        assert waited >= longest
    assert "objects for PACS wait: RuntimeError in test_delivery.py" in caplog.text
    assert "Lin" not in caplog.text


GONE: Callable[[int, Pledge], Stored] = lambda n, pledge: Stored(broken="cannot be reached")  # noqa: E731


def test_who_asks_need_not_wait_for_the_pause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cxr.serve.delivery.pause", lambda tries: 1000.0)
    fake = Fake(GONE)
    queue = delivered(tmp_path, fake, lambda queue: queue.get(1).tries == 1)
    queue.retry(1)
    fake.answers.append(GONE)
    delivery = Delivery(queue, tmp_path, fake, Counters())
    delivery._failures, delivery._failed = 1, queue.asked - 1
    delivery.start()
    with queue.changed:
        assert queue.changed.wait_for(lambda: len(fake.offered) == 2, PATIENT)
    queue.retry(1)
    with queue.changed:
        assert queue.changed.wait_for(lambda: is_sent(queue), PATIENT)
    delivery.finish(time.monotonic() + PATIENT)


def test_objects_of_an_archive_that_is_back_do_not_wait_for_pauses_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cxr.serve.sends.pause", lambda tries: 500.0)
    fake = Fake(GONE)
    delivered(tmp_path, fake, is_sent)
    assert len(fake.offered) == 2


def test_a_delivery_that_is_to_end_brings_what_is_due(tmp_path: Path) -> None:
    queue, fake = Queue(tmp_path), Fake()
    queue.add(NewFilm("p1", "p0", "d", "s", "PACS@127.0.0.1"))
    queue.has_assessed(1, [f"{n}.dcm" for n in range(60)], ["PACS"])  # 24 at once
    delivery = Delivery(queue, tmp_path, fake, Counters())
    delivery._last.set()
    delivery.start()
    delivery.finish(time.monotonic() + PATIENT)
    assert is_sent(queue)
    assert [len(some) for some in fake.offered] == [24, 24, 12]


def test_what_nobody_commits_himself_to_is_taken_after_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cxr.serve.delivery._COMMITMENT", 0.1)

    def pledged(n: int, pledge: Pledge) -> Stored:
        pledge("2.25.1", range(n))
        return Stored([""] * n, pledged=True)

    delivered(tmp_path, Fake(pledged), is_sent)


def test_what_became_of_objects_is_counted(tmp_path: Path) -> None:
    queue, counters = Queue(tmp_path), Counters()
    queue.add(NewFilm("p1", "p0", "d", "s", "PACS@127.0.0.1"))
    queue.has_assessed(1, ["a.dcm", "b.dcm"], ["PACS"])
    fake = Fake(GONE, lambda n, pledge: Stored(["", "refused with status 0xA700"]))
    delivery = Delivery(queue, tmp_path, fake, counters)
    delivery.start()
    with queue.changed:
        assert queue.changed.wait_for(lambda: is_sent(queue), PATIENT)
    delivery.finish(time.monotonic() + PATIENT)
    counted = {
        outcome: counters.registry.get_sample_value("cxr_deliveries_total", {"outcome": outcome})
        for outcome in ("taken", "refused", "unreachable")
    }
    assert counted == {"taken": 2, "refused": 1, "unreachable": 2}


def test_only_what_was_refused_is_offered_again(tmp_path: Path) -> None:
    fake = Fake(lambda n, pledge: Stored(["", "refused with status 0xA700"]))
    delivered(tmp_path, fake, is_sent)
    assert fake.offered == [["a.dcm", "b.dcm"], ["b.dcm"]]


def test_a_film_whose_object_is_damaged_is_detected_again(tmp_path: Path) -> None:
    fake = Fake(lambda n, pledge: Stored(["", DAMAGED]))
    queue = delivered(tmp_path, fake, lambda queue: queue.get(1).state is State.RECEIVED)
    queue.has_assessed(1, ["a.dcm", "b.dcm"], ["PACS"])
    delivered(tmp_path, fake, is_sent, queue)
    assert fake.offered == [["a.dcm", "b.dcm"], ["b.dcm"]]


def test_what_is_pledged_is_sent_when_the_archive_has_committed_itself(tmp_path: Path) -> None:
    from cxr.serve.sends import Sends

    def pledged(n: int, pledge: Pledge) -> Stored:
        pledge("2.25.1", range(n))
        return Stored([""] * n, pledged=True)

    fake = Fake(pledged)
    queue = delivered(tmp_path, fake, lambda queue: queue.read("SELECT 1 FROM sends WHERE stored IS NOT NULL") != [])
    assert queue.get(1).state is State.ASSESSED
    assert Sends(queue, "PACS").committed("2.25.1", whole=True)
    assert is_sent(queue)


def test_an_archive_that_refuses_to_commit_itself_has_taken_what_it_stored(tmp_path: Path) -> None:
    def refuses(n: int, pledge: Pledge) -> Stored:
        pledge("2.25.1", range(n))
        return Stored([""] * n, pledged=False)

    delivered(tmp_path, Fake(refuses), is_sent)
