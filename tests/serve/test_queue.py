"""The queue: what stands in it after whatever has ended the process, and what has still to go where."""

import os
import signal
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from cxr.serve.queue import DuplicateFilm, NewFilm, Queue, State
from cxr.serve.sends import Sends, leave_out, pause

ANSWER = {"prediction": None, "not_assessed": None}


def film(sop: str = "s1", digest: str = "d1", study: str = "p1") -> NewFilm:
    return NewFilm(study, "p0", digest, sop, "PACS@127.0.0.1")


def test_a_film_goes_from_received_to_sent_and_is_named_by_pseudonyms(tmp_path: Path) -> None:
    queue = Queue(tmp_path)
    added = queue.add(film())
    assert (added.number, added.name, added.state, added.tries) == (1, "p1-1", State.RECEIVED, 0)
    queue.has_read(1, ANSWER)
    assert (queue.get(1).state, queue.get(1).answer) == (State.READ, ANSWER)
    queue.has_assessed(1, ["a-sr.dcm", "a-sc.dcm"], ["PACS", "VNA"])
    pacs, vna = Sends(queue, "PACS"), Sends(queue, "VNA")
    pacs.taken(pacs.due(time.time(), 9))
    assert queue.get(1).state is State.ASSESSED  # the other has taken nothing yet
    assert [send.object for send in vna.due(time.time(), 9)] == ["a-sc.dcm", "a-sr.dcm"]
    vna.taken(vna.due(time.time(), 9)[:1])
    assert queue.get(1).state is State.ASSESSED
    vna.taken(vna.due(time.time(), 9))
    done = queue.get(1)
    assert done.state is State.SENT
    times = (done.received, done.read, done.assessed, done.sent)
    assert None not in times
    assert list(times) == sorted(t for t in times if t)
    assert queue.counts() == {state: int(state is State.SENT) for state in State}


def test_a_film_that_goes_nowhere_is_sent_once_it_is_assessed(tmp_path: Path) -> None:
    queue = Queue(tmp_path)
    queue.add(film())
    queue.has_assessed(1, ["a-sr.dcm"], [])
    assert queue.get(1).state is State.SENT


def test_the_same_film_has_one_row_and_another_one_under_its_uid_is_refused(tmp_path: Path) -> None:
    queue = Queue(tmp_path)
    assert queue.add(film()) == queue.add(film())
    with pytest.raises(DuplicateFilm, match="as film 1"):
        queue.add(film(digest="d2"))
    assert queue.add(film(sop="s2", digest="d2")).number == 2


def test_a_film_that_has_failed_is_done_again_when_it_comes_again_or_somebody_asks(tmp_path: Path) -> None:
    queue = Queue(tmp_path)
    for ask in (lambda: queue.add(film()), lambda: queue.retry(1)):
        queue.add(film())
        queue.give_up(1, "the codestream is cut off")
        assert [failed.reason for failed in queue.failures()] == ["the codestream is cut off"]
        assert queue.waiting(State.RECEIVED, time.time(), 9) == []
        ask()
        assert [waiting.number for waiting in queue.waiting(State.RECEIVED, time.time(), 9)] == [1]
        assert queue.get(1).reason == ""


def test_a_film_that_is_put_off_waits_for_its_time(tmp_path: Path) -> None:
    queue = Queue(tmp_path)
    queue.add(film())
    queue.has_read(1, ANSWER)
    queue.put_off(1, time.time() + 60, "put off")
    assert queue.waiting(State.RECEIVED, time.time(), 9) == []
    (later,) = queue.waiting(State.RECEIVED, time.time() + 61, 9)
    assert (later.tries, later.answer) == (1, None)
    queue.retry(1)
    assert len(queue.waiting(State.RECEIVED, time.time(), 9)) == 1


def test_films_of_a_study_wait_until_no_other_has_come_for_a_while(tmp_path: Path) -> None:
    queue = Queue(tmp_path)
    queue.add(film("s1", "d1", "p1"))
    queue.add(film("s2", "d2", "p2"))
    queue.add(film("s3", "d3", "p1"))
    with queue.written() as rows:  # film 1 is old; the other of its study has just come
        rows.execute("UPDATE films SET received = received - 100 WHERE number IN (1, 2)")
    assert [one.number for one in queue.waiting(State.RECEIVED, time.time(), 9, quiet=30)] == [2]
    assert [one.number for one in queue.waiting(State.RECEIVED, time.time() + 40, 9, quiet=30)] == [1, 2, 3]


def test_pauses_grow_from_two_seconds_to_ten_minutes() -> None:
    assert [pause(tries) for tries in (0, 1, 2, 3, 9, 10, 10**6)] == [2, 2, 4, 8, 512, 600, 600]


