"""The films of all shards in one order, through a database on disk: memory does not grow with their number.

The order is that of one run over all films: by path, or by the UIDs of study, series and instance.
"""

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from cxr.config.errors import ConfigError
from cxr.report.film_key import KEY, read_key
from cxr.report.journal import JOURNAL, Done, read_line
from cxr.runs.shards import FinishedShard

_TABLES = """
CREATE TABLE given (
  shard INTEGER, number INTEGER, place BLOB, path BLOB, sop BLOB, study TEXT, patient TEXT, line INTEGER,
  PRIMARY KEY (shard, number)
) WITHOUT ROWID;
CREATE TABLE merged (
  number INTEGER PRIMARY KEY, shard INTEGER, old INTEGER, path BLOB, sop BLOB, study TEXT, patient TEXT, line INTEGER
);
"""
_OWNER_ALONE = 0o600
_MANY = 5  # films that one message names


class MergedFilms:
    """The films of ``shards`` with new numbers, from 1.

    Args:
        database: a file for it that does not exist.
        shards: in their order.

    Raises ``ConfigError``, which names shards and films, where a film stands in two shards, or where the files of a
    shard do not agree with one another.
    """

    def __init__(self, database: Path, shards: Sequence[FinishedShard]) -> None:
        self._shards = {shard.number: shard for shard in shards}
        os.close(os.open(database, os.O_CREAT | os.O_EXCL, _OWNER_ALONE))  # it holds paths and UIDs
        self._films = sqlite3.connect(database)
        self._films.executescript(f"PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; {_TABLES}")
        for shard in shards:
            self._add(shard)
        self._refuse_doubles()
        self._films.execute(
            "INSERT INTO merged (shard, old, path, sop, study, patient, line)"
            " SELECT shard, number, path, sop, study, patient, line FROM given ORDER BY place, shard, number"
        )
        self._films.commit()

    def close(self) -> None:
        """Close the database."""
        self._films.close()

    def __iter__(self) -> Iterator[Done]:
        """Yield the films in their order, one in memory at a time."""
        with closing(self._films.execute("SELECT number, shard, old, line FROM merged ORDER BY number")) as rows:
            for number, shard, old, place in rows:
                with (self._shards[shard].folder / JOURNAL).open("rb") as file:
                    file.seek(place)
                    done = read_line(file.readline())
                if done is None:
                    raise ConfigError(f"{self._shards[shard].folder / JOURNAL} has changed during the merge")
                yield _renumbered(done, old, number)

    def key(self) -> Iterator[tuple[str, ...]]:
        """Yield the rows of the key."""
        with closing(
            self._films.execute("SELECT number, path, sop, study, patient FROM merged ORDER BY number")
        ) as rows:
            for number, path, sop, study, patient in rows:
                yield str(number), _text(path), _text(sop), study, patient

    def path(self, number: int) -> Path:
        """Return the path of a film."""
        (path,) = self._films.execute("SELECT path FROM merged WHERE number = ?", (number,)).fetchone()
        return Path(_text(path))

    def _add(self, shard: FinishedShard) -> None:
        """Take in what the key and the journal of a shard say, without its answers."""
        rows = (
            (shard.number, number, _place(path), _bytes(path), _bytes(sop), study, patient)
            for number, path, sop, study, patient in read_key(shard.folder / KEY)
        )
        self._films.executemany("INSERT OR REPLACE INTO given VALUES (?, ?, ?, ?, ?, ?, ?, NULL)", rows)
        lines = ((place, shard.number, number) for number, place in _lines(shard.folder / JOURNAL))
        added = self._films.executemany("UPDATE given SET line = ? WHERE shard = ? AND number = ?", lines).rowcount
        counts = "SELECT count(*), count(line) FROM given WHERE shard = ?"
        films, answered = self._films.execute(counts, (shard.number,)).fetchone()
        told = sum((shard.result["films"], shard.result["failed"], *shard.result["not_assessed"].values()))
        if not films == answered == added == told:
            raise ConfigError(
                f"{shard.folder}: {KEY} names {films} films, {JOURNAL} answers {answered} of them in {added} lines, and"
                f" result.json counts {told}; type its command again"
            )

    def _refuse_doubles(self) -> None:
        doubles = self._films.execute(
            "SELECT group_concat('film ' || number || ' of shard=' || shard, ' and ') FROM given"
            " GROUP BY place HAVING count(DISTINCT shard) > 1 LIMIT ?",
            (_MANY,),
        ).fetchall()
        if doubles:
            raise ConfigError(
                "\n  - ".join(["films stand in two shards (key.csv says which):", *(d for (d,) in doubles)])
            )


def _lines(journal: Path) -> Iterator[tuple[int, int]]:
    """Yield the number of each film of a journal, and the byte where its line begins; of a damaged line nothing."""
    place = 0
    with journal.open("rb") as file:
        for line in file:
            done = read_line(line)
            if done is not None:
                yield done.number, place
            place += len(line)


def _renumbered(done: Done, old: int, number: int) -> Done:
    """Return a film under its new number, in its texts, too."""
    return replace(
        done,
        number=number,
        prediction=done.prediction and replace(done.prediction, number=number),
        not_assessed=done.not_assessed and replace(done.not_assessed, number=number),
        failed=done.failed.replace(f"film {old}", f"film {number}", 1),
        note=done.note.replace(f"film {old}", f"film {number}", 1),
    )


def _place(path: str) -> bytes:
    """Return what sorts as the parts of a path do."""
    return b"\0".join(part.encode("utf-8", "surrogatepass") for part in Path(path).parts)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _text(content: bytes) -> str:
    return content.decode("utf-8", "surrogateescape")
