"""What can be a box on a film, what is cut to it, and what is refused."""

import math

import numpy as np
import pytest

from cxr.data.sources.boxes import LARGEST_SIDE, corner_and_size, corners, fit, number, numbers


def test_a_box_on_its_film_stays_as_it_is_to_the_last_bit() -> None:
    boxes = np.array([[0, 0, 120, 100], [20.5, 40.1, 80.3, 90]])
    fitted, problems = fit(boxes, np.array([[120, 100]] * 2))
    assert problems == {}
    assert fitted.dtype == np.float32
    np.testing.assert_array_equal(fitted, boxes.astype(np.float32))


@pytest.mark.parametrize(("side", "allowed"), [(120, 1), (1000, 1), (2500, 2.5)])
def test_a_box_that_overhangs_by_a_pixel_or_a_thousandth_of_the_side_is_cut(side: int, allowed: float) -> None:
    for overhang, refused in ((allowed, False), (allowed + 0.1, True)):
        box = np.array([[10, 10, side + overhang, 50], [-overhang, 10, 50, 50], [10, -overhang, 50, 50]])
        fitted, problems = fit(box, np.array([[side, side]] * 3))
        assert len(problems) == 3 * refused
        if not refused:
            assert fitted.tolist() == [[10, 10, side, 50], [0, 10, 50, 50], [10, 0, 50, 50]]


@pytest.mark.parametrize(
    "box",
    [
        (0, 0, 1e30, 50), (-50, 0, 50, 50), (200, 200, 210, 210), (0, 0, 120, 200),
        (120, 10, 120.5, 20),  # in the margin alone: nothing is left of it
        (5, 5, 5 + 1e-9, 50),  # no width in float32
    ],
)  # fmt: skip
def test_a_box_that_is_not_on_its_film_is_named_with_the_film(box: tuple[float, ...]) -> None:
    _, problems = fit(np.array([[1, 1, 9, 9], box]), np.array([[120, 100]] * 2))
    assert problems.keys() == {1}
    assert "is not on its film, expected 0 <= x0 < x1 <= 120 and 0 <= y0 < y1 <= 100" in problems[1]


def test_of_a_film_without_a_size_a_box_is_held_to_the_largest_film() -> None:
    _, problems = fit(np.array([[0, 0, 3000, 3000], [0, 0, 1e30, 9]]), np.zeros((2, 2)))
    assert problems.keys() == {1}
    assert str(LARGEST_SIDE) in problems[1]


def test_no_boxes_are_no_problem() -> None:
    fitted, problems = fit(np.zeros((0, 4)), np.zeros((0, 2)))
    assert (fitted.shape, problems) == ((0, 4), {})


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 10**400, -(10**400)])
def test_numbers_that_are_not_finite_are_no_box(bad: float) -> None:
    for place in range(4):
        for make in (corners, corner_and_size):
            values: list[float] = [1, 2, 30, 40]
            values[place] = bad
            with pytest.raises(ValueError, match="not finite") as error:
                make(values)
            assert len(str(error.value)) < 300


def test_no_area_is_no_box() -> None:
    for size in ((0, 5), (5, 0), (-5, 5), (5, -5), (-5, -5)):
        with pytest.raises(ValueError, match="expected a width and height above 0"):
            corner_and_size([1, 2, *size])
        with pytest.raises(ValueError, match="expected x0 < x1 and y0 < y1"):
            corners([1, 2, 1 + size[0], 2 + size[1]])
    with pytest.raises(ValueError, match="not finite"):
        corner_and_size([1e308, 1, 1e308, 1])
    assert corner_and_size([1, 2, 3, 4]) == (1, 2, 4, 6)


def test_four_empty_cells_say_that_there_is_no_box_and_some_say_nothing() -> None:
    assert numbers(["", "", "", ""]) is None
    assert numbers(["1", "2.5", "3e1", "4"]) == (1, 2.5, 30, 4)
    with pytest.raises(ValueError, match="2 of the 4 cells of its box are empty"):
        numbers(["1", "", "", "4"])
    for cell in ("wide", "1_0", "0x10", "1,5"):  # Python reads 1_0 as ten
        with pytest.raises(ValueError, match=f"'{cell}' is no number"):
            number(cell)
