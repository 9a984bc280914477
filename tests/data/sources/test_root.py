"""Nothing that a table of a data set names is read outside the data set's folder, whichever way it is named."""

from pathlib import Path

import pytest

from cxr.data.sources.root import Root, wrong_name
from cxr.data.sources.tables import TableError


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data set with a film, and beside it a file that is none of its."""
    (tmp_path / "set/images").mkdir(parents=True)
    (tmp_path / "set/images/a.png").touch()
    (tmp_path / "set-2").mkdir()
    (tmp_path / "set-2/secret").touch()
    (tmp_path / "secret").touch()
    return tmp_path / "set"


def test_what_lies_below_the_folder_is_read_whether_it_is_there_or_not(data: Path) -> None:
    root = Root(data)
    for path in ("images/a.png", "images/missing.png", "images/../images/a.png", "images", "."):
        assert root.refusal(data / path) == ""
        assert root.check(data / path) == data / path
    assert root.refusal(data.resolve() / "images/a.png") == ""


@pytest.mark.parametrize(
    "path", ["../secret", "images/../../secret", "/etc/passwd", "../set-2/secret", "../missing", "..", "images/../.."]
)
def test_a_path_out_of_the_folder_is_refused(data: Path, path: str) -> None:
    with pytest.raises(TableError, match=r"leads to .*outside the data set .*set, expected a file below"):
        Root(data).check(data / path)


def test_a_link_out_of_the_folder_is_refused_with_what_to_type(data: Path) -> None:
    (data / "film.png").symlink_to(data.parent / "secret")
    (data / "folder").symlink_to(data.parent / "set-2")
    (data / "again.png").symlink_to("film.png")
    for path in ("film.png", "folder/secret", "folder/missing", "again.png"):
        with pytest.raises(TableError, match=r"by a link to .*secret|missing.*type data.root=THAT_FOLDER"):
            Root(data).check(data / path)


def test_links_within_the_folder_and_to_the_folder_itself_are_followed(data: Path) -> None:
    (data / "b.png").symlink_to("images/a.png")
    assert Root(data).refusal(data / "b.png") == ""
    link = data.parent / "link"
    link.symlink_to(data)
    assert Root(link).refusal(link / "images/a.png") == ""
    assert Root(link).refusal(data / "images/a.png") == ""
    assert Root(link).refusal(link / "../secret") != ""
    assert Root(link).below(data / "images/a.png") == link / "images/a.png"


def test_a_link_to_itself_is_no_way_out_and_no_traceback(data: Path) -> None:
    (data / "loop").symlink_to("loop")
    assert Root(data).refusal(data / "loop") == ""
    assert not (data / "loop").exists()


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        (None, "None is no path"), (True, "True is no path"), ({"a": 1}, "no path"), ("", "'' is no path"),
        ("a\0.png", "NUL byte"), ("\ud800.png", "no text that a file can be named with"),
        ("a" * 256, "too long for the path"), ("a/" * 3000, "too long for the path"),
    ],
)  # fmt: skip
def test_what_can_be_no_path_is_told_shortened(listed: object, message: str) -> None:
    assert message in wrong_name(listed)
    assert len(wrong_name(listed)) < 200


def test_names_of_films_can_be_in_any_language() -> None:
    assert not any(map(wrong_name, ("10 (2)d.dcm", "心臟肥大/image/1.dcm", "/image/001.dcm", "é" * 127)))
