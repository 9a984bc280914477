"""Detects on the films of the queue as they come, and writes what is said about them.

Films go through ``predict_films`` as those of predict.py do. While many wait, they are one stream, which ends when none
is left, decoded and written by processes that stand by for that. Of few the files are written in this process. With
more than one worker no film is decoded in it: one that kills its decoder is named, and the service goes on.
"""

import logging
import sqlite3
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from cxr.data.inputs import Decode, Input
from cxr.detect.film_detector import FilmDetector
from cxr.detect.prediction import NotAssessed, Prediction
from cxr.detect.stream import Outcome, predict_films
from cxr.explain.maps import MapMaker
from cxr.files import noted_while
from cxr.read.dicom import ReadError
from cxr.read.workers import WORTH_A_POOL, at_least_two, stand_by, streamed
from cxr.report.film_files import OBJECTS, PICTURES, FilmAnswer, FilmFiles
from cxr.report.journal import Done, as_plain
from cxr.report.without_paths import without_path
from cxr.serve.answers import kind_of
from cxr.serve.counters import Counters
from cxr.serve.film_watch import FilmWatch
from cxr.serve.intake import Intake
from cxr.serve.queue import Queue, QueuedFilm, State
from cxr.serve.sends import pause

LOG = logging.getLogger(__name__)

_AT_WORK = ".at_work"  # is there while films are worked on
_KINDS = ("sr", "pr", "sc")
_USED_LATER = ("cxr.report.dicom_objects",)  # by those who write
_MOST_TRIES = 5  # of a film that makes the detector fail
_LOOK = 1.0  # seconds between two looks at the queue
_SAY = 60.0  # seconds between two lines on where the run is


@dataclass(frozen=True)
class Tools:
    """What films are detected and written with.

    Args:
        task: the detector.
        decode: reads films as it takes them.
        files: writes pictures and objects.
        batch: films that the detector takes at once.
        workers: processes that decode and write while many films wait.
        maps: makes maps of what was detected, None where none are asked for.
        methods: names of these maps.
    """

    task: FilmDetector
    decode: Decode
    files: FilmFiles
    batch: int
    workers: int
    maps: MapMaker | None = None
    methods: Sequence[str] = ()


