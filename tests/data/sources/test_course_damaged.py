"""The course layout with any one thing wrong: marks that cannot be marks, truth off the film, paths that lead out."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from cxr.data.inputs import read_inputs
from cxr.data.sources.course import read_course
from cxr.data.sources.course_files import read_mark
from cxr.data.sources.course_test_set import list_course_test, read_course_test
from cxr.data.sources.tables import TableError
from cxr.findings import FindingVocabulary

MARK = "train/scoliosis/mark/x.dcm.jpg"


@pytest.fixture
def marked(course: Any) -> Any:
    """One film of 120 × 100 with a mark, one normal, and a test film with its truth."""
    course.row("A", "scoliosis", [(30, 50, 80, 90)], name="x.dcm")
    course.row("B", "normal", name="n.dcm")
    course.test("T1", [("scoliosis", 0.25, 0.75, 0.5, 0.9)])
    return course


def paint(path: Path, pixels: Any) -> None:
    path.write_bytes(cv2.imencode(".png", np.asarray(pixels, np.uint8))[1].tobytes())


def exchanged(width: int, height: int) -> Any:
    """A mark with black and white exchanged."""
    mark = np.full((height, width), 255)
    mark[20:40, 20:60] = 0
    return mark


@pytest.mark.parametrize("mark", [np.full((100, 120), 255), np.full((100, 120), 200), exchanged(120, 100)])
def test_a_mark_that_is_white_up_to_all_borders_is_no_box_of_the_whole_film(
    marked: Any, findings: FindingVocabulary, mark: Any
) -> None:
    paint(marked.root / MARK, mark)
    with pytest.raises(TableError, match=r"row 2: .*x\.dcm\.jpg is white up to all four borders, expected a black"):
        read_course(marked.save(), findings)


def test_the_largest_finding_reaches_three_borders_at_most(tmp_path: Path, mark_picture: Callable[..., Path]) -> None:
    # the lungs of a film that is cropped to them: one of the real ones covers 99 % of its film
    path = mark_picture(tmp_path / "lungs.jpg", 381, 328, [(1, 0, 379, 328)])
    np.testing.assert_allclose(read_mark(path, (381, 328)) * (381, 328, 381, 328), [[1, 0, 379, 328]], atol=2)


@pytest.mark.parametrize(
    ("size", "refused"),
    [
        ((120, 100), False), ((60, 50), False), ((31, 26), False), ((240, 200), False), ((121, 100), False),
        ((100, 120), True), ((100, 100), True), ((60, 60), True), ((120, 90), True), ((512, 512), True),
    ],
)  # fmt: skip
def test_a_mark_of_another_shape_than_its_film_is_that_of_another_film(
    marked: Any, findings: FindingVocabulary, mark_picture: Callable[..., Path], size: tuple[int, int], refused: bool
) -> None:
    width, height = size
    mark_picture(marked.root / MARK, width, height, [(5, 5, width // 2, height // 2)])
    if refused:
        shapes = f"is {width} × {height} pixels, expected the shape of its film, which is 120 × 100"
        with pytest.raises(TableError, match=rf"row 2: .*x\.dcm\.jpg {shapes}"):
            read_course(marked.save(), findings)
    else:
        assert read_course(marked.save(), findings)[0].findings == ("scoliosis",)


def test_the_shape_that_counts_is_that_of_the_films_file(marked: Any, findings: FindingVocabulary) -> None:
    marked.rows[0] |= {"Width": 5000, "Height": 10}
    assert len(read_course(marked.save(), findings)) == 3


@pytest.mark.parametrize("content", [b"", b"no picture", b"\xff\xd8\xff\xe0", b"GIF89a"])
def test_a_mark_that_is_no_picture_is_named(marked: Any, findings: FindingVocabulary, content: bytes) -> None:
    (marked.root / MARK).write_bytes(content)
    with pytest.raises(TableError, match=r"row 2: .*x\.dcm\.jpg is not a picture"):
        read_course(marked.save(), findings)


def test_a_mark_of_more_pixels_than_any_film_is_not_decoded(marked: Any, findings: FindingVocabulary) -> None:
    paint(marked.root / MARK, np.zeros((9_500, 9_000), np.uint8))
    with pytest.raises(TableError, match=r"has 9000 × 9500 pixels, more than any film"):
        read_course(marked.save(), findings)


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({"xmin": "nan"}, "not finite"), ({"ymax": "inf"}, "not finite"), ({"ymax": "1e400"}, "not finite"),
        ({"xmin": 0.75}, "x0 < x1"), ({"xmin": 0.9}, "x0 < x1"), ({"ymin": ""}, "'' is no number"),
        ({"ymin": "0_1"}, "'0_1' is no number"), ({"ymin": "x" * 500}, "is no number"),
        ({"xmax": 1.5}, "is not on its film"), ({"xmin": -0.5}, "is not on its film"), ({"ymax": 1e30}, "on its film"),
        ({"xmin": 30, "xmax": 90, "ymin": 50, "ymax": 90}, "is not on its film, expected 0 <= x0 < x1 <= 120"),
    ],
)  # fmt: skip
def test_boxes_of_the_truth_that_nobody_can_find_are_refused(
    marked: Any, findings: FindingVocabulary, cells: dict[str, Any], message: str
) -> None:
    marked.truth.append(marked.truth[0] | cells)
    with pytest.raises(TableError, match=rf"test_truth\.csv: 1 problems\n  row 3: .*{message}") as error:
        read_course(marked.save(), findings)
    assert len(str(error.value)) < 400


def test_truth_that_overhangs_by_a_pixel_is_cut_and_a_row_that_stands_twice_counts_once(
    marked: Any, findings: FindingVocabulary
) -> None:
    marked.truth[0] |= {"xmax": 1.005}
    marked.truth *= 2
    film = read_course(marked.save(), findings)[2]
    np.testing.assert_allclose(film.boxes, [[30, 50, 120, 90]], rtol=1e-6)


def test_truth_that_is_normal_and_not_is_a_contradiction(marked: Any, findings: FindingVocabulary) -> None:
    marked.truth.append({"ID": "T1", "category": "normal", "xmin": "", "xmax": "", "ymin": "", "ymax": ""})
    with pytest.raises(TableError, match="both normal and scoliosis, first in row 2"):
        read_course(marked.save(), findings)


OUT = ("../../secret.dcm", "/../../secret.dcm", "scoliosis/../../../secret.dcm", "..\\..\\secret.dcm")


@pytest.mark.parametrize("column", ["ImagePath", "MarkPath"])
@pytest.mark.parametrize("path", OUT)
def test_a_path_of_the_training_table_that_leads_out_is_refused(
    marked: Any, findings: FindingVocabulary, column: str, path: str
) -> None:
    (marked.root.parent / "secret.dcm").write_bytes(b"not yours")
    marked.rows[0][column] = path
    with pytest.raises(TableError, match=rf"row 2: .*{column} .* leads to .*secret\.dcm, outside the data set"):
        read_course(marked.save(), findings)


@pytest.mark.parametrize("path", ["../../secret.dcm", "..\\..\\secret.dcm", "../../missing.dcm", "/../../../dev/zero"])
def test_a_path_of_the_test_table_that_leads_out_is_refused_by_every_script(marked: Any, path: str) -> None:
    (marked.root.parent / "secret.dcm").write_bytes(b"not yours")
    marked.tests[0]["ImagePath"] = path
    root = marked.save()
    for read in (list_course_test, read_inputs):
        with pytest.raises(TableError, match=r"row 2: ImagePath .* outside the data set"):
            read(root / "test.csv")
    with pytest.raises(TableError, match=r"row 2: ImagePath .*(outside the data set|leads to no file)"):
        read_course_test(root)


def test_an_absolute_path_in_a_table_begins_at_the_data_set(marked: Any) -> None:
    marked.tests[0]["ImagePath"] = "/etc/hostname"
    ((_, path),) = list_course_test(marked.save() / "test.csv")
    assert path == marked.root / "test/etc/hostname"


@pytest.mark.parametrize("place", ["train/scoliosis", "train", "train/scoliosis/image/x.dcm", MARK, "train.csv"])
def test_links_that_leave_the_data_set_are_refused_and_one_to_the_data_set_is_followed(
    marked: Any, findings: FindingVocabulary, place: str
) -> None:
    root = marked.save()
    (root.parent / "link").symlink_to(root)
    assert len(read_course(root.parent / "link", findings)) == 3
    elsewhere = root.parent / "elsewhere"
    (root / place).rename(elsewhere)
    (root / place).symlink_to(elsewhere)
    with pytest.raises(TableError, match=r"by a link to .*elsewhere.*type data\.root=THAT_FOLDER"):
        read_course(root, findings)


def test_a_list_of_films_is_the_users_own_and_leads_anywhere(marked: Any, tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    film = marked.root / "test/image/001.dcm"
    (tmp_path / "lists/mine.txt").write_text(f"../course/test/image/001.dcm\n{film}\n")
    assert [listed.path.resolve() for listed in read_inputs(tmp_path / "lists/mine.txt")] == [film.resolve()] * 2
    (tmp_path / "lists/nul.txt").write_bytes(b"a\0b\n")
    with pytest.raises(ValueError, match=r"nul\.txt: line 1 holds a NUL byte"):
        read_inputs(tmp_path / "lists/nul.txt")
    (tmp_path / "lists/long.txt").write_text("x" * 200_000)
    with pytest.raises(ValueError, match=r"long\.txt: row 1 is not a row of a csv"):
        read_inputs(tmp_path / "lists/long.txt")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("A,scoliosis", '"A,scoliosis', "row 2 is not a row of a csv .*quotation marks"),
        ("A,scoliosis", f"{'A' * 140_000},scoliosis", "at most 131,072 characters"),
        ("A,scoliosis", "A\0,scoliosis", "line 2 holds a NUL byte"),
        ("A,scoliosis", "A,x,scoliosis", "row 2: 8 cells for the 7 columns"),
        ("B,normal,120,100,n.dcm,normal/image/n.dcm,normal/mark/n.dcm.jpg", "B,normal,120", "row 3: 3 cells for the 7"),
        ("Height", "Width", "no column Height"),
        ("Filename", "ID", "the column ID twice"),
        ("A,scoliosis", ",scoliosis", "row 2: no ID"),
        ("scoliosis/image/x.dcm", "", "row 2: ImagePath leads to no file: ''"),
        ("scoliosis/image/x.dcm", "scoliosis/image", "row 2: ImagePath leads to no file"),
        ("scoliosis/image/x.dcm", "y" * 5000, "row 2: ImagePath leads to no file: 'yyyyyy"),
    ],
)
def test_a_damaged_table_is_named_with_its_row(
    marked: Any, findings: FindingVocabulary, old: str, new: str, message: str
) -> None:
    table = marked.save() / "train.csv"
    text = table.read_text()
    assert old in text
    table.write_text(text.replace(old, new, 1))
    with pytest.raises(TableError, match=message) as error:
        read_course(marked.root, findings)
    assert len(str(error.value)) < 700


def test_a_table_of_column_names_alone_is_no_data_set(marked: Any, findings: FindingVocabulary) -> None:
    table = marked.save() / "train.csv"
    table.write_text(table.read_text().splitlines()[0] + "\n")
    with pytest.raises(TableError, match="column names and no row"):
        read_course(marked.root, findings)


@pytest.mark.parametrize("value", ["-5", "0", "nan", "inf", "1e400", "9" * 5000, "²"])
def test_the_sizes_of_the_table_are_not_believed(marked: Any, findings: FindingVocabulary, value: str) -> None:
    marked.rows[0] |= {"Width": value}
    film = read_course(marked.save(), findings)[0]
    assert (film.width, film.height) == (120, 100)
