"""Views of a film: what is drawn where, and its box back on the film."""

import math

import pytest
import torch
from torch import Tensor

from cxr.detect.views import VIEWS, View, first_views

ALL = [*VIEWS[1:], View(scale=1.2, degrees=5, shift=0.1)]
SIZE = (60, 90)


def disc(x: float, y: float, radius: float) -> Tensor:
    """A film [1, 60, 90] of air with a bright disc, smooth at its rim."""
    down, right = torch.meshgrid(torch.arange(60) + 0.5, torch.arange(90) + 0.5, indexing="ij")
    return (radius + 0.5 - ((right - x) ** 2 + (down - y) ** 2).sqrt()).clamp(0, 1)[None]


def box_of(film: Tensor) -> Tensor:
    """The box around what is at least half as bright as the brightest."""
    rows, columns = torch.nonzero(film[0] >= film.max() / 2).unbind(1)
    return torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]).float()[None]


def test_a_film_as_it_is_and_its_boxes_are_not_touched() -> None:
    film, boxes = disc(30, 20, 8), torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    assert View().of_film(film) is film
    assert View().boxes_on_film(boxes, SIZE) is boxes


def test_a_view_of_twice_the_size_has_boxes_of_twice_the_size() -> None:
    view = View(scale=2)
    assert view.of_film(disc(30, 20, 8)).shape == (1, 120, 180)
    assert view.boxes_on_film(torch.tensor([[10.0, 20.0, 30.0, 40.0]]), SIZE).tolist() == [[5, 10, 15, 20]]


def test_a_shifted_film_lies_to_the_right_and_below_and_nothing_is_lost() -> None:
    film, view = torch.rand(1, *SIZE, generator=torch.Generator().manual_seed(0)), View(shift=0.1)  # 9 of 90 px
    shifted = view.of_film(film)
    assert shifted.shape == (1, 69, 99)
    torch.testing.assert_close(shifted[:, 9:, 9:], film, atol=1e-5, rtol=0)
    assert max(shifted[:, :9].max(), shifted[:, :, :9].max()) < 1e-5
    assert view.boxes_on_film(torch.tensor([[9.0, 9.0, 99.0, 69.0]]), SIZE).tolist() == [[0, 0, 90, 60]]


def test_a_turned_point_goes_down_on_the_right_of_the_centre() -> None:
    cos, sin = math.cos(math.radians(10)), math.sin(math.radians(10))
    x, y = 45 + 30 * cos, 30 + 30 * sin  # was 30 px to the right of the centre (45, 30), turned clockwise
    box = View(degrees=10).boxes_on_film(torch.tensor([[x - 3, y - 3, x + 3, y + 3]]), SIZE)
    torch.testing.assert_close(box, torch.tensor([[72.0, 27.0, 78.0, 33.0]]))


def test_a_turned_ellipse_has_its_own_box_again() -> None:
    cos, sin = math.cos(math.radians(10)), math.sin(math.radians(10))
    across, down = math.hypot(20 * cos, 10 * sin), math.hypot(20 * sin, 10 * cos)  # half sides of the turned hull
    box = View(degrees=10).boxes_on_film(torch.tensor([[45 - across, 30 - down, 45 + across, 30 + down]]), SIZE)
    torch.testing.assert_close(box, torch.tensor([[25.0, 20.0, 65.0, 40.0]]))


def test_a_thin_box_does_not_vanish_when_it_is_turned_back() -> None:
    box = View(degrees=10).boxes_on_film(torch.tensor([[44.0, 0.0, 46.0, 60.0]]), SIZE)[0]
    assert box[2] - box[0] == pytest.approx(1)  # half of its side; no ellipse has so thin a hull at 10°


@pytest.mark.parametrize("view", ALL, ids=str)
def test_what_is_seen_in_a_view_lies_on_the_film_where_it_was(view: View) -> None:
    film = disc(25, 36, 9)  # left of the centre and below it: a mirrored one would lie elsewhere
    back = view.boxes_on_film(box_of(view.of_film(film)), SIZE)
    torch.testing.assert_close(back, torch.tensor([[16.0, 27.0, 34.0, 45.0]]), atol=1.5, rtol=0)


def test_what_is_no_small_change_is_refused() -> None:
    with pytest.raises(ValueError, match=r"scale of a view is -1, expected 0\.5 to 2"):
        View(scale=-1)  # it would mirror
    with pytest.raises(ValueError, match="degrees of a view is 90"):
        View(degrees=90)
    with pytest.raises(ValueError, match="views is 7, expected 1 to 6"):
        first_views(7)
    assert list(first_views(1)) == [View()]


def test_a_view_has_at_each_pixel_the_value_of_its_place_on_the_film() -> None:
    """On a ramp, whose value is the distance from the left border in px: so half a pixel to one side would be seen."""
    ramp = (torch.arange(90) + 0.5).expand(1, 60, 90)
    middle = (torch.arange(180) + 0.5) / 2  # of each pixel of the view, on the film
    twice = View(scale=2).of_film(ramp)[0, 30]
    torch.testing.assert_close(twice[2:-2], middle[2:-2])  # beside the border lies air
    turned = View(degrees=10).of_film(ramp)[0]
    cos, sin = math.cos(math.radians(10)), math.sin(math.radians(10))
    for row, column in ((30, 45), (20, 60), (40, 30)):
        there = 45 + cos * (column + 0.5 - 45) + sin * (row + 0.5 - 30)
        assert turned[row, column].item() == pytest.approx(there, abs=1e-3)
    down = (torch.arange(60) + 0.5)[:, None].expand(1, 60, 90)
    assert View(degrees=10).of_film(down)[0, 20, 60].item() == pytest.approx(
        30 + cos * (20.5 - 30) - sin * (60.5 - 45), abs=1e-3
    )
