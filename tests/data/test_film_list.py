"""Lists of films: written once, read film by film, without a look at the films."""

import builtins
import json
import os
from pathlib import Path

import pytest

from cxr.data.film_list import LIST, FilmList, kept_list
from cxr.data.folder import film_paths
from cxr.data.inputs import Input
from cxr.files import DamagedFileError
from cxr.read.files import names_below

DICOM = bytes(128) + b"DICM"


def of(path: Path, unseen: bool = False) -> FilmList:
    return FilmList(path, lambda number, name: Input(number, Path(name)), unseen)


def test_films_come_by_number_and_those_that_are_done_do_not_come_again(tmp_path: Path) -> None:
    names = ["ward/a.dcm", "ward/\nb.dcm", os.fsdecode(b"\xa4\xfd.dcm")]  # a line break, and Big5
    kept_list(tmp_path / LIST, ["ward", 0, 1], lambda: names)
    films = of(tmp_path / LIST)
    assert len(films) == 3
    assert [str(films[index].path) for index in range(3)] == names
    assert [(film.number, str(film.path)) for film in films.left({2})] == [(1, names[0]), (3, names[2])]


def test_it_is_written_once_and_anew_for_other_words(tmp_path: Path) -> None:
    path = tmp_path / LIST
    kept_list(path, ["ward", 0, 1], lambda: ["a.dcm"])
    kept_list(path, ["ward", 0, 1], lambda: ["a.dcm", "came later.dcm"])
    assert len(of(path)) == 1
    kept_list(path, ["ward", 0, 2], lambda: ["b.dcm"])
    assert str(of(path)[0].path) == "b.dcm"


def test_a_listing_that_is_killed_leaves_no_list(tmp_path: Path) -> None:
    def killed() -> list[str]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        kept_list(tmp_path / LIST, ["ward"], killed)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_list_is_told(tmp_path: Path) -> None:
    (tmp_path / LIST).write_text('["ward')
    with pytest.raises(DamagedFileError, match="remove it, and the films are listed again"):
        kept_list(tmp_path / LIST, ["ward"], list)


@pytest.mark.skipif(os.name != "posix", reason="owners are told apart otherwise")
def test_only_its_owner_may_read_it(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        kept_list(tmp_path / LIST, ["ward"], lambda: ["a.dcm"])
    finally:
        os.umask(before)
    assert (tmp_path / LIST).stat().st_mode & 0o777 == 0o600


def test_names_are_listed_without_a_look_at_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ward").mkdir()
    for name in ("ward/a.dcm", "ward/readme.txt", "b.png"):
        (tmp_path / name).write_bytes(DICOM)

    def opened(*_: object, **__: object) -> None:
        raise AssertionError("a file is opened")

    with monkeypatch.context() as patch:
        for place, name in ((builtins, "open"), (os, "open"), (os, "stat"), (Path, "open"), (Path, "stat")):
            patch.setattr(place, name, opened)
        names = sorted(names_below(tmp_path))
    assert names == [str(tmp_path / name) for name in ("b.png", "ward/a.dcm", "ward/readme.txt")]


def test_what_is_no_film_is_passed_over_when_its_turn_comes_as_a_folder_leaves_it_out(tmp_path: Path) -> None:
    (tmp_path / "ward").mkdir()
    (tmp_path / "ward/film").write_bytes(DICOM)
    (tmp_path / "ward/broken.dcm").write_bytes(b"<html>")  # says that it is one: reading it tells why it is none
    (tmp_path / "ward/readme.txt").write_text("no film")
    (tmp_path / "ward/gone.dcm").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "ward/pipe.dcm")
    names = sorted(names_below(tmp_path / "ward"))
    kept_list(tmp_path / LIST, ["ward"], lambda: names)
    films = of(tmp_path / LIST, unseen=True)
    assert len(films) == len(names) == 5
    assert [film.path for film in films.left(())] == film_paths(tmp_path / "ward")
    assert [film.path.name for film in films.left(())] == ["broken.dcm", "film", "gone.dcm"]
    assert [film.number for film in films.left(())] == [names.index(str(film.path)) + 1 for film in films.left(())]
    assert [film.path.name for film in of(tmp_path / LIST).left(())] == [Path(name).name for name in names]
    assert json.loads((tmp_path / LIST).read_text().splitlines()[0]) == ["ward"]
