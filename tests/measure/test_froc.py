"""Sensitivity at false alarms, by hand and against a curve drawn threshold by threshold."""

import math
from dataclasses import replace

import numpy as np
import pytest

from cxr.measure.average_precision import COCO_IOUS, AveragePrecision, MeanAveragePrecision, average_precision
from cxr.measure.froc import FP_RATES, FalsePositives, SensitivityAt, froc, froc_with_intervals, recall

HEART = (0, 0, 100, 100)
SPINE = (200, 0, 260, 400)
FAR = (600, 600, 700, 700)


@pytest.fixture
def films(result):
    """Two films with findings and two without, every point of their curve known by hand."""
    return [
        result([(HEART, 1), (SPINE, 2)], [(HEART, 1, 0.9), (SPINE, 2, 0.5), (FAR, 1, 0.8)]),
        result([(HEART, 1)], [(HEART, 1, 0.4), (HEART, 1, 0.35)]),  # the second finds what is found already
        result([], [(FAR, 2, 0.7), (FAR, 2, 0.3)]),
        result(),
    ]


def test_every_point_of_a_curve_known_by_hand(films):
    curve = froc(films)
    np.testing.assert_allclose(curve.thresholds, [np.inf, 0.9, 0.8, 0.7, 0.5, 0.4, 0.35, 0.3], rtol=1e-6)
    np.testing.assert_allclose(curve.false_positives, [0, 0, 0.25, 0.5, 0.5, 0.5, 0.75, 1])
    np.testing.assert_allclose(curve.sensitivity, np.array([0, 1, 1, 1, 2, 3, 3, 3]) / 3)
    np.testing.assert_allclose(curve.normal_false_positives, [0, 0, 0, 0.5, 0.5, 0.5, 0.5, 1])


@pytest.mark.parametrize(
    ("rate", "false_positives", "sensitivity", "threshold"),
    [(1 / 8, 0, 1 / 3, 0.9), (1 / 4, 0.25, 1 / 3, 0.8), (1 / 2, 0.5, 1, 0.4), (1, 1, 1, 0.3), (8, 1, 1, 0.3)],
)
def test_each_rate_keeps_the_threshold_that_gives_it(films, rate, false_positives, sensitivity, threshold):
    point = froc(films).at(rate)
    expected = (false_positives, sensitivity, threshold)
    assert (point.false_positives, point.sensitivity, point.threshold) == pytest.approx(expected)


def test_the_curve_of_one_finding_counts_its_own_boxes_over_all_films(films):
    spine = froc(films, label=2)
    np.testing.assert_allclose(spine.thresholds, [np.inf, 0.7, 0.5, 0.3], rtol=1e-6)
    np.testing.assert_allclose(spine.false_positives, [0, 0.25, 0.25, 0.5])
    np.testing.assert_allclose(spine.sensitivity, [0, 0, 1, 1])


def test_where_the_highest_score_gives_too_many_nothing_is_shown(result):
    point = froc([result([(HEART, 1)], [(FAR, 1, 0.9), (HEART, 1, 0.8)])]).at(0.5)
    assert (point.false_positives, point.sensitivity, point.threshold) == (0, 0, math.inf)


def test_ties_enter_together_whatever_their_order(result):
    rows = [(FAR, 1, 0.5), ((0, 0, 100, 60), 1, 0.5), (HEART, 1, 0.5), (SPINE, 2, 0.5)]
    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]):
        films = [result([(HEART, 1), (SPINE, 2)], [rows[i] for i in order]), result()]
        curve = froc(films)
        assert curve.thresholds.tolist() == [math.inf, 0.5]
        assert curve.sensitivity.tolist() == [0, 1]
        assert curve.false_positives.tolist() == [0, 1]
        assert SensitivityAt(films, rates=(0.5, 1))(np.ones(2)).tolist() == [0, 1]
        assert average_precision(films, (1,)).value == pytest.approx(1 / 3)  # one right of three


def test_normal_films_alone_have_no_sensitivity_but_false_positives(result):
    films = [result([], [(FAR, 1, 0.9)]), result()]
    curve = froc(films)
    assert np.isnan(curve.sensitivity).all()
    assert curve.normal_false_positives.tolist() == [0, 0.5]
    estimate = recall(films)
    assert (math.isnan(estimate.value), estimate.n, estimate.reason) == (True, 0, "no true box")
    assert all(math.isnan(p.sensitivity) and math.isnan(p.low) for p in froc_with_intervals(films))


def test_without_normal_films_their_false_positives_are_undefined(result):
    films = [result([(HEART, 1)], [(HEART, 1, 0.9)])]
    assert np.isnan(froc(films).normal_false_positives).all()
    assert np.isnan(FalsePositives(films, 0.5)(np.ones(1))).all()


def test_false_positives_are_counted_on_normal_films_from_a_score_on(result):
    films = [result([(HEART, 1)], [(FAR, 1, 0.9)]), result([], [(FAR, 1, 0.5), (FAR, 2, 0.4)]), result()]
    assert FalsePositives(films, 0.5)(np.ones(3)).tolist() == [1 / 2]
    assert FalsePositives(films, 0.4)(np.array([5.0, 3.0, 1.0])).tolist() == [6 / 4]


def test_nothing_detected_finds_nothing(result):
    films = [result([(HEART, 1)]), result()]
    curve = froc(films)
    assert (curve.thresholds.tolist(), curve.sensitivity.tolist()) == ([math.inf], [0])
    assert curve.at(1).sensitivity == 0
    assert average_precision(films, (1,)).value == 0
    assert recall(films).value == 0


