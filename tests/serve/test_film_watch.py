"""The films of a week beside the reference: what is kept of them, when they are looked at, when they are forgotten."""

import logging
from pathlib import Path

import numpy as np
import pytest

from cxr.detect.prediction import NotAssessed, Prediction
from cxr.measure.shift import FEATURES, LIKENESS, PIXELS, RATE, Reference, allowed
from cxr.read.chest_films import NOT_FINITE
from cxr.serve.film_watch import WEEK, FilmWatch, looks
from cxr.serve.queue import QUEUE, Queue

MONDAY = 1_767_571_200.0  # 2026-01-05, 00:00 UTC


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    return Queue(tmp_path)


def watch(queue: Queue) -> FilmWatch:
    rows = np.random.default_rng(0).normal(size=(200, len(FEATURES))).astype(np.float32)
    return FilmWatch(queue, Reference(FEATURES, rows))


def said(rng: np.random.Generator, brighter: float = 0.0) -> Prediction:
    statistics = rng.normal(size=len(PIXELS) + len(LIKENESS))
    statistics[0] += brighter
    scores = (0.5,)
    abnormal = float(rng.normal())
    return Prediction(
        1, "s", "p", 9, 9, ((0, 0, 1, 1),), ("x",), scores, {}, abnormal, statistics=tuple(statistics.tolist())
    )


def test_a_week_is_looked_at_when_it_has_twice_as_many_patients_as_at_the_look_before() -> None:
    assert [looks(patients) for patients in (0, 24, 25, 99, 400)] == [
        [], [], [25], [25, 50], [25, 50, 100, 200, 400],
    ]  # fmt: skip


def test_all_looks_at_a_week_share_its_false_alarms(queue: Queue) -> None:
    rng = np.random.default_rng(1)
    watching = FilmWatch(queue, Reference(PIXELS[:1], rng.normal(size=(200, 1)).astype(np.float32)))
    for n in range(60):
        watching.note(f"p{n}", MONDAY + n, said(rng))
    shift = watching.week(MONDAY + 100).shift  # of the second look
    assert shift is not None
    assert (shift.films, shift.differs) == (50, False)
    assert [one.allowed for one in shift.features] == [allowed(50, 200, 1, RATE / 6)]  # 1/2 + 1/6 + 1/12 + … = 1


def test_films_that_change_are_told_once_and_stay_told(queue: Queue, caplog: pytest.LogCaptureFixture) -> None:
    watching, rng = watch(queue), np.random.default_rng(1)
    with caplog.at_level(logging.WARNING):
        for n in range(120):
            watching.note(f"p{n}", MONDAY + n, said(rng, brighter=9.0))
    week = watching.week(MONDAY + 500)
    assert (week.patients, week.differs) == (120, True)
    assert week.shift is not None
    assert {one.name for one in week.shift.features if one.differs} == {"dark", "boxes", "surest"}
    assert week.shift.rate == RATE
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 1
    assert "dark values" in told[0]
    assert "p1" not in told[0]


def test_the_first_film_of_a_patient_in_a_week_counts_and_refused_headers_do_not(queue: Queue) -> None:
    watching, rng = watch(queue), np.random.default_rng(1)
    for at in (0.0, 60.0, WEEK - 1, WEEK + 1):
        watching.note("p1", MONDAY + at, said(rng))
    watching.note("p2", MONDAY, NotAssessed(1, "s", "p2", 9, 9, NOT_FINITE))  # nothing is known of its pixels
    watching.note("p3", MONDAY, NotAssessed(1, "s", "p3", 9, 9, NOT_FINITE, "", (0.0,) * 8))
    assert watching.week(MONDAY).patients == 2
    assert {name: week.patients for name, week in watching.both(MONDAY + WEEK).items()} == {"this": 1, "last": 2}
    assert watching.week(MONDAY).shift is None


def test_a_week_begins_on_monday_in_utc(queue: Queue) -> None:
    watching, rng = watch(queue), np.random.default_rng(1)
    watching.note("sunday", MONDAY - 1, said(rng))
    watching.note("monday", MONDAY, said(rng))
    watching.note("next sunday", MONDAY + WEEK - 1, said(rng))
    assert {name: week.patients for name, week in watching.both(MONDAY + 1).items()} == {"this": 2, "last": 1}


def test_a_week_is_forgotten_when_the_next_has_ended(queue: Queue) -> None:
    watching, rng = watch(queue), np.random.default_rng(1)
    for week in range(3):
        watching.note("p1", MONDAY + week * WEEK, said(rng))
    assert queue.read("SELECT count(*) FROM seen") == [(2,)]


def test_another_model_begins_its_week_anew(queue: Queue) -> None:
    watch(queue).note("p1", MONDAY, said(np.random.default_rng(1)))
    assert watch(queue).week(MONDAY).patients == 1  # the same one, begun again
    other = FilmWatch(queue, Reference(PIXELS[:1], np.ones((9, 1), np.float32)))
    assert other.week(MONDAY).patients == 0


def test_what_is_kept_outlives_the_process_and_names_nobody(queue: Queue, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    for n in range(30):
        watch(queue).note(f"p{n}", MONDAY + n, said(rng))
    before = watch(queue).week(MONDAY)
    queue.close()
    assert watch(Queue(tmp_path)).week(MONDAY) == before
    assert before.shift is not None
    assert (tmp_path / QUEUE).is_file()
