"""What a prediction has done so far: a line of JSON a film, appended as films are done and read back in their order.

The file is what a run that was killed goes on from, and what all its tables are written from, one film in memory.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from io import FileIO
from pathlib import Path
from typing import Any

from cxr.detect.prediction import NotAssessed, Prediction
from cxr.files import append_whole, whole_file
from cxr.read.chest_films import Reason

JOURNAL = "films.jsonl"


@dataclass(frozen=True)
class Done:
    """One film that is done with.

    Args:
        number: its place among the films given.
        name: of the files about it, safe to show; "" where it could not be read.
        prediction: the detector's answer; None where there is none.
        failed: why it failed, with its number in place of its path; "" for a film that was refused, not failed.
        note: what else could not be done for it ("" where all was), in the same manner.
        not_assessed: of a film that was read and of which the detector says nothing.
    """

    number: int
    name: str = ""
    prediction: Prediction | None = None
    failed: str = ""
    note: str = ""
    not_assessed: NotAssessed | None = None


class Journal:
    """The journal in a run's folder; a context manager that keeps it open.

    A line that a kill cut short or that is damaged is dropped: its film is done again. ``damaged`` counts these lines.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / JOURNAL
        self.damaged = 0
        self._places: dict[int, int] = {}  # number → byte where its line begins
        self._used: set[str] = set()
        self._end = 0
        self._file: FileIO | None = None

    def __enter__(self) -> "Journal":
        self.path.touch()
        if self._take_in():
            with whole_file(self.path) as part, part.open("wb") as mended, self.path.open("rb") as file:
                mended.writelines(line for line in file if read_line(line))
            self._places, self._used = {}, set()
            self._take_in()
        self._file = self.path.open("r+b", buffering=0)
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, number: object) -> bool:
        return number in self._places

    def name(self, film: Prediction | NotAssessed) -> str:
        """Return a name for the files about a film that no other has: its study's pseudonym, numbered if taken."""
        name = film.study if film.study not in self._used else f"{film.study}-{film.number}"
        self._used.add(name)
        return name

    def add(self, done: Done) -> None:
        """Append a film; it is on disk, as far as this process can tell, when this returns.

        Raises ``OSError`` with the journal's path where the disk does not take it; then nothing of it is left there.
        """
        if self._file is None:
            raise ValueError(f"{self.path} is not open")
        line = json.dumps(as_plain(done), ensure_ascii=False, allow_nan=False).encode() + b"\n"
        append_whole(self._file, line, self.path)
        self._places[done.number] = self._end
        self._end += len(line)

    def __iter__(self) -> Iterator[Done]:
        """Yield the films in the order they were given, one in memory at a time."""
        with self.path.open("rb") as file:
            for number in sorted(self._places):
                file.seek(self._places[number])
                yield from_plain(json.loads(file.readline()))

    def predictions(self) -> Iterator[tuple[str, Prediction]]:
        """Yield name and prediction of the films that are assessed, in the order they were given."""
        for done in self:
            if done.prediction is not None:
                yield done.name, done.prediction

    def _take_in(self) -> bool:
        """Note where each film's line begins; return whether there are damaged ones, which are counted."""
        place = damaged = 0
        with self.path.open("rb") as file:
            for line in file:
                done = read_line(line)
                if done is None:
                    damaged += 1
                else:
                    self._places[done.number] = place
                    self._used.add(done.name)
                place += len(line)
        self._end = place
        self.damaged += damaged
        return damaged > 0


def read_line(line: bytes) -> Done | None:
    """Return the film of a whole line, None for a damaged one."""
    if not line.endswith(b"\n"):
        return None
    with suppress(ValueError, TypeError, KeyError, AttributeError, RecursionError):
        done = from_plain(json.loads(line))
        return done if isinstance(done.number, int) and isinstance(done.name, str) else None
    return None


def as_plain(done: Done) -> dict[str, Any]:
    """Return a film as the journal keeps it: without its SOPInstanceUID, which stands in the key alone.

    What the film is like is for those who watch over films, and left out, too.
    """
    plain = dict(vars(done))
    if done.prediction is not None:
        plain["prediction"] = dict(vars(done.prediction))  # ``asdict`` would copy each number of each box
    if done.not_assessed is not None:
        plain["not_assessed"] = asdict(done.not_assessed)
    for part in ("prediction", "not_assessed"):
        if plain[part] is not None:
            del plain[part]["sop_instance"], plain[part]["statistics"]
    return plain


def from_plain(plain: Mapping[str, Any]) -> Done:
    """Return the film that ``as_plain`` has made a dict of."""
    fields = dict(plain)
    prediction, refused = fields.pop("prediction"), fields.pop("not_assessed", None)
    return Done(
        **fields,
        prediction=None if prediction is None else _prediction(prediction),
        not_assessed=None if refused is None else NotAssessed(**{**refused, "reason": Reason(**refused["reason"])}),
    )


def _prediction(plain: dict[str, Any]) -> Prediction:
    listed = {key: tuple(plain.get(key, ())) for key in ("findings", "scores", "disagreement")}
    boxes = tuple((x0, y0, x1, y1) for x0, y0, x1, y1 in plain["boxes"])
    return Prediction(**{**plain, **listed, "boxes": boxes})
