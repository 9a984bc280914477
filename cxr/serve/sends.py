"""Which objects of which films have to go where: rows of the queue's file, from "has to go" to "taken"."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from cxr.serve.queue import LEFT, LONGEST_PAUSE, Queue, State

_DONE = f"NOT EXISTS (SELECT 1 FROM sends WHERE film = number AND {LEFT})"  # noqa: S608 - of a row of films
_FIRST_PAUSE = 2.0  # seconds


def pause(tries: int) -> float:
    """Return how long to wait after so many tries that have failed: 2 s, twice as long each time, at most 10 min."""
    return min(_FIRST_PAUSE * 2.0 ** min(max(tries - 1, 0), 20), LONGEST_PAUSE)


@dataclass(frozen=True)
class Send:
    """One object of a film that a destination has not taken yet.

    Args:
        film: its number.
        object: name of its file.
        tries: how often it was offered in vain.
    """

    film: int
    object: str
    tries: int


class Sends:
    """What one destination still has to take.

    Args:
        queue: of the films.
        destination: AE title or URL.
        share: of its films, (0, 1): all; (1, 2): those with odd numbers.
    """

    def __init__(self, queue: Queue, destination: str, share: tuple[int, int] = (0, 1)) -> None:
        self._queue, self._destination, self._share = queue, destination, share

    def due(self, now: float, limit: int) -> list[Send]:
        """Return objects whose time has come, those of the oldest films first."""
        rows = self._queue.read(
            "SELECT film, object, tries FROM sends WHERE destination = ? AND taken IS NULL AND stored IS NULL"
            " AND (next_try <= ? OR next_try > ?) AND film % ? = ? ORDER BY film, object LIMIT ?",
            *(self._destination, now, now + LONGEST_PAUSE, self._share[1], self._share[0], limit),
        )
        return [Send(*row) for row in rows]

    def left(self) -> int:
        """Return how many objects the destination has not taken."""
        query = "SELECT count(*) FROM sends WHERE destination = ? AND taken IS NULL"
        return int(self._queue.read(query, self._destination)[0][0])

    def taken(self, sends: Sequence[Send]) -> None:
        """Note that objects were taken; a film of which nothing is left to send is sent."""
        with self._queue.written() as rows:
            rows.executemany(
                "UPDATE sends SET taken = ?, reason = '' WHERE film = ? AND object = ? AND destination = ?",
                [(time.time(), send.film, send.object, self._destination) for send in sends],
            )
            self._finish({send.film for send in sends})

    def refused(self, sends: Sequence[Send], reason: str, wait: bool = True) -> None:
        """Note that objects were not taken, and why.

        They are offered again, with ``wait`` each after a pause of its own that grows.
        """
        now = time.time()
        with self._queue.written() as rows:
            rows.executemany(
                "UPDATE sends SET tries = tries + 1, next_try = ?, reason = ?, stored = NULL, pledge = NULL"
                " WHERE film = ? AND object = ? AND destination = ?",
                [
                    (now + pause(send.tries + 1) * wait, reason, send.film, send.object, self._destination)
                    for send in sends
                ],
            )
            rows.executemany(
                "UPDATE films SET tries = tries + 1, reason = ? WHERE number = ? AND state = ?",
                [(f"{self._destination}: {reason}", number, State.ASSESSED) for number in {s.film for s in sends}],
            )

    def pledged(self, sends: Sequence[Send], pledge: str) -> None:
        """Note that objects were stored, and that the destination was asked to commit itself to them."""
        with self._queue.written() as rows:
            rows.executemany(
                "UPDATE sends SET stored = ?, pledge = ? WHERE film = ? AND object = ? AND destination = ?",
                [(time.time(), pledge, send.film, send.object, self._destination) for send in sends],
            )

    def committed(self, pledge: str, whole: bool) -> bool:
        """Note the answer to a pledge; return whether there was one.

        With ``whole``, all of its objects are taken. Without, all of them are offered again: they are the same ones.
        """
        query = "SELECT film, object, tries FROM sends WHERE destination = ? AND pledge = ? AND taken IS NULL"
        sends = [Send(*row) for row in self._queue.read(query, self._destination, pledge)]
        if sends and whole:
            self.taken(sends)
        elif sends:
            self.refused(sends, "it has not committed itself to all objects")
        return bool(sends)

    def without_commitment(self, seconds: float, now: float) -> list[Send]:
        """Return objects that were stored so long ago, and to which the destination has not committed itself.

        Those that were stored long after ``now`` are among them: the clock was wrong then.
        """
        rows = self._queue.read(
            "SELECT film, object, tries FROM sends WHERE destination = ? AND taken IS NULL"
            " AND stored NOT BETWEEN ? AND ?",
            *(self._destination, now - seconds, now + seconds),
        )
        return [Send(*row) for row in rows]

    def _finish(self, numbers: set[int]) -> None:
        update = "UPDATE films SET state = ?, sent = ?, tries = 0, reason = '' WHERE number = ? AND state = ? AND "
        values = [(State.SENT, time.time(), number, State.ASSESSED) for number in numbers]
        with self._queue.written() as rows:
            rows.executemany(update + _DONE, values)


def leave_out(queue: Queue, destinations: Sequence[str]) -> dict[str, int]:
    """Wait no longer for destinations that are none of these; return how many objects each has not taken.

    Their films count as sent as soon as all others have taken theirs. Nothing is forgotten: a destination that is one
    again, while the films are still here, is brought what it lacks.
    """
    with queue.written() as rows:
        rows.execute("DELETE FROM left_out")
        waited = rows.execute("SELECT destination, count(*) FROM sends WHERE taken IS NULL GROUP BY destination")
        out = {name: objects for name, objects in waited.fetchall() if name not in destinations}
        rows.executemany("INSERT INTO left_out VALUES (?)", [(name,) for name in out])
        update = "UPDATE films SET state = ?, sent = ? WHERE state = ? AND "
        rows.execute(update + _DONE, (State.SENT, time.time(), State.ASSESSED))
        rows.execute(f"{update} NOT {_DONE}", (State.ASSESSED, None, State.SENT))
    return out
