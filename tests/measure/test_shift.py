"""Films beside a reference: distances and bounds by hand, a false alarm rate that holds, what is no reference."""

import json
import math
from typing import Any

import numpy as np
import pytest

from cxr.measure.shift import (
    FEATURES,
    PIXELS,
    Reference,
    allowed,
    as_plain,
    compare,
    distance,
    first_of_each,
    from_fields,
    made_reference,
    of_pixels,
    of_scores,
)

RNG = np.random.default_rng(0)


def test_the_distance_is_the_largest_between_the_distribution_functions() -> None:
    assert distance(np.array([1.0, 2, 3, 4]), np.array([1.0, 2, 3, 4])) == 0
    assert distance(np.array([1.0, 2]), np.array([3.0, 4])) == 1
    # below 3 lie half of the first and none of the second
    assert distance(np.array([1.0, 2, 3, 4]), np.array([3.0, 4, 5, 6])) == 0.5


def test_the_allowed_distance_has_a_part_for_the_window_and_one_for_the_reference() -> None:
    # ln(2 / .01) = 5.2983; ln(2 / .05) = 3.6889
    assert allowed(50, 200, 1, rate=0.01) == pytest.approx(math.sqrt(5.2983 / 100) + math.sqrt(3.6889 / 400), abs=1e-5)
    # ten features share the false alarms
    assert allowed(50, 200, 10, rate=0.1) == pytest.approx(math.sqrt(5.2983 / 100) + math.sqrt(5.9915 / 400), abs=1e-5)


def test_unchanged_films_are_called_different_no_more_often_than_is_stated() -> None:
    """Five references of 80 films; 200 windows of 50 each, all of one distribution, at a rate of 5 %."""
    for seed in range(5):
        rng = np.random.default_rng(seed)
        reference = Reference(("dark", "noise"), rng.normal(size=(80, 2)).astype(np.float32))
        windows = rng.normal(size=(200, 2, 50))
        told = [compare(reference, {"dark": dark, "noise": noise}, rate=0.05).differs for dark, noise in windows]
        assert sum(told) <= 10


def test_a_feature_that_moves_is_told_by_name() -> None:
    reference = Reference(("dark", "noise"), RNG.normal(size=(100, 2)).astype(np.float32))
    shift = compare(reference, {"dark": RNG.normal(size=60), "noise": RNG.normal(2, size=60)})
    assert shift.differs
    assert [one.name for one in shift.features if one.differs] == ["noise"]
    assert (shift.films, shift.reference) == (60, 100)
    assert shift.as_dict()["features"]["noise"]["differs"] is True


def test_too_few_films_tell_nothing_however_far_they_are() -> None:
    reference = Reference(("dark",), np.zeros((10, 1), np.float32))
    shift = compare(reference, {"dark": np.ones(3)})
    assert not shift.differs
    assert not shift.can_tell


def test_films_without_a_feature_are_left_out_of_it_and_no_film_of_it_leaves_it_out() -> None:
    reference = Reference(("dark", "abnormal"), np.array([[0, np.nan], [1, 0.5], [2, 0.7]], np.float32))
    window = {"dark": np.array([0.0, 1]), "abnormal": np.array([np.nan, np.nan])}
    assert [one.name for one in compare(reference, window).features] == ["dark"]


def test_one_film_of_each_patient_counts() -> None:
    assert first_of_each(["a", "b", "a", "c", "b"]) == [0, 1, 3]
    reference = made_reference(["dark"], np.array([[3], [1], [9], [2]], np.float32), ["a", "b", "a", "c"])
    assert reference is not None
    assert reference.rows.ravel().tolist() == [1, 2, 3]  # in an order that tells nothing
    assert made_reference(["dark"], np.zeros((0, 1), np.float32), []) is None


def test_detectors_that_answer_as_one_share_how_films_were_taken() -> None:
    rows = RNG.normal(size=(4, len(FEATURES))).astype(np.float32)
    shared = of_pixels([Reference(FEATURES, rows), Reference(FEATURES, rows[2:]), Reference(("dark",), rows[:, :1])])
    assert shared is not None
    assert shared.features == PIXELS
    assert shared.films == 4  # films that both were chosen on count once
    assert of_pixels([]) is None


def test_scores_of_a_film() -> None:
    assert of_scores(0.75, np.array([0.5, 0.25], np.float32)) == [0.75, 0.5, 0.75]
    assert of_scores(0.25, []) == [0.25, 0.0, 0.0]


def test_a_reference_goes_through_json_and_comes_back() -> None:
    reference = Reference(("dark", "abnormal"), np.array([[0.25, np.nan], [1, 0.5]], np.float32))
    back = from_fields(json.loads(json.dumps(as_plain(reference), allow_nan=False)))
    assert back.features == reference.features
    np.testing.assert_array_equal(back.rows, reference.rows)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ([], "expected features and rows"),
        ({"features": ["dark"], "rows": [[0.0]], "code": "x"}, "expected features and rows"),
        ({"features": ["dark", "dark"], "rows": [[0.0, 1.0]]}, "different names"),
        ({"features": [["dark"]], "rows": [[0.0]]}, "has the feature"),
        ({"features": ["name"], "rows": [[0.0]]}, "has the feature 'name'"),
        ({"features": ["dark"], "rows": [["x"]]}, "something else than numbers"),
        ({"features": ["dark"], "rows": [[10**400]]}, "something else than numbers"),
        ({"features": ["dark"], "rows": [[1e300]]}, "rows holds infinity"),
        ({"features": ["dark"], "rows": [[0.0, 1.0]]}, r"shape \[1, 2\]"),
        ({"features": ["dark"], "rows": []}, "shape"),
        ({"features": ["dark"], "rows": np.zeros((1001, 1))}, "1 to 1000"),
        ({"features": ["dark"], "rows": [[math.inf]]}, "infinity"),
    ],
)
def test_what_is_no_reference_is_refused(fields: Any, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        from_fields(fields)