def test_no_films_are_undefined_and_no_error():
    assert math.isnan(froc([]).at(1).sensitivity)
    assert math.isnan(recall([]).value)
    assert math.isnan(average_precision([], (1, 2, 3)).value)


def test_recall_is_what_any_detection_finds(films):
    estimate = recall([*films, replace(films[1], scores=films[1].scores / 100)], label=1)
    assert (estimate.value, estimate.n) == (1, 3)


@pytest.mark.parametrize("rule", ["iou50", "iou40", "centre"])
@pytest.mark.parametrize("label", [None, 1])
def test_agrees_with_a_curve_drawn_threshold_by_threshold(random_films, rule, label):
    films = random_films(25)
    curve = froc(films, label, rule)
    assert len(curve.thresholds) > 30
    for threshold, false, sensitivity, normal in zip(
        curve.thresholds, curve.false_positives, curve.sensitivity, curve.normal_false_positives, strict=True
    ):
        hits, boxes, wrong, wrong_on_normal = brute_force(films, label, rule, threshold)
        assert sensitivity == pytest.approx(hits / boxes)
        assert false == pytest.approx(wrong / len(films))
        assert normal == pytest.approx(wrong_on_normal / sum(film.normal for film in films))


def brute_force(films, label, rule, threshold):
    """Drop what scores below the threshold, then let the others choose, best first, film by film."""
    hits = boxes = wrong = wrong_on_normal = 0
    for film in films:
        free = [(b, k) for b, k in zip(film.truth_boxes, film.truth_labels, strict=True) if label in (None, k)]
        boxes += len(free)
        shown = [
            (score, box, k)
            for box, k, score in zip(film.boxes, film.labels, film.scores, strict=True)
            if score >= threshold and label in (None, k)
        ]
        for _, box, k in sorted(shown, key=lambda row: -row[0]):
            near = [(iou(box, b), i) for i, (b, j) in enumerate(free) if j == k and counts(rule, box, b)]
            if near:
                del free[max(near)[1]]
                hits += 1
            else:
                wrong += 1
                wrong_on_normal += film.normal
    return hits, boxes, wrong, wrong_on_normal


def iou(a, b):
    width, height = (max(0.0, float(min(a[i + 2], b[i + 2])) - float(max(a[i], b[i]))) for i in (0, 1))
    areas = [(float(c[2]) - float(c[0])) * (float(c[3]) - float(c[1])) for c in (a, b)]
    return width * height / (sum(areas) - width * height)


def counts(rule, box, true):
    if rule == "centre":
        x, y = (float(box[0]) + float(box[2])) / 2, (float(box[1]) + float(box[3])) / 2
        return true[0] <= x <= true[2] and true[1] <= y <= true[3]
    return iou(box, true) >= {"iou50": 0.5, "iou40": 0.4}[rule]


@pytest.mark.parametrize(
    "figure",
    [
        lambda films: SensitivityAt(films),
        lambda films: SensitivityAt(films, 1, "centre", (0.5, math.inf)),
        lambda films: AveragePrecision(films, 2, COCO_IOUS),
        lambda films: MeanAveragePrecision(films, (1, 2, 3), (0.4,)),
    ],
)
def test_a_film_that_counts_thrice_is_as_three_films(random_films, figure):
    films = random_films(12)
    prepared = figure(films)
    for seed in range(5):
        times = np.random.default_rng(seed).integers(0, 4, len(films))
        drawn = [film for film, n in zip(films, times, strict=True) for _ in range(n)]
        np.testing.assert_allclose(prepared(times.astype(float)), figure(drawn)(np.ones(len(drawn))))


def test_many_false_alarms_beyond_the_highest_rate_change_nothing(result):
    # So many that only the first are summed; then a resample without the film that bears the first
    noisy = result([], [(FAR, 1, 0.9 - n / 1e4) for n in range(300)])
    quiet = result([(HEART, 1)], [(FAR, 1, 0.7), (HEART, 1, 0.6)])
    figure = SensitivityAt([noisy, quiet], rates=(0.5, 1.0))
    assert figure(np.array([1.0, 1.0])).tolist() == [0, 0]
    assert figure(np.array([0.0, 2.0])).tolist() == [0, 1]
    assert figure(np.array([0.0, 1.0])).tolist() == [0, 1]


def test_points_carry_the_interval_of_their_sensitivity(random_films):
    films = random_films(40, films_a_patient=2)
    points, curve = froc_with_intervals(films, samples=300), froc(films)
    assert [point.threshold for point in points] == [curve.at(rate).threshold for rate in FP_RATES]
    assert all(point.low < point.sensitivity < point.high for point in points)
    drawn = []
    rng = np.random.default_rng(0)
    for _ in range(300):
        chosen = rng.integers(0, 20, 20)
        resample = [film for patient in chosen for film in films if film.patient == f"p{patient}"]
        drawn.append(froc(resample).at(1).sensitivity)
    expected = np.percentile(drawn, (2.5, 97.5))
    assert (points[3].low, points[3].high) == pytest.approx(expected, abs=0.05)


def test_all_found_on_few_patients_is_not_certain(result):
    films = [result([(HEART, 1)], [(HEART, 1, 0.9)], patient=f"p{i // 2}") for i in range(20)]
    estimate = recall(films)
    assert (estimate.value, estimate.n, estimate.high) == (1, 20, 1)
    assert estimate.low == pytest.approx(0.025 ** (1 / 10))  # ten patients, none missed
