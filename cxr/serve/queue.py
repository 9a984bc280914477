"""The queue of a serving run, one SQLite file: each film, how far it is, and which of its objects went where.

A film's row has been flushed to the disk (WAL, ``synchronous=FULL``) before ``add`` returns. What is noted of it later
outlives the process, too, but is flushed only with the next film: were it lost with the machine's power, the film would
be detected and sent again, which makes the same objects. Rows hold pseudonyms and no identity.
"""

import json
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Any

QUEUE = "queue.sqlite"

LONGEST_PAUSE = 600.0
"""Seconds until the next try, at most. A time that is further ahead was noted while the clock was wrong."""

_MINUTES = 5  # over which films a minute are counted
_SCHEMA = """
CREATE TABLE IF NOT EXISTS films (
    number INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, study TEXT NOT NULL, patient TEXT NOT NULL,
    digest TEXT NOT NULL, sop TEXT NOT NULL UNIQUE, state TEXT NOT NULL, tries INTEGER NOT NULL DEFAULT 0,
    next_try REAL NOT NULL DEFAULT 0, reason TEXT NOT NULL DEFAULT '', received REAL NOT NULL, read REAL,
    assessed REAL, sent REAL, answer TEXT, source TEXT NOT NULL, picture INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS films_by_state ON films (state, number);
CREATE INDEX IF NOT EXISTS films_by_study ON films (study);
CREATE INDEX IF NOT EXISTS films_by_time ON films (received);
CREATE TABLE IF NOT EXISTS sends (
    film INTEGER NOT NULL REFERENCES films ON DELETE CASCADE, object TEXT NOT NULL, destination TEXT NOT NULL,
    tries INTEGER NOT NULL DEFAULT 0, next_try REAL NOT NULL DEFAULT 0, reason TEXT NOT NULL DEFAULT '',
    pledge TEXT, stored REAL, taken REAL, PRIMARY KEY (film, object, destination));
CREATE INDEX IF NOT EXISTS sends_left ON sends (destination, film) WHERE taken IS NULL;
CREATE TEMP TABLE left_out (destination TEXT PRIMARY KEY);
"""

LEFT = "taken IS NULL AND destination NOT IN (SELECT destination FROM left_out)"
"""Selects rows of ``sends`` that have still to be taken. What is left out is in ``cxr.serve.sends.leave_out``."""


class State(StrEnum):
    """How far a film is.

    ``READ``: the detector has read it, and its answer stands in the row. ``ASSESSED``: its objects are on the disk.
    ``SENT``: every destination has taken all of them. ``FAILED``: given up until somebody asks again.
    """

    RECEIVED = "received"
    READ = "read"
    ASSESSED = "assessed"
    SENT = "sent"
    FAILED = "failed"


class DuplicateFilm(ValueError):  # noqa: N818 - what it is, not only that it is wrong
    """Another film with the same SOPInstanceUID is here already."""


@dataclass(frozen=True)
class NewFilm:
    """A film that has come in; the fields are those of ``QueuedFilm``."""

    study: str
    patient: str
    digest: str
    sop: str
    source: str
    picture: bool = False


@dataclass(frozen=True)
class QueuedFilm:
    """A row of the queue.

    Args:
        number: of the film, in the order they came.
        name: of the files about it: the pseudonym of its study, and its number.
        study, patient: pseudonyms.
        digest: of the film; its file is ``films/<digest>.dcm``.
        sop: keyed hash of its SOPInstanceUID.
        state: how far it is.
        tries: how often its next step has failed.
        next_try: when it is tried again, in seconds since 1970; 0: at once.
        reason: why it waits or has failed. Nobody is named.
        received, read, assessed, sent: when it came so far, in seconds since 1970; None: not yet.
        answer: ``cxr.report.journal.as_plain`` of what the detector said, None before.
        source: "AE@address" or "http@address".
        picture: whether it is a PNG or JPEG, of which no DICOM objects can be made.
    """

    number: int
    name: str
    study: str
    patient: str
    digest: str
    sop: str
    state: State
    tries: int
    next_try: float
    reason: str
    received: float
    read: float | None
    assessed: float | None
    sent: float | None
    answer: dict[str, Any] | None
    source: str
    picture: bool


_COLUMNS = ", ".join(field.name for field in fields(QueuedFilm))