def test_an_object_that_is_refused_waits_longer_each_time_and_the_film_says_why(tmp_path: Path) -> None:
    queue = Queue(tmp_path)
    queue.add(film())
    queue.has_assessed(1, ["a-sr.dcm"], ["PACS"])
    sends = Sends(queue, "PACS")
    for tries in (0, 1):
        (due,) = sends.due(time.time() + 1000, 9)
        assert due.tries == tries
        before = time.time()
        sends.refused([due], "refused Comprehensive SR Storage with status 0xA700")
    assert sends.due(before + 3.9, 9) == []
    assert len(sends.due(time.time() + 4, 9)) == 1
    assert queue.failures()[0].reason == "PACS: refused Comprehensive SR Storage with status 0xA700"
    queue.retry(1)
    assert len(sends.due(time.time(), 9)) == 1


def test_what_an_archive_commits_itself_to_is_taken_and_what_not_is_offered_again(tmp_path: Path) -> None:
    queue = Queue(tmp_path)
    queue.add(film())
    queue.has_assessed(1, ["a-sc.dcm", "a-sr.dcm"], ["PACS"])
    sends = Sends(queue, "PACS")
    sends.pledged(sends.due(time.time(), 9), "2.25.7")
    assert sends.due(time.time(), 9) == []  # stored there, and nothing more to offer
    assert queue.get(1).state is State.ASSESSED
    assert not Sends(queue, "OTHER").committed("2.25.7", whole=True)  # it was not asked
    assert sends.committed("2.25.7", whole=False)
    sends.pledged(sends.due(time.time() + 3, 9), "2.25.8")
    assert len(sends.without_commitment(1, time.time() + 3)) == 2
    assert sends.committed("2.25.8", whole=True)
    assert queue.get(1).state is State.SENT
    assert not sends.committed("2.25.8", whole=True)


def test_only_old_films_that_are_done_with_may_leave(tmp_path: Path) -> None:
    queue = Queue(tmp_path)
    for n in range(4):
        queue.add(film(f"s{n}", f"d{n}"))
    queue.has_assessed(2, ["a"], [])
    queue.has_assessed(3, ["a"], ["PACS"])  # has still to be sent
    queue.give_up(4, "it is damaged")
    assert queue.older_than(3600, time.time()) == []
    assert [old.number for old in queue.older_than(3600, time.time() + 3601)] == [2, 4]
    assert queue.remove(2)
    assert [one.number for one in queue.latest(9)] == [4, 3, 1]
    assert queue.add(film("s9", "d9")).number == 5  # no number is given twice


def test_a_film_that_came_again_is_not_removed_as_an_old_one(tmp_path: Path) -> None:
    queue = Queue(tmp_path)
    queue.add(film())
    queue.give_up(1, "it is damaged")
    (old,) = queue.older_than(3600, time.time() + 3601)
    assert queue.add(film()).state is State.RECEIVED  # its sender has been told that it was taken
    assert not queue.remove(old.number)
    assert queue.get(1).state is State.RECEIVED


class FailsOnce:
    """Rows of which the disk takes one change not."""

    def __init__(self, rows: sqlite3.Connection) -> None:
        self._rows, self._left = rows, 1

    def execute(self, words: str, *values: Any) -> sqlite3.Cursor:
        if words == "COMMIT" and self._left:
            self._left -= 1
            raise sqlite3.OperationalError("disk I/O error")
        return self._rows.execute(words, *values)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._rows, name)


def test_after_a_change_that_the_disk_did_not_take_the_next_one_is_kept(tmp_path: Path) -> None:
    queue = Queue(tmp_path)
    queue._rows = FailsOnce(queue._rows)  # type: ignore[assignment]
    with pytest.raises(sqlite3.OperationalError):
        queue.add(film())
    assert queue.latest(9) == []
    queue.add(film("s2", "d2"))
    assert [one.digest for one in Queue(tmp_path).latest(9)] == ["d2"]  # as another process sees it


def test_a_destination_that_is_none_any_more_is_not_waited_for_and_not_forgotten(tmp_path: Path) -> None:
    queue = Queue(tmp_path)
    for n in range(3):
        queue.add(film(f"s{n}", f"d{n}"))
    queue.has_assessed(1, ["a"], ["OLD"])
    queue.has_assessed(2, ["b"], ["PACS", "OLD"])
    assert leave_out(queue, ["PACS"]) == {"OLD": 2}
    assert [queue.get(n).state for n in (1, 2, 3)] == [State.SENT, State.ASSESSED, State.RECEIVED]
    pacs = Sends(queue, "PACS")
    pacs.taken(pacs.due(time.time(), 9))
    assert queue.get(2).state is State.SENT
    queue.has_assessed(3, ["c"], ["PACS"])
    assert queue.get(3).state is State.ASSESSED
    assert leave_out(queue, ["PACS", "OLD"]) == {}  # it is one again
    assert [queue.get(n).state for n in (1, 2)] == [State.ASSESSED, State.ASSESSED]
    old = Sends(queue, "OLD")
    assert [send.object for send in old.due(time.time(), 9)] == ["a", "b"]
    old.taken(old.due(time.time(), 9))
    assert [queue.get(n).state for n in (1, 2)] == [State.SENT, State.SENT]


