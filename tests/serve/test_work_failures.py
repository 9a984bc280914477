"""What goes wrong while films are worked on: none is lost, and none holds up the others."""

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("highdicom", reason="the extra is not installed: pip install 'cxr[serve]'")

from cxr.detect.stream import predict_films
from cxr.report.film_files import FilmFiles
from cxr.serve.answers import film_answer
from cxr.serve.queue import State
from cxr.serve.work import Work
from web_service import film
from worked_films import done, kinds, nothing_waits


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