class Queue:
    """The queue in a folder. All of its threads may use one object; one process has the folder at a time.

    ``changed`` is notified whenever there may be something to do. ``files`` is held while files of a film and its row
    come or go together. What became of the films' objects is in ``cxr.serve.sends``.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / QUEUE
        self.changed = threading.Condition()
        self.files = threading.RLock()
        self.asked = 0.0  # when somebody last asked that something be tried again (``time.monotonic``)
        self._lock = threading.RLock()
        self._rows = sqlite3.connect(self.path, check_same_thread=False, isolation_level=None)
        self._rows.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA foreign_keys=ON;")
        self._rows.executescript(_SCHEMA)

    def close(self) -> None:
        """Close the file; the queue is of no use afterwards."""
        with self._lock:
            self._rows.close()

    @contextmanager
    def written(self, flush: bool = False) -> Iterator[sqlite3.Connection]:
        """Yield the rows within a transaction; with ``flush`` it is on the disk when the outermost block ends."""
        with self._lock:
            if self._rows.in_transaction:
                yield self._rows
                return
            self._rows.execute(f"PRAGMA synchronous={'FULL' if flush else 'NORMAL'}")
            self._rows.execute("BEGIN IMMEDIATE")
            try:
                yield self._rows
                self._rows.execute("COMMIT")
            except BaseException:
                if self._rows.in_transaction:  # else a full disk has ended it; one left open would swallow all others
                    self._rows.execute("ROLLBACK")
                raise
        self.notify()

    def read(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Return the rows that a query selects."""
        with self._lock:
            return list(self._rows.execute(query, values).fetchall())

    def add(self, film: NewFilm) -> QueuedFilm:
        """Add a film whose file is on the disk, and return its row.

        A film that is here already has one row and keeps it; one that had failed is tried again. Raises
        ``DuplicateFilm`` where the one that is here has the same SOPInstanceUID and is another.
        """
        with self.written(flush=True) as rows:
            known = rows.execute("SELECT number, digest, state FROM films WHERE sop = ?", (film.sop,)).fetchone()
            if known is not None and known[1] != film.digest:
                raise DuplicateFilm(f"another film with this SOPInstanceUID is here already, as film {known[0]}")
            if known is None:
                values = (film.study, film.patient, film.digest, film.sop, State.RECEIVED, time.time(), film.source)
                number = rows.execute(
                    "INSERT INTO films (name, study, patient, digest, sop, state, received, source, picture)"
                    " VALUES ('', ?, ?, ?, ?, ?, ?, ?, ?)",
                    (*values, film.picture),
                ).lastrowid
                rows.execute("UPDATE films SET name = study || '-' || number WHERE number = ?", (number,))
            else:
                number = known[0]
                if known[2] == State.FAILED:
                    self._retry(number)
        return self.get(int(number or 0))

    def get(self, number: int) -> QueuedFilm:
        """Return a film. Raises ``KeyError`` where there is none."""
        films = self._select("WHERE number = ?", number)
        if not films:
            raise KeyError(number)
        return films[0]

    def of_digest(self, digest: str) -> QueuedFilm | None:
        """Return the film with this digest, None where there is none."""
        return next(iter(self._select("WHERE digest = ?", digest)), None)

    def waiting(self, state: State, now: float, limit: int, quiet: float = 0.0) -> list[QueuedFilm]:
        """Return films in ``state`` whose time has come, the oldest first.

        With ``quiet``, only of studies of which no film has come for so many seconds.
        """
        where, values = "WHERE state = ? AND (next_try <= ? OR next_try > ?)", [state, now, now + LONGEST_PAUSE]
        if quiet:  # a film that came long after now came while the clock was wrong
            where += " AND study NOT IN (SELECT study FROM films WHERE received > ? AND received < ?)"
            values += [now - quiet, now + quiet]
        return self._select(f"{where} ORDER BY number LIMIT ?", *values, limit)

    def has_read(self, number: int, answer: Mapping[str, Any]) -> None:
        """Note what the detector said about a film."""
        text = json.dumps(answer, ensure_ascii=False, allow_nan=False)
        # Its tries stay: what makes writing fail each time counts as much as what makes the detector fail
        self._set(number, state=State.READ, read=time.time(), answer=text, next_try=0.0, reason="")

    def has_assessed(self, number: int, objects: Sequence[str], destinations: Sequence[str], note: str = "") -> None:
        """Note that a film's objects are on the disk and have to go to ``destinations``; with none, it is sent.

        ``note`` says what could not be made of it, and stays with its answer.
        """
        now = time.time()
        with self.written() as rows:
            rows.executemany(
                "INSERT OR IGNORE INTO sends (film, object, destination) VALUES (?, ?, ?)",
                [(number, name, place) for name in objects for place in destinations],
            )
            if note:
                rows.execute("UPDATE films SET answer = json_set(answer, '$.note', ?) WHERE number = ?", (note, number))
            left = self.read(f"SELECT 1 FROM sends WHERE film = ? AND {LEFT} LIMIT 1", number)  # noqa: S608
            state, sent = (State.ASSESSED, None) if left else (State.SENT, now)
            self._set(number, state=state, assessed=now, sent=sent, tries=0, next_try=0.0, reason="")

    def put_off(self, number: int, next_try: float, reason: str) -> None:
        """Note that a film could not be detected or written for now, and when it is tried again from its beginning."""
        with self.written() as rows:
            rows.execute(
                "UPDATE films SET state = ?, answer = NULL, tries = tries + 1, next_try = ?, reason = ?"
                " WHERE number = ?",
                (State.RECEIVED, next_try, reason, number),
            )

    def give_up(self, number: int, reason: str) -> None:
        """Note that a film has failed, until somebody asks again."""
        self._set(number, state=State.FAILED, reason=reason)

    def retry(self, number: int) -> QueuedFilm:
        """Do again what a film failed at, or at once what it waits for. Raises ``KeyError``."""
        self.asked = time.monotonic()
        with self.written():
            self._retry(number)
        return self.get(number)

    def again(self, number: int) -> None:
        """Have a film detected again, because not all that was made of it is here.

        One that is at work is left alone: its objects are made anew as it is.
        """
        with self.written() as rows:
            if self.get(number).state is State.ASSESSED:
                rows.execute("DELETE FROM sends WHERE film = ? AND taken IS NULL", (number,))
                self._set(number, state=State.RECEIVED, answer=None, read=None, assessed=None)

    def take_up(self) -> None:
        """Have films detected again that a process before this one had read and not brought to an end."""
        with self.written() as rows:
            rows.execute("UPDATE films SET state = ?, answer = NULL WHERE state = ?", (State.RECEIVED, State.READ))

    def doubt_unsent(self) -> None:
        """Have films detected again of which an object has still to be taken: these may have been cut short."""
        with self.written(flush=True) as rows:
            films = "SELECT number FROM films WHERE state = ?"
            rows.execute(f"DELETE FROM sends WHERE taken IS NULL AND film IN ({films})", (State.ASSESSED,))  # noqa: S608
            rows.execute(
                "UPDATE films SET state = ?, answer = NULL, read = NULL, assessed = NULL WHERE state = ?",
                (State.RECEIVED, State.ASSESSED),
            )

    # --- what people and monitors see

    def counts(self) -> dict[State, int]:
        """Return how many films are in each state."""
        counted = dict(self.read("SELECT state, count(*) FROM films GROUP BY state"))
        return {state: counted.get(state, 0) for state in State}

    def unwritten(self) -> int:
        """Return how many films have come of which nothing is written yet."""
        query = "SELECT count(*) FROM films WHERE state IN (?, ?)"
        return int(self.read(query, State.RECEIVED, State.READ)[0][0])

    def latest(self, n: int) -> list[QueuedFilm]:
        """Return the last ``n`` films that came, the newest first."""
        return self._select("ORDER BY number DESC LIMIT ?", n)

    def failures(self, n: int = 100) -> list[QueuedFilm]:
        """Return the last ``n`` films that have failed, or whose next step has failed so far, the newest first."""
        where = "WHERE state = ? OR (tries > 0 AND state != ?)"
        return self._select(f"{where} ORDER BY number DESC LIMIT ?", State.FAILED, State.SENT, n)

    def films_a_minute(self, now: float) -> float:
        """Return how many films a minute were assessed in the last five minutes."""
        ((n,),) = self.read("SELECT count(*) FROM films WHERE assessed BETWEEN ? AND ?", now - 60 * _MINUTES, now)
        return float(n) / _MINUTES

    # --- what leaves the folder

    def older_than(self, seconds: float, now: float) -> list[QueuedFilm]:
        """Return films that came longer ago and are done with: sent, or failed.

        Films that came while the clock was ahead count as having come now: else they would stay for as long as that.
        """
        with self.written() as rows:
            rows.execute("UPDATE films SET received = ? WHERE received > ?", (now, now))
        where = "WHERE state IN (?, ?) AND received < ? ORDER BY number"
        return self._select(where, State.SENT, State.FAILED, now - seconds)

    def remove(self, number: int) -> bool:
        """Forget a film that is done with; return whether it was. Its files are the caller's, who holds ``files``.

        One that came again since, or that somebody wants to be tried again, is not done with any more.
        """
        with self.written() as rows:
            done = (number, State.SENT, State.FAILED)
            return rows.execute("DELETE FROM films WHERE number = ? AND state IN (?, ?)", done).rowcount > 0

    def notify(self) -> None:
        """Wake who waits for ``changed``."""
        with self.changed:
            self.changed.notify_all()

    def _retry(self, number: int) -> None:
        film = self.get(number)
        state = State.RECEIVED if film.state is State.FAILED else film.state
        self._set(number, state=state, tries=0, next_try=0.0, reason="")
        with self.written() as rows:
            rows.execute("UPDATE sends SET tries = 0, next_try = 0 WHERE film = ?", (number,))

    def _set(self, number: int, **values: Any) -> None:
        columns = ", ".join(f"{name} = ?" for name in values)
        with self.written() as rows:
            rows.execute(f"UPDATE films SET {columns} WHERE number = ?", (*values.values(), number))  # noqa: S608

    def _select(self, where: str, *values: Any) -> list[QueuedFilm]:
        return [_film(row) for row in self.read(f"SELECT {_COLUMNS} FROM films {where}", *values)]  # noqa: S608


def _film(row: Sequence[Any]) -> QueuedFilm:
    values = dict(zip((field.name for field in fields(QueuedFilm)), row, strict=True))
    answer = None if values["answer"] is None else json.loads(values["answer"])
    return QueuedFilm(**{**values, "state": State(values["state"]), "answer": answer, "picture": bool(row[-1])})