@dataclass
class Work:
    """The work of a serving run, done by the thread that calls ``run``.

    Args:
        queue: of the films.
        intake: knows where their files are.
        tools: to work with.
        destinations: names of the archives that objects go to.
        counters: of films and answers.
        quiet: seconds without another film of a study after which its films are worked on; 0: at once.
        stopping: when it is set, no film is begun any more.
        grace: seconds after that for those that are begun.
        watch: over what films are like; None where the detector has no reference.
    """

    queue: Queue
    intake: Intake
    tools: Tools
    destinations: Sequence[str]
    counters: Counters
    quiet: float = 0.0
    stopping: threading.Event = field(default_factory=threading.Event)
    grace: float = 30.0
    watch: FilmWatch | None = None

    def __post_init__(self) -> None:
        self._held: dict[int, QueuedFilm] = {}
        self._unnoted = False  # whether films that are held no more still stand in the queue as being at work
        self._until = float("inf")
        self._said, self._counts = 0.0, dict[State, int]()
        self._here_before = 0  # number of the last film that was here when a process before this one died
        self.at_work = False
        self.objects = self.tools.files.folder / OBJECTS
        for place in (self.objects, self.tools.files.folder / PICTURES):
            place.mkdir(exist_ok=True)

    def run(self) -> None:
        """Work until ``stopping`` is set and what was begun is done, or its time is over."""
        self.queue.take_up()
        with noted_while(self.tools.files.folder / _AT_WORK) as died:
            if died:
                self._here_before = max((film.number for film in self.queue.latest(1)), default=0)
            self.at_work = True
            try:
                self._run()
            finally:
                self.at_work = False

    def _run(self) -> None:
        while not self.stopping.is_set():
            try:
                stand_by(Decode.__module__, self.tools.workers, stay=True)
                stand_by(FilmFiles.__module__, self.tools.workers, *_USED_LATER, stay=True)
                if self._unnoted:
                    self.queue.take_up()
                    self._unnoted = False
                if films := self._ready(WORTH_A_POOL):
                    self._detect(films)
                    continue
            except Exception as error:
                self._stumble(error)
            self._say()
            with self.queue.changed:
                self.queue.changed.wait(_LOOK)

    def stop(self) -> None:
        """Begin no film any more."""
        self._until = time.monotonic() + self.grace
        self.stopping.set()

    def _ready(self, limit: int) -> list[QueuedFilm]:
        """Return films whose turn it is. One that has made the detector fail is detected alone."""
        waiting = self.queue.waiting(State.RECEIVED, time.time(), limit + len(self._held), self.quiet)
        films = [film for film in waiting if film.number not in self._held]
        return [film for film in films if film.tries == 0][:limit] or films[:1]

    def _detect(self, films: list[QueuedFilm]) -> None:
        many = len(films) >= WORTH_A_POOL
        inputs = self._stream() if many else self._begun(films)
        tools = self.tools
        outcomes = predict_films(tools.task, inputs, tools.decode, tools.batch, self._readers(films), tools.maps)
        workers = tools.workers if many else 1
        # Each is closed here, the last first: no thread of theirs takes a film any more when this returns
        with (
            closing(outcomes),
            closing(self._noted(outcomes)) as noted,
            closing(streamed(tools.files, noted, workers)) as written,
        ):
            self._finish_all(written)

    def _readers(self, films: list[QueuedFilm]) -> int:
        """Return how many processes decode.

        Films that were here when a process died are not decoded in this one: one of them may have been what killed it.
        """
        old = any(film.number <= self._here_before for film in films)
        return at_least_two(self.tools.workers) if old else self.tools.workers

    def _finish_all(self, written: Iterator[tuple[FilmAnswer, ReadError | None]]) -> None:
        for answer, error in written:
            self._finish(answer, error)
            self._say()
            if time.monotonic() > self._until:
                return

    def _stream(self) -> Iterator[Input]:
        """Yield films until none waits; called in a thread of its own."""
        while not self.stopping.is_set() and (films := self._ready(1)) and films[0].tries == 0:
            yield from self._begun(films)

    def _begun(self, films: list[QueuedFilm]) -> Iterator[Input]:
        for film in films:
            if self.stopping.is_set():
                return
            self._held[film.number] = film
            yield Input(film.number, self.intake.path(film.digest))

    def _noted(self, outcomes: Iterator[tuple[Input, Outcome]]) -> Generator[FilmAnswer, None, None]:
        """Note what the detector says, and yield it with what the files show."""
        for film, outcome in outcomes:
            if isinstance(outcome, ReadError):
                yield FilmAnswer(film, error=outcome)
                continue
            row, maps = self._held[film.number], self.tools.maps
            assessed = outcome if isinstance(outcome, Prediction) else None
            refused = outcome if isinstance(outcome, NotAssessed) else None
            self.queue.has_read(row.number, as_plain(Done(row.number, row.name, assessed, not_assessed=refused)))
            if self.watch is not None:
                self.watch.note(row.patient, row.received, outcome)
            self._count(row, State.READ)
            self.counters.answer(kind_of(outcome, self.tools.files.algorithm))
            for path in self._objects(row):
                path.unlink(missing_ok=True)  # of another answer, given before
            shown = maps.take(film.number) if maps and assessed else {}
            yield FilmAnswer(film, row.name, outcome, maps=shown, has_header=not row.picture)

    def _finish(self, answer: FilmAnswer, error: ReadError | None) -> None:
        """Note that a film's files are written, or why it has failed."""
        row = self._held[answer.film.number]
        problem = answer.error or error
        reason = "" if problem is None else without_path(problem, answer.film.path, "the film")
        made = [path.name for path in self._objects(row) if path.exists()]
        if answer.error is not None or not (made or row.picture):
            self.queue.give_up(row.number, reason)
            self._count(row, State.FAILED)
        else:
            self.queue.has_assessed(row.number, made, self.destinations, reason)
            self._count(row, State.ASSESSED)
        del self._held[row.number]

    def _objects(self, row: QueuedFilm) -> list[Path]:
        """Return the places of all objects that a film may have."""
        kinds = (*_KINDS, *(f"pm-{method}" for method in self.tools.methods))
        return [self.objects / f"{row.name}-{kind}.dcm" for kind in kinds]

    def _stumble(self, error: Exception) -> None:
        """Put off the films that were begun when something failed that is not about one film, such as a full disk."""
        films, kind = list(self._held.values()), type(error).__name__
        self._held.clear()
        LOG.warning("%d films are put off: %s", len(films), kind)
        lasting = not isinstance(error, (OSError, sqlite3.Error))
        try:
            for film in films:
                if lasting and film.tries + 1 >= _MOST_TRIES:
                    self.queue.give_up(film.number, f"the detector fails on it ({kind})")
                else:
                    self.queue.put_off(film.number, time.time() + pause(film.tries + 1), f"put off ({kind})")
        except Exception as second:  # the disk of the queue itself is full
            self._unnoted = True
            LOG.warning("the queue cannot be written (%s)", type(second).__name__)

    def _count(self, row: QueuedFilm, state: State) -> None:
        self.counters.film(state, max(0.0, time.time() - row.received))

    def _say(self) -> None:
        """Say where the run is, at most once a minute, and only where it is somewhere else than before."""
        if (now := time.monotonic()) < self._said + _SAY:
            return
        self._said = now
        counts = self.queue.counts()
        if counts != self._counts:
            rate = self.queue.films_a_minute(time.time())
            LOG.info("%s; %.1f films a minute", ", ".join(f"{n} {state}" for state, n in counts.items()), rate)
        self._counts = counts
