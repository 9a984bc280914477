"""What a prediction has done so far: a line of JSON a film, appended as films are done and read back in their order.

The file is what a run that was killed goes on from, and what all its tables are written from, one film in memory.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from cxr.detect.prediction import Prediction

JOURNAL = "films.jsonl"


@dataclass(frozen=True)
class Done:
    """One film that is done with.

    Args:
        number: its place among the films given.
        name: of the files about it, safe to show; "" where it failed.
        prediction: what was said of it; None where it failed.
        failed: why, with its number in place of its path.
        note: what else could not be done for it ("" where all was), in the same manner.
    """

    number: int
    name: str = ""
    prediction: Prediction | None = None
    failed: str = ""
    note: str = ""


class Journal:
    """The journal in a run's folder; a context manager that keeps it open.

    A line that a kill cut short is dropped: its film is done again.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / JOURNAL
        self._places: dict[int, int] = {}  # number → byte where its line begins
        self._used: set[str] = set()
        self._file: BinaryIO | None = None

    def __enter__(self) -> "Journal":
        self.path.touch()
        file = self.path.open("r+b")
        end = 0
        for line in file:
            if not line.endswith(b"\n"):
                break
            done = json.loads(line)
            self._places[done["number"]] = end
            self._used.add(done["name"])
            end += len(line)
        file.truncate(end)
        file.seek(end)
        self._file = file
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, number: int) -> bool:
        return number in self._places

    def name(self, prediction: Prediction) -> str:
        """Return a name for the files about a film that no other has: its study's pseudonym, numbered if taken."""
        name = prediction.study if prediction.study not in self._used else f"{prediction.study}-{prediction.number}"
        self._used.add(name)
        return name

    def add(self, done: Done) -> None:
        """Append a film; it is on disk, as far as this process can tell, when this returns."""
        if self._file is None:
            raise ValueError(f"{self.path} is not open")
        self._places[done.number] = self._file.tell()
        self._file.write(json.dumps(asdict(done), ensure_ascii=False).encode() + b"\n")
        self._file.flush()

    def __iter__(self) -> Iterator[Done]:
        """Yield the films in the order they were given, one in memory at a time."""
        with self.path.open("rb") as file:
            for number in sorted(self._places):
                file.seek(self._places[number])
                yield _done(json.loads(file.readline()))

    def predictions(self) -> Iterator[tuple[str, Prediction]]:
        """Yield name and prediction of the films that did not fail, in the order they were given."""
        for done in self:
            if done.prediction is not None:
                yield done.name, done.prediction


def _done(fields: dict[str, Any]) -> Done:
    plain = fields.pop("prediction")
    if plain is None:
        return Done(**fields)
    listed = {key: tuple(plain[key]) for key in ("findings", "scores")}
    boxes = tuple((x0, y0, x1, y1) for x0, y0, x1, y1 in plain["boxes"])
    return Done(**fields, prediction=Prediction(**{**plain, **listed, "boxes": boxes}))
