"""Films as a user names them."""

from pathlib import Path

import pytest

from cxr.data.inputs import is_course, read_inputs

DICOM = bytes(128) + b"DICM"


@pytest.fixture
def course(tmp_path: Path) -> Path:
    """The course's test films, with Excel's encoding and a leading slash; the second one is missing."""
    (tmp_path / "test/image").mkdir(parents=True)
    for name in ("001.dcm", "003.dcm"):
        (tmp_path / "test/image" / name).write_bytes(DICOM)
    rows = ["ID,Width,Height,Filename,ImagePath", *(f"T{n},5,5,{n:03}.dcm,/image/{n:03}.dcm" for n in (3, 2, 1))]
    (tmp_path / "test.csv").write_text("\n".join(rows), encoding="utf-8-sig")
    return tmp_path


def test_the_courses_table_gives_its_ids_in_its_order(course: Path) -> None:
    for place in (course / "test.csv", course):
        films = read_inputs(place)
        assert is_course(films)
        assert [(film.number, film.id, film.path.name) for film in films] == [
            (1, "T3", "003.dcm"), (2, "T2", "002.dcm"), (3, "T1", "001.dcm"),
        ]  # fmt: skip
        assert films[0].path == course / "test/image/003.dcm"
        assert str(films[1]) == str(course / "test/image/002.dcm")  # told by whoever reads it, with the others done


def test_a_table_without_sizes_is_enough_and_may_have_another_name(course: Path) -> None:
    (course / "mine.csv").write_text("ImagePath,ID\nimage/001.dcm,a\n")
    assert [(film.id, film.path.is_file()) for film in read_inputs(course / "mine.csv")] == [("a", True)]


def test_an_id_that_stands_twice_is_an_error(course: Path) -> None:
    (course / "test.csv").write_text("ID,ImagePath\na,image/001.dcm\nb,image/003.dcm\na,image/003.dcm\n")
    with pytest.raises(ValueError, match="row 4: the same ID as row 2"):
        read_inputs(course)


def test_a_plain_list_of_paths_is_relative_to_its_own_folder(course: Path) -> None:
    listed = course / "list.txt"
    listed.write_text(f'test/image/003.dcm\n\n"{course}/test/image/001.dcm"\n')
    films = read_inputs(listed)
    assert [film.path.name for film in films] == ["003.dcm", "001.dcm"]
    assert all(film.path.is_file() for film in films)
    assert not is_course(films)


def test_a_folder_and_a_film(course: Path) -> None:
    films = read_inputs(course / "test")
    assert [film.path.name for film in films] == ["001.dcm", "003.dcm"]
    assert not is_course(films)
    assert [film.path for film in read_inputs(films[1].path)] == [films[1].path]


def test_nothing_to_look_at_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no film"):
        read_inputs(tmp_path)
    (tmp_path / "empty.csv").write_text("\n")
    with pytest.raises(ValueError, match="lists no film"):
        read_inputs(tmp_path / "empty.csv")
