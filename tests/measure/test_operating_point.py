"""The threshold of screening: as high as is safe, frozen, refused where it is damaged."""

import json
import math

import numpy as np
import pytest

from cxr.measure.intervals import clopper_pearson
from cxr.measure.operating_point import OperatingPoint, choose_operating_point, screen


def test_368_abnormal_patients_without_a_miss_make_99_percent_sure_and_367_do_not(films):
    normal = np.linspace(0, 0.5, 50)
    sure, unsure = (choose_operating_point(films(np.linspace(0.3, 0.9, n), normal), samples=20) for n in (368, 367))
    assert (sure.limited, unsure.limited) == (False, True)
    assert sure.threshold == unsure.threshold == 0.3  # the lowest of them: neither misses any
    assert sure.sensitivity_on_validation.low == pytest.approx(0.025 ** (1 / 368))
    assert unsure.sensitivity_on_validation.value == 1
    assert sure.cleared_share.value == pytest.approx((normal < 0.3).mean())
    assert (sure.films, sure.abnormal, sure.patients, sure.split) == (418, 368, 418, "val")


@pytest.mark.parametrize("wanted", [0.8, 0.9, 0.95])
def test_the_threshold_is_the_highest_that_is_sure_enough(films, wanted, random_scores):
    rng = np.random.default_rng(4)
    abnormal = random_scores(rng, 200, 1)
    point = choose_operating_point(films(abnormal, random_scores(rng, 100, 0)), wanted, samples=20)
    enough = [t for t in set(abnormal) if clopper_pearson(int((abnormal >= t).sum()), 200)[0] >= wanted]
    assert point.threshold == max(enough)
    assert point.sensitivity_on_validation.low >= wanted
    assert not point.limited


def test_the_bound_holds_on_films_it_was_not_chosen_on():
    """Chosen on 200 films, 90 % is reached in 97.5 % of draws or more, though the same films chose and measured it."""
    rng = np.random.default_rng(5)
    lowest = np.sort(rng.random((4000, 200)), axis=1)  # the score's own quantiles: threshold t has sensitivity 1 - t
    missed = max(m for m in range(200) if clopper_pearson(200 - m, 200)[0] >= 0.9)
    reached = (1 - lowest[:, missed] >= 0.9).mean()
    assert 0.97 < reached < 0.995


def test_a_patient_is_missed_where_any_of_their_films_is(films):
    """Ten patients of two abnormal films: one film below means one patient in ten, not one film in twenty."""
    scores = [0.8, 0.9] * 9 + [0.2, 0.9]
    owners = [f"p{i // 2}" for i in range(20)]
    point = choose_operating_point(films(scores, [0.1], [*owners, "healthy"]), sensitivity=0.5, samples=20)
    assert point.threshold == 0.8  # nine of ten: at least 55 %
    sensitivity = point.sensitivity_on_validation
    assert sensitivity.value == 19 / 20
    assert (sensitivity.low, sensitivity.n) == (pytest.approx(clopper_pearson(9, 10)[0]), 10)
    assert sensitivity.high == 1  # of every patient some film is called
    assert (point.patients, point.abnormal) == (11, 20)


def test_without_abnormal_films_nothing_is_cleared(films):
    point = choose_operating_point(films([], [0.0, 0.4]))
    assert (point.threshold, point.limited) == (0, True)
    assert point.cleared_share.value == 0
    assert (math.isnan(point.sensitivity_on_validation.value), point.sensitivity_on_validation.reason) == (
        True,
        "no positive film",
    )


def test_without_normal_films_the_share_cleared_is_undefined(films):
    point = choose_operating_point(films([0.6, 0.4], []))
    assert (point.threshold, point.limited) == (0.4, True)
    assert (math.isnan(point.cleared_share.value), point.cleared_share.reason) == (True, "no negative film")


@pytest.mark.parametrize("wanted", [0, 1, 99])
def test_a_wanted_sensitivity_is_a_share(films, wanted):
    with pytest.raises(ValueError, match=f"{wanted}"):
        choose_operating_point(films([0.5], [0.5]), wanted)


def test_a_point_goes_through_plain_data_unchanged(films):
    point = choose_operating_point(films([0.7, 0.9, 0.123456789], [0.1, 0.2]))
    assert OperatingPoint.from_dict(json.loads(json.dumps(point.as_dict()))) == point


def test_a_point_without_abnormal_films_goes_through_plain_data_too(films):
    point = choose_operating_point(films([], [0.1]))
    again = OperatingPoint.from_dict(point.as_dict())
    assert again.as_dict()["threshold"] == 0
    assert math.isnan(again.sensitivity_on_validation.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("threshold", math.nan),
        ("threshold", 1.5),
        ("threshold", -0.1),
        ("threshold", True),
        ("threshold", "0.5"),
        ("wanted_sensitivity", None),
        ("films", 2.5),
        ("abnormal", -1),
        ("split", 3),
        ("limited", 0),
        ("cleared_share", 0.5),
        ("cleared_share", {"value": 0.5}),
        ("cleared_share", {"value": math.inf, "low": 0.1, "high": 0.9, "n": 2, "reason": ""}),
    ],
)
def test_a_damaged_point_is_refused_by_the_name_of_its_field(films, field, value):
    fields = choose_operating_point(films([0.7, 0.9], [0.1, 0.2])).as_dict()
    with pytest.raises(ValueError, match=f"^{field} is .*, expected "):
        OperatingPoint.from_dict({**fields, field: value})
    with pytest.raises(ValueError, match=r"it has the fields .*, expected threshold"):
        OperatingPoint.from_dict({name: fields[name] for name in fields if name != field})


def test_screening_applies_the_frozen_threshold_and_names_who_was_cleared_wrongly(films):
    point = choose_operating_point(films([0.5, 0.9], [0.1]))
    test = films([0.4, 0.9, 0.2, 0.5], [0.1, 0.3, 0.6, 0.45])
    screening = screen(test, point, prevalences=(0.2,))
    assert screening.figures["sensitivity"].value == 0.5
    assert screening.figures["specificity"].value == 0.75
    assert screening.figures["cleared"].value == 5 / 8
    assert screening.figures["npv@0.2"].value == pytest.approx(0.75 * 0.8 / (0.75 * 0.8 + 0.5 * 0.2))
    assert screening.wrongly_cleared == (test[2].study, test[0].study)
