import json
import math

import numpy as np
import pytest

from cxr.measure.intervals import clopper_pearson
from cxr.measure.screening import (
    ImageAveragePrecision,
    OperatingPoint,
    Rates,
    RocAuc,
    choose_operating_point,
    image_average_precision,
    predictive_values,
    rates,
    reliability,
    roc_auc,
    roc_curve,
    screen,
)

HEART = (0, 0, 100, 100)


@pytest.fixture
def films(result):
    """Make films of scores: those of abnormal ones, then those of normal ones."""

    def make(abnormal, normal, patients=None):
        marks = [[(HEART, 1)]] * len(abnormal) + [[]] * len(normal)
        owners = patients or [None] * len(marks)
        scores = [*abnormal, *normal]
        return [result(m, patient=p, abnormal=float(s)) for m, p, s in zip(marks, owners, scores, strict=True)]

    return make


def random_scores(rng, count, shift, digits=2):
    return np.round(1 / (1 + np.exp(-rng.normal(shift, 1, count))), digits)


def test_the_area_counts_a_tie_for_half(films):
    # .8 beats both; .4 ties with .4 and beats .1
    assert roc_auc(films([0.8, 0.4], [0.4, 0.1])).value == 3.5 / 4
    assert roc_auc(films([0.5, 0.5], [0.5])).value == 0.5
    assert roc_auc(films([0.1], [0.2, 0.3])).value == 0
    assert roc_auc(films([0.3], [0.2, 0.1])).value == 1


def test_the_curve_calls_a_film_at_the_threshold_positive(films):
    curve = roc_curve(films([0.8, 0.4], [0.4, 0.1]))
    assert curve.thresholds.tolist() == [math.inf, 0.8, 0.4, 0.1]
    assert curve.sensitivity.tolist() == [0, 0.5, 1, 1]
    assert curve.specificity.tolist() == [1, 1, 0.5, 0]


def test_a_finding_is_asked_of_its_own_scores(result):
    films = [
        result([(HEART, 2)], finding_scores=(0.9, 0.7, 0), abnormal=0.9),
        result([(HEART, 1)], finding_scores=(0.1, 0.3, 0), abnormal=0.1),
        result([], finding_scores=(0.5, 0.5, 0), abnormal=0.5),
    ]
    assert roc_auc(films, label=2).value == 1
    assert roc_auc(films, label=1).value == 0
    assert roc_auc(films).value == 0.5
    absent = roc_auc(films, label=3)
    assert (math.isnan(absent.value), absent.reason) == (True, "needs films with and films without it")


def test_area_and_average_precision_agree_with_scikit_learn(films):
    sklearn = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    abnormal, normal = random_scores(rng, 60, 0.7), random_scores(rng, 90, 0)
    data, truth, scores = films(abnormal, normal), [1] * 60 + [0] * 90, np.concatenate([abnormal, normal])
    assert roc_auc(data).value == pytest.approx(sklearn.roc_auc_score(truth, scores))
    assert image_average_precision(data).value == pytest.approx(sklearn.average_precision_score(truth, scores))


def test_the_interval_of_the_area_is_that_of_delong(films):
    rng = np.random.default_rng(1)
    abnormal, normal = rng.normal(0.6, 0.2, 120), rng.normal(0.4, 0.2, 180)
    wins = (abnormal[:, None] > normal[None, :]).astype(float)
    variance = wins.mean(1).var(ddof=1) / 120 + wins.mean(0).var(ddof=1) / 180  # DeLong 1988
    found = roc_auc(films(abnormal, normal), samples=2000)
    assert found.value == pytest.approx(wins.mean())
    assert found.high - found.low == pytest.approx(2 * 1.96 * math.sqrt(variance), rel=0.1)


def test_predictive_values_follow_from_the_stated_prevalence(films):
    data = films([0.9] * 9 + [0.1], [0.1] * 8 + [0.9] * 2)  # sensitivity .9, specificity .8
    found = rates(data, 0.5, prevalences=(0.1, 0.5))
    values = {name: estimate.value for name, estimate in found.items()}
    expected = {"sensitivity": 0.9, "specificity": 0.8, "cleared": 9 / 20}
    expected |= {"ppv@0.1": 0.09 / (0.09 + 0.18), "npv@0.1": 0.72 / 0.73, "ppv@0.5": 0.45 / 0.55, "npv@0.5": 0.4 / 0.45}
    assert values == pytest.approx(expected)
    assert (found["sensitivity"].n, found["specificity"].n, found["cleared"].n) == (10, 10, 20)
    assert all(estimate.low < estimate.value < estimate.high for estimate in found.values())


def test_a_threshold_includes_its_own_score(films):
    assert rates(films([0.5], [0.5]), 0.5)["sensitivity"].value == 1
    assert rates(films([0.5], [0.5]), 0.5)["specificity"].value == 0


