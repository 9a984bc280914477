"""The folder of a phantom set, which is drawn once, goes on where it was interrupted, and never mixes with other files.

``<name>.unfinished.json`` holds the settings of a set that is being drawn, ``<name>.json`` those of a complete one.
"""

import csv
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from filelock import FileLock

from cxr.files import read_mapping, write_json
from cxr.progress import track
from cxr.read.workers import in_order

_LOCK = ".phantom.lock"

_Job = TypeVar("_Job")
_Drawn = TypeVar("_Drawn")


class PhantomError(ValueError):
    """The error of a folder that does not hold the phantoms that were asked for."""


@dataclass(frozen=True)
class DrawnSet:
    """A set of phantoms in a folder.

    Args:
        root: the folder.
        kind: what the set consists of, for messages: "films".
        name: how the files of settings begin.
        settings: all that decides what is drawn.
        elsewhere: what to type to read such data that is no phantom, for messages.
    """

    root: Path
    kind: str
    name: str
    settings: Mapping[str, float | str]
    elsewhere: str

    def complete(self, fill: Callable[[], None], draw: bool) -> None:
        """Call ``fill``, which draws what is missing, unless the set is complete.

        Raises ``PhantomError`` when the folder holds a set drawn with other settings, or other files. With ``draw``
        False nothing is written, and it is raised also when the set is not complete.
        """
        if self._is_complete():
            return
        if not draw:
            raise self._undrawn()
        self.root.mkdir(parents=True, exist_ok=True)
        with FileLock(self.root / _LOCK):  # the jobs of a sweep start together
            if not self._is_complete():
                write_json(self._unfinished, dict(self.settings))
                fill()
                self._unfinished.replace(self._stamp)

    @property
    def _stamp(self) -> Path:
        return self.root / f"{self.name}.json"

    @property
    def _unfinished(self) -> Path:
        return self.root / f"{self.name}.unfinished.json"

    def _is_complete(self) -> bool:
        """Return whether the whole set is there. Raises ``PhantomError`` for another set and for other files."""
        if self.root.exists() and not self.root.is_dir():
            raise PhantomError(
                f"{self.root} is a file, expected a folder for phantom {self.kind}: give data.root another one"
            )
        there = sorted(path.name for path in self.root.iterdir()) if self.root.exists() else []
        # In this order, because a process that ends its drawing now renames the first of these files to the second
        for path in (self._unfinished, self._stamp):
            try:
                self._refuse_other(read_mapping(path))
            except FileNotFoundError:
                continue
            return path == self._stamp
        # Drawing that is killed before the first phantom leaves a lock, and a file of settings that has no name yet
        if foreign := [name for name in there if name != _LOCK and not name.endswith(".part")]:
            raise PhantomError(
                f"{self.root} holds {len(foreign)} files or folders that are no phantom {self.kind} (first: "
                f"{foreign[0]}), expected an absent or empty folder to draw into. Give data.root another folder, or "
                f"read {self.kind} of your own with {self.elsewhere}"
            )
        return False

    def _refuse_other(self, drawn: Mapping[str, object]) -> None:
        asked = self.settings
        if differ := [key for key in {**drawn, **asked} if drawn.get(key) != asked.get(key)]:
            listed = ", ".join(f"{key} {drawn.get(key)} (asked for: {asked.get(key)})" for key in differ)
            raise PhantomError(
                f"{self.root} holds phantom {self.kind} drawn with {listed}. Give data.root another folder, or delete "
                "this one to have it drawn anew"
            )

    def _undrawn(self) -> PhantomError:
        asked = ", ".join(f"{name} {value}" for name, value in self.settings.items() if name != "drawing")
        return PhantomError(
            f"{self.root}: the phantoms that the checkpoint was trained with are not there, or not all of them, and"
            " none are drawn because a checkpoint names them. Type data.root=FOLDER, where they are now; or, to have"
            f" them drawn ({asked}), +data.read.draw=true"
        )


def draw_all(work: Callable[[_Job], _Drawn], jobs: Sequence[_Job], workers: int | None, kind: str) -> list[_Drawn]:
    """Return what ``work`` returns for each job, in ``workers`` processes (None means one for each core)."""
    drawn = in_order(work, jobs, workers or os.cpu_count() or 1)
    return list(track(drawn, f"Drawing phantom {kind}", total=len(jobs)))


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a csv file in UTF-8."""
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *rows])
