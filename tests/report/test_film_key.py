"""The key of a prediction: for its owner alone, whole after a kill, and paths as they were given."""

import csv
import os
from pathlib import Path

import pytest

from cxr.data.inputs import Input
from cxr.report.film_key import KEY, FilmKey, folder_of, image_name


def rows(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / KEY).read_text(encoding="utf-8", errors="surrogateescape").splitlines()))


def test_it_says_which_film_is_which_object_in_the_order_given(tmp_path: Path) -> None:
    with FilmKey(tmp_path) as key:
        key.add(Input(2, Path("ward/Wang, Ming.dcm")), "1.2.3", "p2", "q2")
        key.add(Input(1, Path("ward/broken.dcm")))
    FilmKey(tmp_path).put_in_order()
    assert rows(tmp_path) == [
        {"number": "1", "path": "ward/broken.dcm", "SOPInstanceUID": "", "study": "", "patient": ""},
        {"number": "2", "path": "ward/Wang, Ming.dcm", "SOPInstanceUID": "1.2.3", "study": "p2", "patient": "q2"},
    ]


@pytest.mark.skipif(os.name != "posix", reason="owners are told apart otherwise")
def test_only_its_owner_may_read_it(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with FilmKey(tmp_path) as key:
            assert (tmp_path / KEY).stat().st_mode & 0o777 == 0o600
            key.add(Input(1, Path("a.dcm")))
        FilmKey(tmp_path).put_in_order()
    finally:
        os.umask(before)
    assert (tmp_path / KEY).stat().st_mode & 0o777 == 0o600


def test_a_row_cut_short_and_one_written_twice_are_one_row(tmp_path: Path) -> None:
    with FilmKey(tmp_path) as key:
        key.add(Input(1, Path("a.dcm")), "1.1", "p1", "q1")
        key.add(Input(2, Path("b.dcm")), "1.2", "p2", "q2")
    (tmp_path / KEY).write_bytes((tmp_path / KEY).read_bytes()[:-9])
    with FilmKey(tmp_path) as key:
        key.add(Input(2, Path("b.dcm")), "1.2", "p2", "q2")
        key.add(Input(2, Path("b.dcm")), "1.2", "p2", "q2")
    FilmKey(tmp_path).put_in_order()
    assert [(row["number"], row["SOPInstanceUID"]) for row in rows(tmp_path)] == [("1", "1.1"), ("2", "1.2")]


def test_a_name_that_is_no_utf8_comes_through(tmp_path: Path) -> None:
    name = os.fsdecode(b"Wang \xa4\xfd.dcm")  # Big5
    with FilmKey(tmp_path) as key:
        key.add(Input(1, Path(name)))
    FilmKey(tmp_path).put_in_order()
    assert rows(tmp_path)[0]["path"] == name


def test_names_are_relative_to_what_the_user_named(tmp_path: Path) -> None:
    folder = tmp_path / "films"
    (folder / "ward").mkdir(parents=True)
    film = folder / "ward" / "1.dcm"
    for path in (film, folder / "list.csv"):
        path.touch()
    assert image_name(film, folder_of(folder)) == "ward/1.dcm"
    assert image_name(film, folder_of(folder / "list.csv")) == "ward/1.dcm"
    assert image_name(film, folder_of(film)) == "1.dcm"
    assert image_name(tmp_path / "else.dcm", folder) == (tmp_path / "else.dcm").as_posix()
