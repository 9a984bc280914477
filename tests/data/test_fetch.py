"""Copies of an archive's films hold names: whatever rights their folder has, nobody but its owner reads them."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from cxr.data import fetch as fetching
from cxr.data.archive import Instance
from cxr.data.archive_query import Query
from cxr.data.fetch import fetch
from cxr.data.shards import Shard


class Archive:
    """An archive with two films of one patient's two studies."""

    def instances(self, query: Query) -> list[Instance]:
        return [Instance("http://archive", study, "1.2", f"{study}.7") for study in ("1.1", "1.2")]

    def retrieve(self, instance: Instance) -> bytes:
        return b"Secret^Name"


@pytest.fixture(autouse=True)
def open_to_all(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever this process makes may be read by everybody, unless it says otherwise."""
    monkeypatch.setattr(fetching, "usable_cores", lambda: 1)  # in this process
    before = os.umask(0)
    yield
    os.umask(before)


def rights(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("there", [False, True], ids=["a new folder", "a folder that others may read"])
def test_the_folders_of_copied_films_are_their_owners_alone(tmp_path: Path, there: bool) -> None:
    folder = tmp_path / "copied"
    if there:
        folder.mkdir(mode=0o755)
    archive: fetching.Archive = Archive()  # type: ignore[assignment]
    assert fetch(archive, Query("", ("CR",), Shard()), folder) == []
    assert rights(folder) == (0o755 if there else 0o700)  # who made it decides over it
    studies = list(folder.iterdir())
    assert [rights(study) for study in studies] == [0o700, 0o700]
    assert [film.read_bytes() for study in studies for film in study.iterdir()] == [b"Secret^Name"] * 2
