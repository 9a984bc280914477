"""Films of the queue are detected, written and put off: with a small detector that has learnt nothing."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread

pytest.importorskip("highdicom", reason="the extra is not installed: pip install 'cxr[serve]'")

from cxr.report.journal import from_plain
from cxr.serve.answers import lack_of
from cxr.serve.clearing import clear_old, clear_strays, doubt_unsent
from cxr.serve.queue import QueuedFilm, State
from cxr.serve.work import Work
from web_service import film
from worked_films import done, kinds, nothing_waits


def test_each_film_has_an_answer_objects_and_a_picture(work: Work) -> None:
    rows = [work.intake.take(film(name), "PACS@127.0.0.1") for name in ("one", "two", "three")]
    done(work, nothing_waits(work))
    for row in rows:
        after = work.queue.get(row.number)
        assert after.state is State.ASSESSED  # nobody has taken them yet
        assert after.answer is not None
        assert from_plain(after.answer).prediction is not None
        assert kinds(work, row.name) == {"sr", "pr", "sc"}
        picture = (work.intake.films.parent / "pictures" / f"{row.name}.jpg").read_bytes()
        assert picture.startswith(b"\xff\xd8\xff")
        report = dcmread(work.objects / f"{row.name}-sr.dcm")
        assert report.StudyInstanceUID == dcmread(work.intake.path(row.digest)).StudyInstanceUID
    left = work.queue.read("SELECT film, object FROM sends WHERE destination = 'PACS' AND taken IS NULL")
    assert sorted(left) == sorted((r.number, f"{r.name}-{kind}.dcm") for r in rows for kind in ("sr", "pr", "sc"))


def test_a_film_that_is_not_to_be_assessed_gets_objects_that_say_so(work: Work) -> None:
    row = work.intake.take(film(BodyPartExamined="ANKLE"), "PACS@127.0.0.1")
    (work.objects / f"{row.name}-pr.dcm").write_bytes(b"of another answer")
    done(work, nothing_waits(work))
    answer = work.queue.get(row.number).answer
    assert answer is not None
    assert from_plain(answer).not_assessed is not None
    assert kinds(work, row.name) == {"sr", "sc"}  # boxes of an answer that was given before are gone
    assert len(work.queue.read("SELECT * FROM sends")) == 2
    counted = work.counters.registry.get_sample_value
    assert counted("cxr_answers_total", {"answer": "not_assessed"}) == 1
    assert counted("cxr_films_total", {"state": "assessed"}) == 1


def test_a_picture_has_an_answer_and_no_objects(work: Work) -> None:
    content = BytesIO()
    Image.fromarray(np.arange(64 * 48, dtype=np.uint8).reshape(64, 48)).save(content, "PNG")
    row = work.intake.take(content.getvalue(), "http@127.0.0.1")
    done(work, nothing_waits(work))
    after = work.queue.get(row.number)
    assert (after.state, after.reason, lack_of(after)) == (State.SENT, "", "")  # it lacks nothing that it could have
    assert kinds(work, row.name) == set()


def test_a_film_that_is_held_is_not_begun_twice(work: Work) -> None:
    held, next_one = (work.intake.take(film(name), "PACS@127.0.0.1") for name in ("held", "next"))
    work._held[held.number] = held
    assert [one.number for one in work._ready(1)] == [next_one.number]


def test_after_a_restart_of_the_machine_what_was_not_sent_is_made_anew(
    work: Work, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    machine = tmp_path / "machine"
    machine.write_text("one run of it")
    monkeypatch.setattr("cxr.serve.clearing._BOOT", machine)
    row = work.intake.take(film(), "PACS@127.0.0.1")
    done(work, nothing_waits(work))
    for _ in range(2):  # the service has ended, the machine has not
        doubt_unsent(tmp_path, work.queue)
        assert work.queue.get(row.number).state is State.ASSESSED
    (work.objects / f"{row.name}-sc.dcm").write_bytes(b"cut short")
    machine.write_text("another")
    doubt_unsent(tmp_path, work.queue)
    assert work.queue.get(row.number).state is State.RECEIVED
    assert work.queue.read("SELECT * FROM sends") == []  # nobody brings them away before they are made
    work.stopping.clear()
    done(work, nothing_waits(work))
    assert work.queue.get(row.number).state is State.ASSESSED
    assert dcmread(work.objects / f"{row.name}-sc.dcm").SOPInstanceUID


def test_a_film_that_comes_again_while_old_ones_leave_stays(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    row = work.intake.take(film(), "PACS@127.0.0.1")
    work.queue.give_up(row.number, "it is damaged")
    older_than = work.queue.older_than

    def asked_again(seconds: float, now: float) -> list[QueuedFilm]:
        old = older_than(seconds, now + 7200)
        work.intake.take(film(), "PACS@127.0.0.1")
        return old

    monkeypatch.setattr(work.queue, "older_than", asked_again)
    assert clear_old(work.intake.films.parent, work.queue, hours=1) == 0
    assert work.intake.path(row.digest).exists()
    assert work.queue.get(row.number).state is State.RECEIVED


def test_what_a_process_before_had_read_and_not_written_is_detected_again(work: Work) -> None:
    row = work.intake.take(film(), "PACS@127.0.0.1")
    work.queue.has_read(row.number, {"number": 1, "prediction": None, "not_assessed": None})
    done(work, lambda: work.queue.counts()[State.ASSESSED] == 1)
    answer = work.queue.get(row.number).answer
    assert answer is not None
    assert from_plain(answer).prediction is not None


def test_nothing_is_begun_after_a_stop(work: Work) -> None:
    work.intake.take(film(), "PACS@127.0.0.1")
    work.stop()
    work.run()
    assert work.queue.get(1).state is State.RECEIVED
    assert not work.at_work


def test_old_films_leave_with_all_their_files_and_strays_go(work: Work) -> None:
    folder = work.intake.films.parent
    old, kept = (work.intake.take(film(name), "PACS@127.0.0.1") for name in ("old", "kept"))
    done(work, nothing_waits(work))
    with work.queue.written() as rows:
        rows.execute("UPDATE films SET received = received - 7200, state = 'sent' WHERE number = ?", (old.number,))
    assert clear_old(folder, work.queue, hours=1) == 1
    assert {path.stem for path in work.intake.films.iterdir()} == {kept.digest}
    assert {path.name.split("-sr")[0].split("-pr")[0].split("-sc")[0] for path in work.objects.iterdir()} == {kept.name}
    assert [path.stem for path in (folder / "pictures").iterdir()] == [kept.name]
    for stray in (work.intake.films / "ab.dcm", work.objects / "p00-99-sr.dcm", work.objects / ".x.part"):
        stray.touch()
    clear_strays(folder, work.queue)
    assert {path.stem for path in work.intake.films.iterdir()} == {kept.digest}
    assert len(list(work.objects.iterdir())) == 3
