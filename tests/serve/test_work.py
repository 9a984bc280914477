"""Films of the queue are detected, written and put off: with a small detector that has learnt nothing."""

import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydicom import dcmread

pytest.importorskip("highdicom", reason="the extra is not installed: pip install 'cxr[serve]'")

from cxr.config.models import builder
from cxr.data.inputs import Decode
from cxr.detect.stream import predict_films
from cxr.detect.task import DetectionTask
from cxr.findings import FindingVocabulary
from cxr.read.intensity import Intensity, VoiWindow
from cxr.report.algorithm import Algorithm
from cxr.report.film_files import FilmFiles
from cxr.report.journal import from_plain
from cxr.serve.answers import film_answer
from cxr.serve.clearing import clear_old, clear_strays, doubt_unsent
from cxr.serve.counters import Counters
from cxr.serve.intake import Intake
from cxr.serve.queue import Queue, QueuedFilm, State
from cxr.serve.work import Tools, Work
from web_service import film

SIZE = 64


@pytest.fixture
def work(tmp_path: Path, vocabulary: FindingVocabulary) -> Work:
    torch.manual_seed(0)
    model = builder("fasterrcnn_tiny", anchors__image_size=SIZE, score_thresh=0.0)
    task = DetectionTask(vocabulary, model, torch.optim.SGD).eval()
    queue = Queue(tmp_path)
    files = FilmFiles(tmp_path, vocabulary, Algorithm("0.1", "ab", 0.3), False, True, small=True)
    tools = Tools(task, Decode(Intensity([VoiWindow()]), SIZE), files, batch=2, workers=1)
    return Work(queue, Intake(tmp_path, queue, 1, 0), tools, ["PACS"], Counters())


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cxr.serve.work._LOOK", 0.01)


def done(work: Work, until: Callable[[], bool], seconds: float = 240) -> None:
    """Work until something holds."""

    def watch() -> None:
        with work.queue.changed:
            held.append(work.queue.changed.wait_for(until, seconds))
        work.stop()

    held: list[bool] = []
    watcher = threading.Thread(target=watch)
    watcher.start()
    work.run()
    watcher.join()
    assert held == [True]


def nothing_waits(work: Work) -> Callable[[], bool]:
    def nothing() -> bool:
        counts = work.queue.counts()  # asked once: a film that is put off between two questions would be in neither
        return counts[State.RECEIVED] == counts[State.READ] == 0

    return nothing


def kinds(work: Work, name: str) -> set[str]:
    return {path.stem.removeprefix(f"{name}-") for path in work.objects.glob(f"{name}-*")}


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


def test_a_film_that_cannot_be_read_has_failed_and_the_others_go_on(work: Work) -> None:
    bad = work.intake.take(film("bad", RescaleSlope="0"), "PACS@127.0.0.1")
    good = work.intake.take(film("good"), "PACS@127.0.0.1")
    done(work, nothing_waits(work))
    assert work.queue.get(good.number).state is State.ASSESSED
    failed = work.queue.get(bad.number)
    assert (failed.state, failed.reason) == (
        State.FAILED,
        "the film: RescaleSlope is 0, expected a slope that keeps the picture",
    )


def test_a_picture_has_an_answer_and_no_objects(work: Work) -> None:
    content = BytesIO()
    Image.fromarray(np.arange(64 * 48, dtype=np.uint8).reshape(64, 48)).save(content, "PNG")
    row = work.intake.take(content.getvalue(), "http@127.0.0.1")
    done(work, nothing_waits(work))
    assert work.queue.get(row.number).state is State.SENT
    assert kinds(work, row.name) == set()


