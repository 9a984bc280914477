"""A promise holds on new patients, costs no more than it must, and is refused where there are too few."""

import math
from dataclasses import replace

import numpy as np
import pytest

from cxr.measure.risk_control import FalseBoxes, MissedBoxes, PutAside, promise, reached

BOX, ELSEWHERE = (0, 0, 100, 100), (500, 500, 600, 600)


@pytest.fixture
def found(result):
    """Make films of one box each, found with a score; None: not found."""

    def make(scores, patients=None):
        owners = patients or [None] * len(scores)
        return [
            result([(BOX, 1)], [] if score is None else [(BOX, 1, score)], patient)
            for score, patient in zip(scores, owners, strict=True)
        ]

    return make


def test_nine_patients_without_a_miss_promise_a_tenth_and_eight_are_refused_with_that_number(found):
    scores = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.35, 0.3, 0.2]
    nine, eight = (promise(MissedBoxes(found(scores[:n]), 1), 0.1) for n in (9, 8))
    assert (nine.threshold, nine.patients, nine.risk, nine.needed) == (0.2, 9, 0, None)  # (0 + 1) / 10
    assert (eight.threshold, eight.patients, eight.needed) == (None, 8, 9)
    assert promise(MissedBoxes(found(scores), 1), 0.05).needed == 19
    assert promise(MissedBoxes(found([]), 1), 0.01).needed == 99


def test_the_threshold_is_the_boldest_that_keeps_the_level(found):
    """Of 19 patients one may be missed at a tenth: (1 + 1) / 20. Two would be too many."""
    kept = promise(MissedBoxes(found(np.linspace(0.1, 0.9, 19)), 1), 0.1)
    assert kept.threshold == pytest.approx(0.1 + 0.8 / 18, abs=1e-6)
    assert kept.risk == pytest.approx(1 / 19)


def test_what_the_detector_never_finds_counts_and_a_number_is_told_if_one_is_enough(found):
    one_of_fifteen = promise(MissedBoxes(found([0.5] * 14 + [None]), 1), 0.1)
    assert one_of_fifteen.threshold is None  # (1 + 1) / 16
    assert one_of_fifteen.needed == 27  # (27 / 15 + 1) / 28 = 0.1
    a_fifth = promise(MissedBoxes(found([0.5] * 40 + [None] * 10), 1), 0.1)
    assert (a_fifth.threshold, a_fifth.risk, a_fifth.needed) == (None, 0.2, None)
    assert promise(MissedBoxes(found([None]), 1), 0.1).needed == 9  # one patient says nothing of the detector


def test_patients_count_and_not_their_films(found):
    """Ten films of one patient are one patient, whose loss is the share of the missed boxes."""
    loss = MissedBoxes(found([0.9] * 5 + [0.1] * 5, ["a"] * 10), 1)
    assert loss.patients == 1
    assert loss(0.5).tolist() == [0.5]
    assert promise(loss, 0.1).needed == 9


@pytest.mark.parametrize(("patients", "level"), [(30, 0.1), (99, 0.05)])
def test_the_mean_loss_of_new_patients_is_what_theory_says(patients, level, found):
    """Scores drawn evenly: a threshold t misses the share t, and the promise gives floor(α (n + 1)) / (n + 1)."""
    rng, risks = np.random.default_rng(0), []
    films = found([0.5] * patients)
    for _ in range(400):
        loss = MissedBoxes(films, 1)
        loss._scores = np.round(rng.random(patients), 6)
        loss.thresholds = np.unique(np.append(0.0, loss._scores))
        risks.append(promise(loss, level).threshold)
    exact = math.floor(level * (patients + 1) + 1e-9) / (patients + 1)
    error = np.std(risks) / math.sqrt(len(risks))
    assert np.mean(risks) == pytest.approx(exact, abs=4 * error)
    assert exact <= level
    assert error < 0.003


def test_a_more_careful_threshold_never_loses_more(random_films):
    results = random_films(60, seed=3, films_a_patient=2)
    for loss in (MissedBoxes(results, 1), MissedBoxes(results, 3), PutAside(results), FalseBoxes(results)):
        losses = np.array([loss(threshold) for threshold in loss.thresholds])
        assert loss.patients > 10
        assert losses.shape == (len(loss.thresholds), loss.patients)
        assert (np.diff(losses, axis=0) >= 0).all()
        assert losses.max() <= loss.most


def test_an_abnormal_patient_is_lost_where_any_of_their_abnormal_films_is_put_aside(films):
    loss = PutAside(films([0.9, 0.2, 0.8], [0.1, 0.6], ["a", "a", "b", "c", "a"]))
    assert loss.patients == 2
    assert loss(0.2).tolist() == [0, 0]
    assert loss(0.5).tolist() == [1, 0]  # the patient's normal film of 0.6 says nothing


def test_false_boxes_are_counted_a_film_up_to_the_most_and_kept_below_a_rate(result):
    """Twenty-one patients with a false box each, of scores .01 to .21, and of one twelve more: ten count."""
    many = [(ELSEWHERE, 2, 0.21)] * 13
    one = [result([(BOX, 1)], [(BOX, 1, 0.9), (ELSEWHERE, 1, n / 100)]) for n in range(1, 21)]
    loss = FalseBoxes([*one, result([], many)])
    assert sorted(loss(0.0)) == [1.0] * 20 + [10.0]
    assert sorted(loss(0.105)) == [0.0] * 10 + [1.0] * 10 + [10.0]
    kept = promise(loss, 1.0)  # (n + 10 + 10) / 22 ≤ 1: two of the twenty may have theirs
    assert (kept.threshold, kept.risk) == (0.180001, 12 / 21)
    refused = promise(loss, 0.4)
    assert (refused.threshold, refused.risk, refused.needed) == (None, 0, 24)  # (0 + 10) / 25 = 0.4
    assert promise(FalseBoxes(one[:9]), 0.5).needed == 19  # (0 + 10) / 20


def test_a_film_that_was_not_read_for_every_finding_has_no_false_boxes_to_count(result):
    film = result([], [(ELSEWHERE, 1, 0.5)])
    partly = replace(film, labelled=np.array([True, False, True, False]), patient="other")
    assert FalseBoxes([film, partly]).patients == 1
    assert FalseBoxes([film, replace(partly, labelled=np.ones(4, bool))]).patients == 2


def test_a_promise_is_of_the_scores_that_predictions_hold(found):
    """Predictions have six digits: a box of the score that the threshold was taken from is shown."""
    score = float(np.float32(1 / 3))
    kept = promise(MissedBoxes(found([score] * 9), 1), 0.1)
    assert round(score, 6) >= kept.threshold == 0.333333


def test_what_films_gave_is_a_mean_over_patients_with_its_interval(found):
    loss = MissedBoxes(found([0.9] * 30 + [0.1] * 10), 1)
    here = reached(loss, 0.5)
    spread = 1.96 * math.sqrt(0.25 * 0.75 / 40)
    assert (here.value, here.n) == (0.25, 40)
    assert (here.low, here.high) == (pytest.approx(0.25 - spread, abs=0.02), pytest.approx(0.25 + spread, abs=0.02))
    assert reached(loss, 0.0).high == pytest.approx(1 - 0.025 ** (1 / 40))  # none missed of 40: not certain
    assert reached(MissedBoxes(found([]), 1), 0.5).reason == "no such patient"


@pytest.mark.parametrize("level", [0.0, 1.0, 1.5, -0.1])
def test_a_level_that_no_promise_can_have_is_refused(found, level):
    with pytest.raises(ValueError, match="expected a loss between 0 and 1"):
        promise(MissedBoxes(found([0.5]), 1), level)
