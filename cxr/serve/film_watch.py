"""Do the films of this week differ from those that the detector was chosen on? Asked before any of them has a label.

A film leaves a row of a dozen numbers (``cxr.measure.shift``) in the queue's file, with the pseudonym of its patient:
the first film of each patient in each week, as films of one patient are alike. The rows outlive their films, which
leave the folder after ``keep_hours``, and are forgotten once the week after theirs has ended.

A week is looked at when it has 25 patients, 50, 100, 200 and so on. The looks share the false alarms that a week may
have: the first gets a half, the second a sixth, the k-th 1 / k (k + 1). So a week of unchanged films is called
different with a probability of at most ``RATE``, however often the page is loaded. This holds for all but ``UNSURE`` of
the references (``cxr.measure.shift``).
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from cxr.detect.prediction import NotAssessed, Prediction
from cxr.measure.shift import FEATURES, RATE, SCORES, Reference, Shift, compare, of_scores
from cxr.report.shift_words import shift_in_words
from cxr.serve.queue import Queue

LOG = logging.getLogger(__name__)

WEEK = 7 * 24 * 3600.0
FIRST_LOOK = 25
"""Patients at the first look at a week; each further look has twice as many."""
_MONDAY = 4 * 24 * 3600.0  # 1970 began on a Thursday, so the first Monday was its fifth day
_SCHEMA = """
CREATE TABLE IF NOT EXISTS seen (
    number INTEGER PRIMARY KEY AUTOINCREMENT, week INTEGER NOT NULL, patient TEXT NOT NULL, features BLOB NOT NULL,
    UNIQUE (week, patient));
CREATE TABLE IF NOT EXISTS seen_by (reference TEXT NOT NULL);
"""


@dataclass(frozen=True)
class Week:
    """What is known of the films of a week.

    Args:
        patients: that have come, a film each.
        shift: at the look that found a difference, else at the last one; None before the first.
    """

    patients: int
    shift: Shift | None

    @property
    def differs(self) -> bool:
        """Whether the films of the week differ from the reference."""
        return self.shift is not None and self.shift.differs

    @property
    def distances(self) -> dict[str, float]:
        """The distance of each feature; none before the first look."""
        return {} if self.shift is None else {one.name: one.distance for one in self.shift.features}


class FilmWatch:
    """Keeps what films are like, and compares those of a week with the reference; any thread may call it.

    Args:
        queue: in whose file the rows stand.
        reference: of the detector.
    """

    def __init__(self, queue: Queue, reference: Reference) -> None:
        self._queue, self._reference = queue, reference
        self._looks: dict[tuple[int, int], Shift] = {}  # week and number of the look
        self._begin()

    def _begin(self) -> None:
        """Forget films that were seen for another reference: another model says other things of the same films."""
        ours = blake2b(self._reference.rows.tobytes(), digest_size=16).hexdigest()
        with self._queue.written() as rows:
            for statement in _SCHEMA.split(";"):
                rows.execute(statement)
            if rows.execute("SELECT reference FROM seen_by").fetchall() != [(ours,)]:
                rows.execute("DELETE FROM seen")
                rows.execute("DELETE FROM seen_by")
                rows.execute("INSERT INTO seen_by VALUES (?)", (ours,))

    def note(self, patient: str, received: float, said: Prediction | NotAssessed) -> None:
        """Keep what a film is like, and say so in the log where its week has begun to differ.

        A film that is refused by what its header states has no pixels to be compared, and leaves no row.
        """
        if not said.statistics:
            return
        scores = [np.nan] * len(SCORES)
        if isinstance(said, Prediction):
            scores = of_scores(said.abnormal, said.scores)
        features = np.array([*said.statistics, *scores], np.float32).tobytes()
        week = _week(received)
        with self._queue.written() as rows:
            rows.execute("DELETE FROM seen WHERE week < ?", (week - 1,))
            added = rows.execute(
                "INSERT OR IGNORE INTO seen (week, patient, features) VALUES (?, ?, ?)", (week, patient, features)
            ).rowcount
        if added and self._patients(week) in looks(self._patients(week)):
            self._say(week)

    def both(self, now: float) -> dict[str, Week]:
        """Return what is known of "this" week and of the "last" one."""
        return {"this": self.week(now), "last": self.week(now, ago=1)}

    def week(self, now: float, ago: int = 0) -> Week:
        """Return what is known of the week of a time, or of the one so many weeks before."""
        number = _week(now) - ago
        patients, shift = self._patients(number), None
        for look, count in enumerate(looks(patients), start=1):
            shift = self._look(number, look, count)
            if shift.differs:
                break
        return Week(patients, shift)

    def _say(self, week: int) -> None:
        found = [self._look(week, look, count) for look, count in enumerate(looks(self._patients(week)), start=1)]
        if found[-1].differs and not any(before.differs for before in found[:-1]):
            LOG.warning("this week: %s", shift_in_words(found[-1], "en"))

    def _look(self, week: int, look: int, count: int) -> Shift:
        """Return a look at a week, which is always the same: its first films do not change any more."""
        if (week, look) not in self._looks:
            self._looks = {key: shift for key, shift in self._looks.items() if key[0] >= week - 1}
            rows = self._rows(week, count)
            of_features = {name: rows[:, column] for column, name in enumerate(FEATURES)}
            shift = compare(self._reference, of_features, RATE / (look * (look + 1)))
            self._looks[week, look] = replace(shift, rate=RATE)  # of all looks together
        return self._looks[week, look]

    def _rows(self, week: int, count: int) -> NDArray[np.float32]:
        kept = self._queue.read("SELECT features FROM seen WHERE week = ? ORDER BY number LIMIT ?", week, count)
        whole = [features for (features,) in kept if len(features) == 4 * len(FEATURES)]  # of this version
        return np.array([np.frombuffer(features, np.float32) for features in whole]).reshape(-1, len(FEATURES))

    def _patients(self, week: int) -> int:
        return int(self._queue.read("SELECT count(*) FROM seen WHERE week = ?", week)[0][0])


def looks(patients: int) -> list[int]:
    """Return how many patients each look at a week had that has come so far."""
    return list(_looks_until(patients))


def _looks_until(patients: int) -> Iterator[int]:
    count = FIRST_LOOK
    while count <= patients:
        yield count
        count *= 2


def _week(seconds: float) -> int:
    """Return the number of the week of a time, in UTC; weeks begin on Mondays."""
    return int((seconds - _MONDAY) // WEEK)