def test_a_film_that_is_at_work_is_not_begun_again_for_an_object_of_before(tmp_path: Path) -> None:
    queue = Queue(tmp_path)
    queue.add(film())
    queue.has_read(1, ANSWER)
    queue.again(1)
    assert (queue.get(1).state, queue.get(1).answer) == (State.READ, ANSWER)


def test_what_could_not_be_made_of_a_film_stays_with_its_answer(tmp_path: Path) -> None:
    queue = Queue(tmp_path)
    queue.add(film())
    queue.has_read(1, ANSWER)
    queue.has_assessed(1, ["a-sr.dcm"], ["PACS"], "no DICOM pr can be made of its header (ValueError)")
    sends = Sends(queue, "PACS")
    sends.refused(sends.due(time.time(), 9), "refused", wait=False)
    sends.taken(sends.due(time.time(), 9))
    done = queue.get(1)
    assert (done.state, done.reason) == (State.SENT, "")
    assert done.answer == ANSWER | {"note": "no DICOM pr can be made of its header (ValueError)"}


def test_a_killed_process_loses_nothing_that_was_answered(tmp_path: Path) -> None:
    read, write = os.pipe()
    if (child := os.fork()) == 0:  # in it, films are added until it is killed; each number is written when it is added
        try:
            queue, n = Queue(tmp_path), 0
            while True:
                n += 1
                os.write(write, b"%d\n" % queue.add(film(f"s{n}", f"d{n}")).number)
        finally:
            os._exit(1)
    os.close(write)
    answered = b""
    while more := os.read(read, 9999):
        answered += more
        if answered.count(b"\n") >= 20:
            os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert answered.count(b"\n") >= 20
    numbers = [int(number) for number in answered.split(b"\n")[:-1]]
    assert [one.number for one in reversed(Queue(tmp_path).latest(10**6))][: len(numbers)] == numbers


def test_a_films_row_is_flushed_to_the_disk_before_it_is_taken(tmp_path: Path) -> None:
    queue = Queue(tmp_path)
    queue.add(film())
    assert queue.read("PRAGMA journal_mode") == [("wal",)]
    assert queue.read("PRAGMA synchronous") == [(2,)]  # FULL, as the last transaction was
    queue.has_read(1, ANSWER)
    assert queue.read("PRAGMA synchronous") == [(1,)]  # NORMAL: it could be detected again


def test_two_who_bring_halves_bring_each_object_once(tmp_path: Path) -> None:
    queue = Queue(tmp_path)
    for n in range(1, 6):
        queue.add(film(f"s{n}", f"d{n}"))
        queue.has_assessed(n, ["a"], ["PACS"])
    halves = [[send.film for send in Sends(queue, "PACS", (k, 2)).due(time.time(), 9)] for k in range(2)]
    assert halves == [[2, 4], [1, 3, 5]]


DAY = 86400.0


def test_a_clock_that_was_ahead_and_is_put_right_makes_no_film_wait_for_days(tmp_path: Path) -> None:
    queue, now = Queue(tmp_path), time.time()
    queue.add(film())
    queue.put_off(1, now + 3 * DAY + 2, "put off")  # noted while the clock was three days ahead
    assert [one.number for one in queue.waiting(State.RECEIVED, now, 9)] == [1]
    queue.has_assessed(1, ["a-sr.dcm"], ["PACS"])
    sends = Sends(queue, "PACS")
    with queue.written() as rows:
        rows.execute("UPDATE sends SET next_try = ?", (now + 3 * DAY,))
    assert len(sends.due(now, 9)) == 1
    with queue.written() as rows:
        rows.execute("UPDATE sends SET stored = ?, pledge = '2.25.7'", (now + 3 * DAY,))
    assert len(sends.without_commitment(900, now)) == 1


def test_a_film_that_came_while_the_clock_was_ahead_holds_no_study_back_and_leaves_in_time(tmp_path: Path) -> None:
    queue, now = Queue(tmp_path), time.time()
    queue.add(film())
    with queue.written() as rows:
        rows.execute("UPDATE films SET received = ?, assessed = ?", (now + 3 * DAY, now + 3 * DAY))
    assert [one.number for one in queue.waiting(State.RECEIVED, now, 9, quiet=30)] == [1]
    assert queue.films_a_minute(now) == 0
    queue.give_up(1, "it is damaged")
    assert queue.older_than(3600, now) == []  # it counts as having come now
    assert [old.number for old in queue.older_than(3600, now + 3601)] == [1]


def test_a_clock_that_jumps_ahead_takes_no_film_that_is_not_sent(tmp_path: Path) -> None:
    queue, now = Queue(tmp_path), time.time()
    queue.add(film())
    queue.add(film("s2", "d2"))
    queue.has_assessed(2, ["a-sr.dcm"], ["PACS"])
    assert queue.older_than(3600, now + 10 * DAY) == []
    assert [one.number for one in queue.waiting(State.RECEIVED, now - 10 * DAY, 9)] == [1]
