"""Whether a score is the share of positive films."""

import pytest

from cxr.measure.reliability import reliability


def test_the_calibration_error_of_two_bins_known_by_hand(films):
    data = films([0.8], [0.1, 0.3, 0.6])
    curve = reliability(data, bins=2)
    assert [(b.score, b.positive.value, b.films) for b in curve.bins] == [
        (pytest.approx(0.2), 0, 2),
        (pytest.approx(0.7), 0.5, 2),
    ]
    assert curve.ece.value == pytest.approx((0.2 + 0.2) / 2)
    assert curve.bins[0].positive.high == pytest.approx(1 - 0.025**0.5)  # none of two is not never


def test_films_of_one_score_share_a_bin_whatever_their_order(films):
    data = films([0.0] * 5 + [0.9] * 5, [0.0] * 5 + [0.1] * 5)
    for order in (data, data[::-1]):
        curve = reliability(order, bins=10)
        assert [(b.score, b.positive.value, b.films) for b in curve.bins] == [
            (0, 0.5, 10),
            (0.1, 0, 5),
            (0.9, 1, 5),
        ]
        assert curve.ece.value == pytest.approx((0.5 * 10 + 0.1 * 5 + 0.1 * 5) / 20)


def test_without_films_there_are_no_bins():
    assert reliability([]).bins == ()
