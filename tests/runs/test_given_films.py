"""The films of predict.py: which settings name them, and a part of a folder or of a list."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from cxr.config.errors import ConfigError
from cxr.data.inputs import read_inputs
from cxr.runs.given_films import GivenFilms, given_films, refuse_settings

DICOM = bytes(128) + b"DICM"
NOTHING = {"images": "films", "dates": None, "modality": None, "token": None, "shard": None, "shards": None}


def settings(**words: Any) -> Any:
    return OmegaConf.create({**NOTHING, **words})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with 20 films, one of which sorts otherwise as a text than as a path, and a file that is none."""
    films = tmp_path / "films"
    for name in ("a/1.dcm", "a-1.dcm", *(f"b/{n}.dcm" for n in range(18))):
        (films / name).parent.mkdir(parents=True, exist_ok=True)
        (films / name).write_bytes(DICOM)
    (films / "readme.txt").write_text("no film")
    return films


def paths(given: GivenFilms) -> list[Path]:
    return [film.path for film in given.left(())]


def test_shards_of_a_folder_hold_each_film_once_and_in_its_order(folder: Path, tmp_path: Path) -> None:
    parts = []
    for shard in range(3):
        run = tmp_path / f"run{shard}"
        run.mkdir()
        parts.append(paths(given_films(settings(images=str(folder), shard=shard, shards=3), run)))
    whole = [film.path for film in read_inputs(folder)]
    assert sorted(film for part in parts for film in part) == whole
    assert all(part == [film for film in whole if film in part] for part in parts)
    assert all(parts)
    assert paths(given_films(settings(images=str(folder), shard=0, shards=1), tmp_path)) == whole


def test_a_shard_is_the_same_where_its_folder_stands_elsewhere_and_goes_on_with_its_list(
    folder: Path, tmp_path: Path
) -> None:
    words = {"shard": 0, "shards": 2}
    first = given_films(settings(images=str(folder), **words), tmp_path)
    before = [path.relative_to(folder) for path in paths(first)]
    moved = folder.rename(tmp_path / "moved elsewhere")
    (tmp_path / "run").mkdir()
    again = given_films(settings(images=str(moved), **words), tmp_path / "run")
    assert [path.relative_to(moved) for path in paths(again)] == before
    for n in range(9):
        (moved / f"new {n}.dcm").write_bytes(DICOM)
    later = given_films(settings(images=str(moved), **words), tmp_path / "run")
    assert (paths(later), later.digest) == (paths(again), again.digest)


def test_a_shard_of_a_list_keeps_its_lines_and_their_order(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("films/b/9.dcm\nfilms/b/1.dcm\nfilms/b/5.dcm\nfilms/readme.txt\n")
    parts = []
    for shard in (0, 1):
        (tmp_path / str(shard)).mkdir()
        given = given_films(settings(images=str(tmp_path / "list.txt"), shard=shard, shards=2), tmp_path / str(shard))
        parts.append([path.name for path in paths(given)])
    names = ["9.dcm", "1.dcm", "5.dcm", "readme.txt"]  # what a user lists is meant
    assert sorted(parts[0] + parts[1]) == sorted(names)
    assert all(part == [name for name in names if name in part] for part in parts)


def test_a_film_and_the_courses_table_have_no_shards(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "test.csv").write_text("ID,ImagePath\na,films/a/1.dcm\n")
    for images, message in ((folder / "a-1.dcm", "is one film"), (tmp_path / "test.csv", "is the course's table")):
        with pytest.raises(ValueError, match=f"{message}.*leave shard and shards out"):
            given_films(settings(images=str(images), shard=0, shards=2), tmp_path)


def test_an_empty_folder_is_told_to_each_shard(tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    with pytest.raises(ValueError, match="holds no file"):
        given_films(settings(images=str(tmp_path / "nothing"), shard=1, shards=2), tmp_path)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"dates": 20200101}, "dates=… chooses films of an archive; images=films is none"),
        ({"modality": "CR"}, "modality=… chooses films of an archive"),
        ({"token": "secret"}, "token=… chooses films of an archive"),
        ({"images": "dicomweb://pacs/rs", "dates": 20201301}, "dates is '20201301', expected days as YYYYMMDD"),
        ({"images": "dicomweb://pacs/rs", "token": "nowhere"}, "token=nowhere: there is no such file"),
        ({"shard": 0}, "shard=… and shards=… belong together"),
        ({"shards": 2}, "shard=… and shards=… belong together"),
        ({"shard": 2, "shards": 2}, "shard is 2, expected 0 or more, and less than shards=2"),
        ({"shard": -1, "shards": 2}, "shard is -1"),
        ({"shard": "3/100", "shards": 2}, "shard is '3/100', expected a number"),
    ],
)
def test_settings_that_name_no_films_are_refused(words: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        refuse_settings(settings(**words))


def test_a_missing_client_is_told_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'cxr\[serve\]'"):
        refuse_settings(settings(images="dicomweb://pacs/rs"))
