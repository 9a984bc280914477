"""Scores of boxes as probabilities, and the score from which up they are shown."""

from collections.abc import Callable

import pytest

from cxr.measure.average_precision import average_precision
from cxr.measure.box_scores import ScoreCurve, box_calibration_error, least_shown, score_curve
from cxr.measure.results import FilmResult, with_calibrated_scores

HERE, THERE = (0, 0, 100, 100), (500, 500, 700, 700)
Make = Callable[..., FilmResult]


def films(result: Make, *groups: tuple[float, int, int]) -> list[FilmResult]:
    """Films with one box each: score, how many of them are right, how many wrong."""
    made = []
    for score, right, wrong in groups:
        made += [result([(HERE, 1)], [(HERE, 1, score)]) for _ in range(right)]
        made += [result([(HERE, 1)], [(THERE, 1, score)]) for _ in range(wrong)]
    return made


def test_a_curve_turns_a_score_into_the_share_of_boxes_that_are_right(result: Make) -> None:
    overconfident = films(result, (0.9, 60, 60), (0.3, 15, 135))
    curve = score_curve(overconfident, 1)
    assert curve is not None
    calibrated = with_calibrated_scores(overconfident, {1: curve})
    assert calibrated[0].scores[0] == pytest.approx(0.5, abs=0.01)  # 60 of 120
    assert calibrated[-1].scores[0] == pytest.approx(0.1, abs=0.01)  # 15 of 150
    assert box_calibration_error(overconfident) > 0.25
    assert box_calibration_error(calibrated) < 0.01


def test_average_precision_of_a_finding_does_not_move(random_films: Callable[..., list[FilmResult]]) -> None:
    results = random_films(40)
    curves = {label: score_curve(results, label) for label in (1, 2, 3)}
    calibrated = with_calibrated_scores(results, {label: curve for label, curve in curves.items() if curve is not None})
    assert [r.scores.tolist() for r in results] != [r.scores.tolist() for r in calibrated]
    for label in (1, 2, 3):
        before, after = (average_precision(some, [label], samples=2).value for some in (results, calibrated))
        assert after == pytest.approx(before, abs=1e-9)


def test_even_a_finding_whose_scores_say_nothing_keeps_its_order(result: Make) -> None:
    upside_down = films(result, (0.9, 10, 90), (0.1, 90, 10))
    curve = score_curve(upside_down, 1)
    assert curve is not None
    assert 0 < curve.slope < 0.05


def test_a_few_boxes_without_an_error_are_no_certainty_and_no_boxes_teach_nothing(result: Make) -> None:
    for films_, share in ((films(result, (0.9, 5, 0)), 6 / 7), (films(result, (0.9, 0, 5)), 1 / 7)):
        curve = score_curve(films_, 1)
        assert curve is not None
        assert curve(films_[0].scores)[0] == pytest.approx(share, abs=0.01)
    assert score_curve(films_, 2) is None


def test_boxes_are_shown_from_the_score_of_the_highest_f1(result: Make) -> None:
    # of three true boxes one is never found: F1 is 2 / 4 from 0.9 up, 4 / 6 from 0.7 up, 4 / 7 with all
    results = [
        result([(HERE, 1)], [(HERE, 1, 0.9), (THERE, 1, 0.8)]),
        result([(HERE, 1)], [(HERE, 1, 0.7)]),
        result([(HERE, 1)], [(THERE, 1, 0.6)]),
    ]
    assert least_shown(results, 1) == pytest.approx(0.7)
    assert least_shown(results, 2) is None


def test_a_curve_that_falls_is_none() -> None:
    with pytest.raises(ValueError, match="the slope above 0"):
        ScoreCurve(-1, 0)
