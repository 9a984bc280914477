"""Brings objects to an archive, and again with growing pauses until it takes them."""

import logging
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from cxr.serve.archive import DAMAGED, Archive
from cxr.serve.counters import Counters, Outcome, where
from cxr.serve.queue import Queue
from cxr.serve.sends import Send, Sends, pause

LOG = logging.getLogger(__name__)

_AT_ONCE = 24  # objects in one association or request: those of eight films
_LOOK = 1.0  # seconds between two looks at what is due
_COMMITMENT = 900.0  # seconds for which a commitment is waited for


class Delivery:
    """Brings what one archive has to take there, in a thread of its own.

    Args:
        queue: of the films.
        objects: folder of the files.
        archive: where they go.
        counters: of what it takes.
        share: which films, as ``Sends`` takes it. An archive answers each object after it has written it, so that two
            who bring halves are faster than one.
    """

    def __init__(
        self, queue: Queue, objects: Path, archive: Archive, counters: Counters, share: tuple[int, int] = (0, 1)
    ) -> None:
        self._queue, self._objects, self._archive, self._counters = queue, objects, archive, counters
        self.name = archive.name
        self._sends = Sends(queue, self.name, share)
        self._failures = 0  # of the connection, one after another
        self._failed = 0.0  # when the last of them was (``time.monotonic``)
        self._last = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"to {self.name}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def finish(self, until: float) -> None:
        """End when nothing is due any more, at the latest at ``until`` (``time.monotonic``)."""
        self._last.set()
        self._queue.notify()
        self._thread.join(max(0.0, until - time.monotonic()))

    def alive(self) -> bool:
        """Return whether the thread is at work or waits for work."""
        return self._thread.is_alive()

    def _run(self) -> None:
        while True:
            try:
                due = [] if self._pauses() else self._sends.due(time.time(), _AT_ONCE)
                if due:
                    self._bring(due)
                    continue
                self._take_for_committed()
            except Exception as error:  # a full disk; the films stay as they are
                self._failures += 1
                self._failed = time.monotonic()
                again = pause(self._failures)
                LOG.warning("objects for %s wait: %s; again in %.0f s", self.name, where(error), again)
            if self._last.is_set():
                return
            with self._queue.changed:
                self._queue.changed.wait(_LOOK)

    def _pauses(self) -> bool:
        """Return whether the archive is left alone for now: it could not be reached, and nobody has asked since."""
        if self._failures == 0 or self._queue.asked > self._failed:
            return False
        return time.monotonic() < self._failed + pause(self._failures)

    def _bring(self, due: Sequence[Send]) -> None:
        pledged: set[int] = set()

        def pledge(uid: str, places: Sequence[int]) -> None:
            pledged.update(places)
            self._sends.pledged([due[place] for place in places], uid)

        stored = self._archive.store([self._objects / send.object for send in due], pledge)
        offered = due[: len(stored.refusals)]
        taken = [send for send, refusal in zip(offered, stored.refusals, strict=True) if not refusal]
        if pledged and not stored.pledged:
            pledged.clear()  # it does not commit itself: what it has stored is taken
        if not pledged:
            self._sends.taken(taken)
        for send, refusal in zip(offered, stored.refusals, strict=True):
            if refusal == DAMAGED:
                LOG.warning("film %d is detected again: one of its objects is damaged", send.film)
                self._queue.again(send.film)
            elif refusal:
                self._sends.refused([send], refusal)
            self._counters.delivery(Outcome.REFUSED if refusal else Outcome.TAKEN)
        self._note_connection(stored.broken, due[len(offered) :])

    def _note_connection(self, broken: str, left: Sequence[Send]) -> None:
        if not broken:
            self._failures = 0
            return
        self._failures += 1
        self._failed = time.monotonic()
        for _ in left:
            self._counters.delivery(Outcome.UNREACHABLE)
        self._sends.refused(left, broken, wait=False)  # the pause is the archive's, not theirs
        LOG.warning("%s %s; again in %.0f s", self.name, broken, pause(self._failures))

    def _take_for_committed(self) -> None:
        """Take what was stored long ago for committed: a node that does not know our address never says so."""
        if waited := self._sends.without_commitment(_COMMITMENT, time.time()):
            LOG.warning("%s has stored %d objects and committed itself to none", self.name, len(waited))
            self._sends.taken(waited)
