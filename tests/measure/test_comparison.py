"""Better, equivalent or not to be told: held against closed forms for differences of normal numbers."""

import math
from dataclasses import replace

import numpy as np
import pytest

from cxr.measure.comparison import compare_arms, verdict
from cxr.measure.intervals import Estimate, paired_bootstrap
from cxr.measure.screening import RocAuc

Z90, Z95, POWER = 1.644854, 1.959964, 0.841621


class Mean:
    """The mean of the films' own scores: a figure whose variance is known."""

    def __init__(self, results):
        self.scores = np.array([result.abnormal for result in results])

    def __call__(self, times):
        return np.array([(times * self.scores).sum() / times.sum()])


@pytest.fixture
def run(films):
    """Make a run: films with these scores, of the same studies and patients in every run."""
    made = films([0.0] * 400, [])

    def make(scores):
        return [replace(film, abnormal=float(score)) for film, score in zip(made, scores, strict=False)]

    return make


def normal(mean, deviation, count=400, seed=0):
    """Numbers with exactly this mean and standard deviation."""
    drawn = np.random.default_rng(seed).normal(size=count)
    return mean + deviation * (drawn - drawn.mean()) / drawn.std(ddof=1)


def test_intervals_and_power_are_those_of_a_paired_t_test(run):
    """400 patients, differences of mean .03 and deviation .2: standard error .01."""
    base = np.random.default_rng(1).random(400)
    one = compare_arms([run(base)], [run(base + normal(0.03, 0.2))], Mean, margin=0.02, samples=4000)
    assert one.difference.value == pytest.approx(0.03)
    assert one.difference.low == pytest.approx(0.03 - Z95 * 0.01, abs=0.0012)
    assert one.difference.high == pytest.approx(0.03 + Z95 * 0.01, abs=0.0012)
    assert one.equivalence == pytest.approx((0.03 - Z90 * 0.01, 0.03 + Z90 * 0.01), abs=0.001)
    assert (one.verdict, one.patients) == ("better", 400)
    assert one.patients_needed == pytest.approx((Z95 + POWER) ** 2 * 0.2**2 / 0.02**2, rel=0.06)  # 785


@pytest.mark.parametrize(
    ("mean", "deviation", "says"),
    [
        (0.0, 0.2, "equivalent"),  # ±.0164 lies within ±.02
        (0.0, 0.3, "cannot_be_told"),  # ±.0247 does not
        (0.01, 0.2, "cannot_be_told"),  # up to .0264, and from -.0096
        (0.012, 0.08, "better_within"),  # .0042 to .0198, and ±.0066 around .012
        (-0.012, 0.08, "worse_within"),
        (-0.05, 0.2, "worse"),
    ],
)
def test_what_is_said_is_what_two_one_sided_tests_say(run, mean, deviation, says):
    base = np.random.default_rng(1).random(400)
    assert compare_arms([run(base)], [run(base + normal(mean, deviation))], Mean, samples=2000).verdict == says


def test_equivalence_needs_the_margin_and_the_interval():
    estimate = Estimate(0.0, -0.019, 0.019, 40)
    assert verdict(estimate, (-0.016, 0.016), 0.02) == "equivalent"
    assert verdict(estimate, (-0.016, 0.016), 0.016) == "cannot_be_told"  # on the margin is not within it
    nothing = Estimate(0.1, math.nan, math.nan, 40, "all resamples of the patients give the same")
    assert verdict(nothing, (math.nan, math.nan), 0.02) == "cannot_be_told"
    assert verdict(replace(nothing, value=0.0), (math.nan, math.nan), 0.02) == "none_seen"  # no proof of equivalence


def test_of_one_run_each_it_is_the_paired_bootstrap(films):
    """Nothing changes where two checkpoints are compared."""
    rng = np.random.default_rng(2)
    a = films(rng.random(30), rng.random(30), [f"p{n // 2}" for n in range(60)])
    b = [type(film)(**{**film.__dict__, "abnormal": score}) for film, score in zip(a, rng.random(60), strict=True)]
    assert compare_arms([a], [b], RocAuc, samples=200).difference == paired_bootstrap(a, b, RocAuc, samples=200)[0]


def test_the_runs_of_an_arm_widen_the_interval_as_their_own_variance_does(run):
    """Patients of deviation .2 (error .01) and runs .04 apart in three and three: √(.01² + .04²/3 + .04²/3) = .0342."""
    base = np.random.default_rng(1).random(400)
    other = base + normal(0, 0.2)
    arms = [[run(scores + effect) for effect in normal(0, 0.04, 3, seed)] for scores, seed in ((base, 3), (other, 4))]
    one = compare_arms(*arms, Mean, samples=6000)
    wide, alone = one.difference, compare_arms([arms[0][0]], [arms[1][0]], Mean, samples=2000).difference
    assert wide.value == pytest.approx(0, abs=1e-9)
    spread = (wide.high - wide.low) / 2
    assert spread == pytest.approx(Z95 * math.sqrt(0.01**2 + 2 * 0.04**2 / 3), rel=0.12)
    assert spread > 2.5 * (alone.high - alone.low) / 2
    assert [len(runs) for runs in one.runs] == [3, 3]
    assert one.patients_needed is None  # three runs that differ by .04 hide .02 from any number of patients


def test_patients_are_asked_for_beyond_what_the_runs_leave(run):
    """Runs .005 apart in five and five leave (.02 / 2.80)² − 2 · .005² / 5 to the patients."""
    base = np.random.default_rng(1).random(400)
    arms = [
        [run(scores + effect) for effect in normal(0, 0.005, 5, seed)]
        for scores, seed in ((base, 3), (base + normal(0, 0.2), 4))
    ]
    left = (0.02 / (Z95 + POWER)) ** 2 - 2 * 0.005**2 / 5
    assert compare_arms(*arms, Mean, samples=4000).patients_needed == pytest.approx(0.2**2 / left, rel=0.06)


def test_other_films_and_a_margin_of_nothing_are_refused(run):
    with pytest.raises(ValueError, match="the same films in the same order, these have 400, 3 that differ"):
        compare_arms([run(np.zeros(400))], [run(np.zeros(3))], Mean)
    with pytest.raises(ValueError, match="margin is 0, expected a difference above 0"):
        compare_arms([run(np.zeros(400))], [run(np.zeros(400))], Mean, margin=0)
