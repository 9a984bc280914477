import math

import numpy as np
import pytest

from cxr.measure.froc import SensitivityAt
from cxr.measure.intervals import bootstrap, clopper_pearson, estimates, paired_bootstrap
from cxr.measure.screening import RocAuc

HEART = (0, 0, 100, 100)


def share_of(values):
    """A figure: the mean of a number of each film."""
    numbers = np.asarray(values, float)
    return lambda times: np.array([(times * numbers).sum() / times.sum() if times.sum() else np.nan])


def test_films_of_a_patient_are_drawn_together():
    drawn = bootstrap(lambda times: times, ["a", "b", "a", "c", "a"], samples=200)
    assert drawn.shape == (200, 5)
    assert (drawn[:, 0] == drawn[:, 2]).all()
    assert (drawn[:, 0] == drawn[:, 4]).all()
    assert (drawn[:, [0, 1, 3]].sum(1) == 3).all()  # as many patients as there are, not films
    assert (drawn[:, 0] != drawn[:, 1]).any()


def test_the_interval_of_a_share_is_that_of_the_binomial(result):
    values = [1.0] * 60 + [0.0] * 140
    (estimate,) = estimates(share_of(values), [result() for _ in values], [200], samples=4000)
    half = 1.96 * math.sqrt(0.3 * 0.7 / 200)
    assert (estimate.value, estimate.n) == (0.3, 200)
    assert (estimate.low, estimate.high) == pytest.approx((0.3 - half, 0.3 + half), abs=0.007)


def test_twins_of_every_film_make_it_no_narrower(result):
    values = [1.0] * 30 + [0.0] * 70
    alone = [result(patient=f"p{i}") for i in range(100)]
    (once,) = estimates(share_of(values), alone, [100])
    (twice,) = estimates(share_of(values * 2), alone * 2, [200])
    assert (twice.low, twice.high) == pytest.approx((once.low, once.high))


def test_one_patient_has_no_interval(result):
    films = [result(patient="only") for _ in range(6)]
    (estimate,) = estimates(share_of([1, 0, 1, 0, 1, 1]), films, [6])
    assert estimate.value == pytest.approx(4 / 6)
    assert math.isnan(estimate.low)
    assert math.isnan(estimate.high)
    assert estimate.reason == "all resamples of the patients give the same"


def test_three_of_three_are_not_certain(result):
    films = [result() for _ in range(3)]
    (right,) = estimates(share_of([1, 1, 1]), films, [3], trials=[3])
    assert (right.low, right.high) == pytest.approx((0.025 ** (1 / 3), 1))
    (wrong,) = estimates(share_of([0, 0, 0]), films, [3], trials=[3])
    assert (wrong.low, wrong.high) == pytest.approx((0, 1 - 0.025 ** (1 / 3)))


def test_what_is_undefined_is_not_a_number_and_says_why(result):
    (estimate,) = estimates(lambda times: np.array([np.nan]), [result()], [0], undefined="no such film")
    assert math.isnan(estimate.value)
    assert math.isnan(estimate.low)
    assert estimate.reason == "no such film"


def test_resamples_without_the_figure_are_left_out(result):
    # Defined on one of four patients: two thirds of the resamples hold it, and give the value
    numbers = np.array([np.nan, np.nan, np.nan, 0.5])
    figure = lambda times: np.array([0.5 if times[~np.isnan(numbers)].sum() else np.nan])  # noqa: E731
    (estimate,) = estimates(figure, [result() for _ in range(4)], [1])
    assert (estimate.value, estimate.reason) == (0.5, "all resamples of the patients give the same")


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    # Exact intervals as R's binom.test gives them
    [(8, 10, 0.4439045, 0.9747893), (0, 10, 0, 0.3084971), (10, 10, 0.6915029, 1), (95, 100, 0.8871651, 0.9835681)],
)
def test_the_exact_interval_of_a_proportion(successes, trials, low, high):
    assert clopper_pearson(successes, trials) == pytest.approx((low, high), abs=1e-6)


def test_nothing_tried_says_nothing():
    assert clopper_pearson(0, 0) == (0, 1)


def test_a_difference_is_measured_on_the_same_patients(result):
    """72 of 100 hearts against 60, the same 60 among them: 12 ± 6.4, where independent draws would give ± 13."""
    hearts = [(HEART, 1)]
    worse = [result(hearts, [(HEART, 1, 0.9)] if i < 60 else [], patient=f"p{i}") for i in range(100)]
    better = [result(hearts, [(HEART, 1, 0.9)] if i < 72 else [], patient=f"p{i}") for i in range(100)]
    better = [b.__class__(**{**vars(b), "study": a.study}) for a, b in zip(worse, better, strict=True)]
    (difference,) = paired_bootstrap(worse, better, lambda films: SensitivityAt(films, rates=(1,)), samples=2000)
    half = 1.96 * math.sqrt(0.12 * 0.88 / 100)
    assert difference.value == pytest.approx(0.12)
    assert (difference.low, difference.high) == pytest.approx((0.12 - half, 0.12 + half), abs=0.015)
    assert difference.low > 0


def test_the_same_detector_does_not_differ_from_itself(result):
    films = [result([(HEART, 1)] * (i % 2), [(HEART, 1, i / 9)]) for i in range(9)]
    (difference,) = paired_bootstrap(films, films, RocAuc, samples=50)
    assert difference.value == 0


def test_other_films_cannot_be_paired(result):
    with pytest.raises(ValueError, match="same films"):
        paired_bootstrap([result()], [result()], RocAuc)


def test_seed_and_order_of_draws_repeat():
    first, again, other = (bootstrap(lambda t: t, ["a", "b", "c"], 20, seed) for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()