def test_films_that_make_the_detector_fail_together_are_tried_alone(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cxr.serve.work.pause", lambda tries: 0.0)
    bad = work.intake.take(film("bad"), "PACS@127.0.0.1")
    good = work.intake.take(film("good"), "PACS@127.0.0.1")
    detect, calls = work.tools.task.detect, []

    def fails(images: list[torch.Tensor], targets: list[dict[str, torch.Tensor]]) -> object:
        calls.append(len(images))
        if len(calls) < 5 or len(images) > 1:  # together, and the first of them four times alone
            raise RuntimeError("no such kernel")
        return detect(images, targets)

    monkeypatch.setattr(type(work.tools.task), "detect", lambda self, images, targets: fails(images, targets))
    done(work, nothing_waits(work))
    assert work.queue.get(bad.number).state is State.ASSESSED
    assert work.queue.get(good.number).state is State.ASSESSED
    assert calls[0] == 2
    assert set(calls[1:]) == {1}


def test_a_detector_that_always_fails_gives_a_film_up_after_five_tries(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cxr.serve.work.pause", lambda tries: 0.0)
    work.intake.take(film(), "PACS@127.0.0.1")
    calls = []

    def fails(self: object, images: object, targets: object) -> object:
        calls.append(1)
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(type(work.tools.task), "detect", fails)
    done(work, lambda: work.queue.counts()[State.FAILED] == 1)
    assert len(calls) == 5
    assert work.queue.get(1).reason == "the detector fails on it (RuntimeError)"


def test_on_a_full_disk_a_film_waits_and_is_never_given_up(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cxr.serve.work.pause", lambda tries: 0.0)
    work.intake.take(film(), "PACS@127.0.0.1")
    tries = []

    @contextmanager
    def full(path: Path) -> Iterator[Path]:
        tries.append(1)
        if len(tries) < 9:
            raise OSError(28, "No space left on device", str(path))
        yield path

    monkeypatch.setattr("cxr.report.film_files.whole_file", full)
    done(work, nothing_waits(work))
    assert work.queue.get(1).state is State.ASSESSED
    assert len(tries) == 9


def test_a_queue_that_cannot_be_written_for_now_gives_no_film_up(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cxr.serve.work.pause", lambda tries: 0.0)
    work.intake.take(film(), "PACS@127.0.0.1")
    note, tries = work.queue.has_read, []

    def full(number: int, answer: Mapping[str, Any]) -> None:
        tries.append(number)
        if len(tries) < 9:
            raise sqlite3.OperationalError("database or disk is full")
        note(number, answer)

    monkeypatch.setattr(work.queue, "has_read", full)
    done(work, nothing_waits(work))
    assert work.queue.get(1).state is State.ASSESSED
    assert len(tries) == 9


def test_a_film_that_was_here_when_a_process_died_is_not_decoded_in_this_one(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    processes, folder = [], work.tools.files.folder

    def spy(task: Any, films: Any, decode: Any, batch: int, workers: int, maps: Any) -> Any:
        processes.append(workers)
        return predict_films(task, films, decode, batch, 1, maps)

    monkeypatch.setattr("cxr.serve.work.predict_films", spy)
    work.intake.take(film("old"), "PACS@127.0.0.1")
    (folder / ".at_work").touch()  # as a process leaves it that a decoder has brought down
    done(work, nothing_waits(work))
    assert processes == [2]  # whose processes are others than this one
    work.stopping.clear()
    work.intake.take(film("new"), "PACS@127.0.0.1")
    done(work, nothing_waits(work))
    assert processes == [2, 1]
    assert not (folder / ".at_work").exists()


def test_a_film_whose_files_cannot_be_written_is_given_up_after_five_tries(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cxr.serve.work.pause", lambda tries: 0.0)
    work.intake.take(film(), "PACS@127.0.0.1")
    calls = []

    def fails(self: object, answer: object) -> None:
        calls.append(1)
        raise RuntimeError("a bug")

    monkeypatch.setattr(FilmFiles, "__call__", fails)
    done(work, lambda: work.queue.counts()[State.FAILED] == 1)
    assert len(calls) == 5


def test_a_film_is_not_forgotten_where_the_queue_could_not_be_written(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    work.intake.take(film(), "PACS@127.0.0.1")
    left = ["has_assessed", "put_off"]  # what fails once

    def full(name: str) -> Callable[..., object]:
        change = getattr(work.queue, name)

        def write(*values: object) -> object:
            if name in left:
                left.remove(name)
                raise sqlite3.OperationalError("database or disk is full")
            return change(*values)

        return write

    for name in left:
        monkeypatch.setattr(work.queue, name, full(name))
    done(work, lambda: work.queue.counts()[State.ASSESSED] == 1)
    assert left == []


def test_a_film_that_lacks_an_object_says_so_for_good(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*words: object) -> object:
        raise ValueError("Lin^Yu-Ting")

    monkeypatch.setattr("cxr.report.dicom_objects.presentation_state", fails)
    row = work.intake.take(film(), "PACS@127.0.0.1")
    done(work, nothing_waits(work))
    after = work.queue.get(row.number)
    assert kinds(work, row.name) == {"sr"}
    assert after.answer is not None
    assert after.answer["note"] == "the film: no DICOM pr can be made of its header (ValueError)"
    assert film_answer(after, work.tools.files.algorithm)["note"] == after.answer["note"]


def test_a_film_of_which_no_object_can_be_made_has_failed(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*words: object) -> object:
        raise ValueError("Lin^Yu-Ting")

    monkeypatch.setattr("cxr.report.dicom_objects.structured_report", fails)
    row = work.intake.take(film(), "PACS@127.0.0.1")
    done(work, nothing_waits(work))
    after = work.queue.get(row.number)
    assert (after.state, after.reason) == (
        State.FAILED,
        "the film: no DICOM sr can be made of its header (ValueError)",
    )


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
