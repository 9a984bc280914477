"""Scores of boxes as probabilities, and the score from which up they are shown."""

from collections.abc import Callable

import numpy as np
import pytest

from cxr.measure.average_precision import average_precision
from cxr.measure.box_scores import ScoreCurve, box_calibration_error, least_shown, score_curves
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
    calibrated = with_calibrated_scores(overconfident, score_curves(overconfident, [1]))
    assert calibrated[0].scores[0] == pytest.approx(0.5, abs=0.01)  # 60 of 120
    assert calibrated[-1].scores[0] == pytest.approx(0.1, abs=0.01)  # 15 of 150
    assert box_calibration_error(overconfident) > 0.25
    assert box_calibration_error(calibrated) < 0.01


def test_average_precision_of_a_finding_does_not_move(random_films: Callable[..., list[FilmResult]]) -> None:
    results = random_films(40)
    calibrated = with_calibrated_scores(results, score_curves(results, [1, 2, 3]))
    assert [r.scores.tolist() for r in results] != [r.scores.tolist() for r in calibrated]
    for label in (1, 2, 3):
        before, after = (average_precision(some, [label], samples=2).value for some in (results, calibrated))
        assert after == pytest.approx(before, abs=1e-9)


def test_even_a_finding_whose_scores_say_nothing_keeps_its_order(result: Make) -> None:
    upside_down = films(result, (0.9, 10, 90), (0.1, 90, 10))
    assert 0 < score_curves(upside_down, [1])[1].slope < 0.05


def test_a_finding_of_few_boxes_has_the_curve_of_all(result: Make) -> None:
    rare = [result([], [(THERE, 2, 0.6)])]  # by itself it would be wrong with certainty
    common = films(result, (0.9, 60, 60), (0.3, 15, 135))
    curves = score_curves([*common, *rare], [1, 2])
    assert curves[1] == score_curves(common, [1])[1]
    assert curves[2] != curves[1]
    assert curves[2](np.array([0.9], np.float32))[0] == pytest.approx(0.5, abs=0.02)


def test_nothing_is_learnt_from_boxes_that_are_all_right_or_all_wrong(result: Make) -> None:
    assert score_curves(films(result, (0.9, 15, 0)), [1]) == {}
    assert score_curves(films(result, (0.9, 0, 15)), [1]) == {}
    assert score_curves([], [1]) == {}


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


def test_a_false_alarm_with_the_score_of_a_right_box_is_shown_with_it(result: Make) -> None:
    # of two true boxes: F1 is 2 / (1 + 0 + 2) from 0.9 up, and 4 / (2 + 3 + 2) from 0.7 up, which three alarms have too
    results = [
        result([(HERE, 1)], [(HERE, 1, 0.9)]),
        result([(HERE, 1)], [(HERE, 1, 0.7), *[(THERE, 1, 0.7)] * 3]),
    ]
    assert least_shown(results, 1) == pytest.approx(0.9)
    # with one alarm less it is 4 / 6 from both up: the higher score
    fewer = [results[0], result([(HERE, 1)], [(HERE, 1, 0.7), *[(THERE, 1, 0.7)] * 2])]
    assert least_shown(fewer, 1) == pytest.approx(0.9)
    # without alarms all are shown
    assert least_shown([results[0], result([(HERE, 1)], [(HERE, 1, 0.7)])], 1) == pytest.approx(0.7)