def test_none_missed_of_ten_is_no_certain_npv(films):
    found = rates(films([0.9] * 10, [0.1] * 10), 0.5, prevalences=(0.1,))
    worst = 0.025 ** (1 / 10)
    assert found["npv@0.1"].value == 1
    assert found["npv@0.1"].low == pytest.approx(worst * 0.9 / (worst * 0.9 + (1 - worst) * 0.1))
    assert found["ppv@0.1"].low == pytest.approx(worst * 0.1 / (worst * 0.1 + (1 - worst) * 0.9))
    assert (found["npv@0.1"].high, found["npv@0.1"].reason) == (1, "")


@pytest.mark.parametrize(("abnormal", "normal", "named"), [([], [0.2, 0.7], "positive"), ([0.2, 0.7], [], "negative")])
def test_films_of_one_kind_leave_the_other_rate_undefined(films, abnormal, normal, named):
    found = rates(films(abnormal, normal), 0.5, prevalences=(0.1,))
    missing, known = ("sensitivity", "specificity") if named == "positive" else ("specificity", "sensitivity")
    assert (math.isnan(found[missing].value), found[missing].reason) == (True, f"no {named} film")
    assert found[known].value == 0.5
    assert all(math.isnan(found[name].value) and found[name].reason for name in ("npv@0.1", "ppv@0.1"))
    assert math.isnan(roc_auc(films(abnormal, normal)).value)


def test_where_nothing_is_cleared_there_is_no_npv():
    ppv, npv = predictive_values(1.0, 0.0, np.array([0.2]))
    assert ppv == pytest.approx([0.2])
    assert np.isnan(npv).all()


def test_no_films_are_undefined_and_no_error():
    assert math.isnan(roc_auc([]).value)
    assert math.isnan(image_average_precision([]).value)
    assert all(math.isnan(estimate.value) for estimate in rates([], 0.5).values())
    assert reliability([]).bins == ()
    assert roc_curve([]).thresholds.tolist() == [math.inf]


@pytest.mark.parametrize("prevalence", [0, 1, -0.1, 30])
def test_a_prevalence_is_a_share(films, prevalence):
    with pytest.raises(ValueError, match=f"{prevalence}"):
        rates(films([0.5], [0.5]), 0.5, prevalences=(prevalence,))


def test_a_score_that_is_no_number_is_refused_with_its_study(films):
    (film,) = films([math.nan], [])
    with pytest.raises(ValueError, match=f"{film.study}.*nan"):
        roc_auc([film])


@pytest.mark.parametrize("figure", [RocAuc, ImageAveragePrecision, lambda data: Rates(data, 0.5)])
def test_a_film_that_counts_thrice_is_as_three_films(films, figure):
    rng = np.random.default_rng(3)
    data = films(random_scores(rng, 10, 0.5, 1), random_scores(rng, 10, 0, 1))
    for seed in range(5):
        times = np.random.default_rng(seed).integers(0, 4, len(data))
        drawn = [film for film, n in zip(data, times, strict=True) for _ in range(n)]
        np.testing.assert_allclose(figure(data)(times.astype(float)), figure(drawn)(np.ones(len(drawn))))


def test_the_calibration_error_of_two_bins_known_by_hand(films):
    data = films([0.8], [0.1, 0.3, 0.6])
    found = reliability(data, bins=2)
    assert [(b.score, b.positive.value, b.films) for b in found.bins] == [
        (pytest.approx(0.2), 0, 2),
        (pytest.approx(0.7), 0.5, 2),
    ]
    assert found.ece.value == pytest.approx((0.2 + 0.2) / 2)
    assert found.bins[0].positive.high == pytest.approx(1 - 0.025**0.5)  # none of two is not never


def test_films_of_one_score_share_a_bin_whatever_their_order(films):
    data = films([0.0] * 5 + [0.9] * 5, [0.0] * 5 + [0.1] * 5)
    for order in (data, data[::-1]):
        found = reliability(order, bins=10)
        assert [(b.score, b.positive.value, b.films) for b in found.bins] == [(0, 0.5, 10), (0.1, 0, 5), (0.9, 1, 5)]
        assert found.ece.value == pytest.approx((0.5 * 10 + 0.1 * 5 + 0.1 * 5) / 20)


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
def test_the_threshold_is_the_highest_that_is_sure_enough(films, wanted):
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
    found = point.sensitivity_on_validation
    assert found.value == 19 / 20
    assert (found.low, found.n) == (pytest.approx(clopper_pearson(9, 10)[0]), 10)
    assert found.high == 1  # of every patient some film is called
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
    found = screen(test, point, prevalences=(0.2,))
    assert found.figures["sensitivity"].value == 0.5
    assert found.figures["specificity"].value == 0.75
    assert found.figures["cleared"].value == 5 / 8
    assert found.figures["npv@0.2"].value == pytest.approx(0.75 * 0.8 / (0.75 * 0.8 + 0.5 * 0.2))
    assert found.wrongly_cleared == (test[2].study, test[0].study)
