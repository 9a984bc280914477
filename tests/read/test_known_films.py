"""What training films look like: a model that knows frontal chest films from all others by their pixels alone."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from cxr.phantom.films import draw_phantom
from cxr.phantom.other_films import draw_hand, draw_lateral
from cxr.read.chest_films import ChestFilms
from cxr.read.known_films import (
    SIDE,
    KnownFilms,
    as_plain,
    bound_of_next,
    from_fields,
    learn,
    least_refused,
    likeness,
    small_picture,
)

Pixels = NDArray[np.uint16]


def picture(stored: Pixels) -> Pixels:
    """Return drawn stored values, MONOCHROME1 and LOG, as a detector takes them: air dark."""
    values = np.clip(-np.log((1 + stored.astype(np.float32)) / 4096) / 2.5, 0, 1)
    return np.asarray(np.rint(values * 65535), np.uint16)


def film(seed: int, draw: Callable[..., Pixels] = lambda rng, size: draw_phantom(rng, size).pixels) -> Pixels:
    return picture(draw(np.random.default_rng([7, seed]), 128))


@pytest.fixture(scope="module")
def known() -> KnownFilms:
    """A model of 20 drawn films, whose distance 4 others chose."""
    pictures = [small_picture(film(seed)) for seed in range(24)]
    model = learn(pictures[:20], pictures[20:])
    assert model is not None
    return model


def cause(known: KnownFilms, pixels: Pixels) -> str:
    reason = ChestFilms(128, "radiograph", (known,)).refusal_by_pixels(pixels)
    return "" if reason is None else reason.cause


def test_frontal_films_pass(known: KnownFilms) -> None:
    assert [cause(known, film(seed)) for seed in range(100, 106)] == [""] * 6


def test_a_film_inverted_against_its_header_is_told(known: KnownFilms) -> None:
    assert {cause(known, np.asarray(65535 - film(seed), np.uint16)) for seed in range(100, 103)} == {"inverted"}


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_turned_film_is_told_with_its_angle(known: KnownFilms, degrees: int) -> None:
    for seed in range(100, 102):
        turned = np.rot90(film(seed), -degrees // 90)  # numpy turns against the clock
        found = likeness((known,), turned)
        assert (found.turned, found.inverted) == (degrees, False)
        assert cause(known, turned) == "turned"


@pytest.mark.parametrize("draw", [draw_lateral, draw_hand], ids=["lateral", "hand"])
def test_other_films_are_unlike(known: KnownFilms, draw: Callable[..., Pixels]) -> None:
    assert {cause(known, film(seed, draw)) for seed in range(3)} <= {"unlike", "turned", "inverted"}


def test_noise_one_grey_value_and_a_corner_are_unlike(known: KnownFilms) -> None:
    noise = np.random.default_rng(0).integers(0, 65536, (128, 128)).astype(np.uint16)
    assert cause(known, noise) == "unlike"
    assert cause(known, np.full((128, 100), 9000, np.uint16)) == "unlike"
    assert cause(known, film(100)[:50, :50]) == "unlike"


def test_a_detector_of_slices_or_without_a_model_takes_every_picture(known: KnownFilms) -> None:
    turned = np.rot90(film(100))
    assert ChestFilms(128, "CT", (known,)).refusal_by_pixels(turned) is None
    assert ChestFilms(128, "radiograph").refusal_by_pixels(turned) is None


def test_of_an_ensemble_the_mean_decides(known: KnownFilms) -> None:
    strict, lax = replace(known, allowed=known.allowed / 1e3), replace(known, allowed=known.allowed * 1e3)
    pixels = film(100)
    assert likeness((strict, lax), pixels).distance == pytest.approx(
        (likeness((strict,), pixels).distance + likeness((lax,), pixels).distance) / 2
    )


def test_grey_values_count_by_their_order_alone() -> None:
    pixels = film(3)
    assert np.abs(small_picture(pixels) - small_picture(np.sqrt(pixels / 65535))).mean() < 0.06
    assert small_picture(pixels).shape == (SIDE, SIDE)
    assert np.abs(small_picture(pixels)).max() <= 1
    assert not small_picture(np.full((9, 9), 7, np.uint16)).any()
    channels = np.stack([pixels, pixels, pixels], axis=-1)
    assert small_picture(channels) == pytest.approx(small_picture(pixels), abs=0.05)


def test_of_many_films_one_in_a_hundred_is_refused() -> None:
    assert least_refused(list(range(1, 1001))) == 991  # rank 0.99 · 1001, rounded up
    assert least_refused(list(range(1, 100))) == 99  # rank 99 of 99


def test_of_few_films_the_bound_is_that_of_student() -> None:
    # logarithms 0 and 1: mean 0.5, deviation 0.7071, t(0.99, 1 degree of freedom) = 31.82, and √(1 + 1/2)
    assert np.log(bound_of_next([1, np.e])) == pytest.approx(0.5 + 31.82 * 0.7071 * 1.2247, abs=0.01)
    assert bound_of_next([2.0] * 5) == pytest.approx(2)
    # of normal logarithms one in a hundred lies above: 0.99 is 2.326 deviations
    logs = np.random.default_rng(0).normal(3, 0.2, 20_000)
    assert np.log(bound_of_next(np.exp(logs).tolist())) == pytest.approx(3 + 2.326 * 0.2, abs=0.01)


def test_too_few_films_make_no_model() -> None:
    pictures = [np.zeros((SIDE, SIDE), np.float32)] * 8
    assert learn(pictures[:7], pictures[:2]) is None
    assert learn(pictures, pictures[:1]) is None


def test_a_model_comes_back_from_plain_numbers(known: KnownFilms) -> None:
    again = from_fields(as_plain(known))
    shown = small_picture(film(100))
    assert again.distance(shown) == pytest.approx(known.distance(shown), rel=1e-5)
    assert (again.films, again.chosen_on) == (20, 4)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("mean", [0.0], "its shapes are"),
        ("axes", [0.0], "axes has 1 dimensions"),
        ("spread", "wide", "spread holds something else than numbers"),
        ("spread", [10**400], "spread holds something else than numbers"),
        ("spread", [1e300], "numbers that are not finite"),
        ("rest", 0, "no number above 0"),
        ("allowed", float("inf"), "no number above 0"),
        ("films", -1, "no numbers of films"),
        ("chosen_on", None, "no numbers of films"),
        ("more", 1, "it has the fields"),
    ],
)
def test_what_is_no_model_is_refused(known: KnownFilms, field: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_fields({**as_plain(known), field: value})
    with pytest.raises(ValueError, match="not finite"):
        from_fields({**as_plain(known), "mean": [float("nan")] * len(known.mean)})


def test_of_99_validation_films_the_farthest_one_is_allowed_and_of_98_a_bound() -> None:
    """99 films have an order statistic of one in a hundred: their largest distance. Fewer have a bound in its place."""
    rng = np.random.default_rng(0)
    pattern = np.sin(np.arange(SIDE) / 4)[:, None] * np.ones(SIDE)
    pictures = [np.float32(pattern + rng.normal(0, 0.1, (SIDE, SIDE))) for _ in range(107)]
    enough, few = learn(pictures[:8], pictures[8:107]), learn(pictures[:8], pictures[8:106])
    assert enough is not None
    assert few is not None
    farthest = max(enough.distance(picture) for picture in pictures[8:107])
    assert (enough.allowed, enough.chosen_on) == (pytest.approx(farthest), 99)
    assert few.allowed != pytest.approx(farthest, rel=1e-3)


def test_a_film_that_is_as_far_away_as_is_allowed_passes(known: KnownFilms) -> None:
    distance = known.distance(small_picture(film(100)))
    assert cause(replace(known, allowed=distance), film(100)) == ""
    assert cause(replace(known, allowed=0.999 * distance), film(100)) == "unlike"
