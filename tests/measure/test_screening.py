"""The image-level score: its area, precision and rates, by hand and by other programs."""

import math

import numpy as np
import pytest

from cxr.measure.screening import (
    ImageAveragePrecision,
    Rates,
    RocAuc,
    image_average_precision,
    predictive_values,
    rates,
    roc_auc,
    roc_curve,
)


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
        result([((0, 0, 100, 100), 2)], finding_scores=(0.9, 0.7, 0), abnormal=0.9),
        result([((0, 0, 100, 100), 1)], finding_scores=(0.1, 0.3, 0), abnormal=0.1),
        result([], finding_scores=(0.5, 0.5, 0), abnormal=0.5),
    ]
    assert roc_auc(films, label=2).value == 1
    assert roc_auc(films, label=1).value == 0
    assert roc_auc(films).value == 0.5
    absent = roc_auc(films, label=3)
    assert (math.isnan(absent.value), absent.reason) == (True, "needs films with and films without it")


def test_area_and_average_precision_agree_with_scikit_learn(films, random_scores):
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
    area = roc_auc(films(abnormal, normal), samples=2000)
    assert area.value == pytest.approx(wins.mean())
    assert area.high - area.low == pytest.approx(2 * 1.96 * math.sqrt(variance), rel=0.1)


def test_predictive_values_follow_from_the_stated_prevalence(films):
    data = films([0.9] * 9 + [0.1], [0.1] * 8 + [0.9] * 2)  # sensitivity .9, specificity .8
    estimates = rates(data, 0.5, prevalences=(0.1, 0.5))
    values = {name: estimate.value for name, estimate in estimates.items()}
    expected = {"sensitivity": 0.9, "specificity": 0.8, "cleared": 9 / 20}
    expected |= {"ppv@0.1": 0.09 / (0.09 + 0.18), "npv@0.1": 0.72 / 0.73, "ppv@0.5": 0.45 / 0.55, "npv@0.5": 0.4 / 0.45}
    assert values == pytest.approx(expected)
    assert (estimates["sensitivity"].n, estimates["specificity"].n, estimates["cleared"].n) == (10, 10, 20)
    assert all(estimate.low < estimate.value < estimate.high for estimate in estimates.values())


def test_a_threshold_includes_its_own_score(films):
    assert rates(films([0.5], [0.5]), 0.5)["sensitivity"].value == 1
    assert rates(films([0.5], [0.5]), 0.5)["specificity"].value == 0


def test_none_missed_of_ten_is_no_certain_npv(films):
    estimates = rates(films([0.9] * 10, [0.1] * 10), 0.5, prevalences=(0.1,))
    worst = 0.025 ** (1 / 10)
    assert estimates["npv@0.1"].value == 1
    assert estimates["npv@0.1"].low == pytest.approx(worst * 0.9 / (worst * 0.9 + (1 - worst) * 0.1))
    assert estimates["ppv@0.1"].low == pytest.approx(worst * 0.1 / (worst * 0.1 + (1 - worst) * 0.9))
    assert (estimates["npv@0.1"].high, estimates["npv@0.1"].reason) == (1, "")


@pytest.mark.parametrize(("abnormal", "normal", "named"), [([], [0.2, 0.7], "positive"), ([0.2, 0.7], [], "negative")])
def test_films_of_one_kind_leave_the_other_rate_undefined(films, abnormal, normal, named):
    estimates = rates(films(abnormal, normal), 0.5, prevalences=(0.1,))
    missing, known = ("sensitivity", "specificity") if named == "positive" else ("specificity", "sensitivity")
    assert (math.isnan(estimates[missing].value), estimates[missing].reason) == (True, f"no {named} film")
    assert estimates[known].value == 0.5
    assert all(math.isnan(estimates[name].value) and estimates[name].reason for name in ("npv@0.1", "ppv@0.1"))
    assert math.isnan(roc_auc(films(abnormal, normal)).value)


def test_where_nothing_is_cleared_there_is_no_npv():
    ppv, npv = predictive_values(1.0, 0.0, np.array([0.2]))
    assert ppv == pytest.approx([0.2])
    assert np.isnan(npv).all()


def test_no_films_are_undefined_and_no_error():
    assert math.isnan(roc_auc([]).value)
    assert math.isnan(image_average_precision([]).value)
    assert all(math.isnan(estimate.value) for estimate in rates([], 0.5).values())
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
def test_a_film_that_counts_thrice_is_as_three_films(films, figure, random_scores):
    rng = np.random.default_rng(3)
    data = films(random_scores(rng, 10, 0.5, 1), random_scores(rng, 10, 0, 1))
    for seed in range(5):
        times = np.random.default_rng(seed).integers(0, 4, len(data))
        drawn = [film for film, n in zip(data, times, strict=True) for _ in range(n)]
        np.testing.assert_allclose(figure(data)(times.astype(float)), figure(drawn)(np.ones(len(drawn))))
