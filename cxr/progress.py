"""How far a long piece of work is: a bar on a terminal; elsewhere (a log file, CI, SLURM) a line at least every 30 s.

Pieces of work may be nested: where there is no terminal, only the innermost one is reported. All of it goes to standard
error, so that standard output keeps the results. Of several processes of one run the first one reports the work that
all do. Work that one of them does for all, such as drawing films, is reported by that one.
"""

import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

_Item = TypeVar("_Item")

EVERY_S = 25.0
"""Seconds of silence before a line. Less than 30: Python may be held up while it computes."""
_POLL_S = 1.0


@dataclass(eq=False)
class Work:
    """A piece of work that takes long, and how far it is.

    Args:
        what: it is, in words: "Decoding films".
        total: its items; None where they are not known, or where it is one.
        done: items that are done.
        unit: what an item is called, where the words do not say it.
        detail: more to show now, such as losses, or the time left for the whole that this work is a part of.
    """

    what: str
    total: int | None = None
    done: int = 0
    unit: str = ""
    detail: str = ""
    _started: float = field(default_factory=lambda: _clock())
    _begun_at: int = 0  # items that were done before this process began
    _bar: TaskID | None = None

    def __post_init__(self) -> None:
        self._begun_at = self.done

    def advance(self, items: int = 1) -> None:
        """Count items as done."""
        self.done += items
        _voice.show(self)

    def restart(self, what: str, total: int | None) -> None:
        """Begin with the next part, as an epoch follows an epoch."""
        self.what, self.total, self.done, self._begun_at, self._started = what, total, 0, 0, _clock()
        _voice.show(self)

    def line(self) -> str:
        """Return how far it is, in a line."""
        parts = [self.what if self.total is None else f"{self.what}: {self._unit}{self.done} of {self.total}"]
        parts.append(in_words(_clock() - self._started))
        left = self._seconds_left()
        if left is not None and not self.detail:
            parts.append(f"about {in_words(left)} left")
        return ", ".join([*parts, self.detail] if self.detail else parts)

    @property
    def _unit(self) -> str:
        return f"{self.unit} " if self.unit else ""

    def _seconds_left(self) -> float | None:
        done = self.done - self._begun_at
        if self.total is None or not done or self.done >= self.total:
            return None
        return (_clock() - self._started) / done * (self.total - self.done)


def in_words(seconds: float) -> str:
    """Return a duration as a person says it: 8 s, 4 min, 1 h 20 min, 3 d 4 h."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{hours // 24} d {hours % 24} h" if hours % 24 else f"{hours // 24} d"


@contextmanager
def working(what: str, total: int | None = None, done: int = 0, unit: str = "", end: bool = True) -> Iterator[Work]:
    """Say how far the work in this block is, until the block ends.

    ``what``, ``total``, ``done`` and ``unit`` are those of ``Work``; ``end`` says at the end how long it took, if there
    is a total.
    """
    work = Work(what, total, done, unit)
    _voice.begin(work)
    try:
        yield work
    finally:
        _voice.end(work)
        if end and total:
            say(f"{what}: {work.done} of {total} in {in_words(_clock() - work._started)}")


def track(items: Iterable[_Item], what: str, total: int | None = None, end: bool = True) -> Iterator[_Item]:
    """Yield ``items`` and say how many are done; ``total`` where they have no length, ``end`` as in ``working``."""
    length = total if total is not None or not isinstance(items, Sized) else len(items)
    with working(what, length, end=end) as work:
        for item in items:
            yield item
            work.advance()


def say(text: str) -> None:
    """Print a line of one's own; a bar stays below it."""
    _voice.say(text)


def _clock() -> float:
    return time.monotonic()


class _Voice:
    """The work of this process, and how its progress is shown."""

    def __init__(self) -> None:
        self._works: list[Work] = []
        self._last = 0.0  # when progress was last shown
        self._terminal = False
        self._bars: Progress | None = None
        self._speaker: threading.Thread | None = None
        self._done = threading.Event()

    def begin(self, work: Work) -> None:
        self._works.append(work)
        if len(self._works) == 1:
            self._terminal = _on_a_terminal()
        if self._terminal:
            self.show(work)
        elif len(self._works) == 1:
            self._last = _clock()
            self._done = threading.Event()
            self._speaker = threading.Thread(target=self._speak, args=(self._done,), daemon=True)
            self._speaker.start()

    def end(self, work: Work) -> None:
        self._works.remove(work)
        if self._bars is not None and work._bar is not None:
            self._bars.remove_task(work._bar)
            if not self._bars.task_ids:
                self._bars.stop()
                self._bars = None
        if not self._works:
            self._done.set()

    def show(self, work: Work) -> None:
        if work not in self._works or not self._terminal or work.total is None:
            return
        if self._bars is None or work._bar is None:
            self._begin_bar(work)
        else:
            self._bars.update(
                work._bar, description=work.what, total=work.total, completed=work.done, detail=_short(work.detail)
            )

    def say(self, text: str) -> None:
        self._last = _clock()
        console = self._bars.console if self._bars is not None else Console(stderr=True)
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    def tick(self) -> None:
        """Show how far the innermost work is where nothing was shown for long."""
        works = self._works[-1:]  # a copy: the main thread may end it now
        if works and _clock() - self._last >= EVERY_S:
            self.say(works[0].line())

    def _begin_bar(self, work: Work) -> None:
        if self._bars is None:
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            detail = TextColumn("{task.fields[detail]}")
            self._bars = Progress(
                *columns, TimeRemainingColumn(), detail, console=Console(stderr=True), transient=True,
                redirect_stdout=sys.stdout.isatty(),  # else lines on their way into a file would be shown here instead
            )  # fmt: skip
            self._bars.start()
        work._bar = self._bars.add_task(work.what, total=work.total, completed=work.done, detail=_short(work.detail))

    def _speak(self, done: threading.Event) -> None:
        while not done.wait(_POLL_S):
            self.tick()


def _short(detail: str) -> str:
    return detail.partition(" (")[0]  # beside a bar there is no room for what is in brackets


def _on_a_terminal() -> bool:
    return Console(stderr=True).is_terminal and sys.stderr.isatty()  # rich alone takes CI with colours for a terminal


_voice = _Voice()
