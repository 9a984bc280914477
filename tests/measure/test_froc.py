import contextlib
import io
import math
from dataclasses import replace

import numpy as np
import pytest

from cxr.measure.froc import (
    COCO_IOUS,
    FP_RATES,
    AveragePrecision,
    MeanAveragePrecision,
    SensitivityAt,
    average_precision,
    false_positives_per_normal_film,
    froc,
    froc_with_intervals,
    match,
    recall,
)

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


@pytest.fixture
def random_films(result):
    """Boxes found more or less well, twice, as another finding or not at all; normal films; no score twice."""

    def make(count, seed=0, films_a_patient=1):
        rng = np.random.default_rng(seed)
        made = []
        for film in range(count):
            corners = rng.uniform(0, 400, (rng.integers(0, 4), 2))
            boxes = np.concatenate([corners, corners + rng.uniform(100, 300, corners.shape)], 1)
            labels = rng.integers(1, 4, len(boxes))
            noise = np.concatenate([boxes.repeat(2, 0), rng.uniform(0, 250, (3, 4)) + np.repeat((0, 350), 2)])
            noise += rng.normal(0, 15, noise.shape)
            said = np.where(rng.random(len(noise)) < 0.1, 3, np.append(labels.repeat(2), rng.integers(1, 4, 3)))
            rows = zip(noise, said, rng.random(len(noise)), strict=True)
            made.append(result(list(zip(boxes, labels, strict=True)), list(rows), f"p{film // films_a_patient}"))
        return made

    return make


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


def test_each_true_box_is_found_once_and_by_its_own_finding(result):
    film = result([(HEART, 1)], [(HEART, 2, 0.9), (HEART, 1, 0.8), (HEART, 1, 0.7)])
    matches = match([film])
    assert matches.found == pytest.approx([0.8])
    assert matches.alarms == pytest.approx([0.9, 0.7])


def test_a_detection_does_not_find_the_box_of_another_film(result):
    films = [result([(HEART, 3)]), result([], [(HEART, 1, 0.9)]), result([], [(HEART, 3, 0.8)])]
    assert match(films).found.tolist() == [-math.inf]
    assert match(films[:2]).found.tolist() == [-math.inf]  # no detection bears the highest label


def test_a_detection_whose_best_box_is_taken_finds_the_next(result):
    low, high = (0, 0, 100, 100), (0, 20, 100, 120)  # IoU 2/3 with each other
    film = result([(low, 1), (high, 1)], [(low, 1, 0.9), ((0, 2, 100, 102), 1, 0.8)])
    assert match([film]).found == pytest.approx([0.9, 0.8])


def test_ties_enter_together_whatever_their_order(result):
    rows = [(FAR, 1, 0.5), ((0, 0, 100, 60), 1, 0.5), (HEART, 1, 0.5), (SPINE, 2, 0.5)]
    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]):
        films = [result([(HEART, 1), (SPINE, 2)], [rows[i] for i in order]), result()]
        curve = froc(films)
        assert curve.thresholds.tolist() == [math.inf, 0.5]
        assert curve.sensitivity.tolist() == [0, 1]
        assert curve.false_positives.tolist() == [0, 1]
        assert SensitivityAt(films, rates=(0.5, 1))(np.ones(2)).tolist() == [0, 1]
        assert average_precision(films, 1).value == pytest.approx(1 / 3)  # one right of three


@pytest.mark.parametrize(
    ("box", "rules"),
    [
        ((0, 0, 100, 50), {"iou50", "iou40", "centre"}),
        ((0, 0, 100, 45), {"iou40", "centre"}),
        ((0, 0, 100, 39), {"centre"}),
        ((90, 90, 110, 110), {"centre"}),  # its centre on the corner
        ((92, 92, 112, 112), set()),
        ((0, 0, 220, 100), {"iou40"}),
    ],
)
def test_the_rule_says_what_counts_as_found(result, box, rules):
    film = result([(HEART, 1)], [(box, 1, 0.9)])
    assert {rule for rule in ("iou50", "iou40", "centre") if match([film], rule=rule).found[0] > 0} == rules


def test_an_unknown_rule_is_refused(films):
    with pytest.raises(ValueError, match=r"iou60.*iou50, iou40, centre"):
        froc(films, rule="iou60")


def test_a_score_that_is_no_number_is_refused_with_its_study(films):
    broken = replace(films[2], scores=np.array([np.nan, 0.3], np.float32))
    with pytest.raises(ValueError, match=f"{broken.study}.*not a number"):
        froc([broken])


def test_precision_says_one_where_froc_shows_a_hundred_false_alarms_on_normal_films(result):
    sick = [result([(HEART, 1)], [(HEART, 1, 0.9)]) for _ in range(5)]
    normal = [result([], [(FAR, 1, (n + 1) / 1000) for n in range(100)]) for _ in range(5)]
    films = sick + normal
    assert average_precision(films, 1).value == average_precision(films, None).value == 1.0
    curve = froc(films)
    assert (curve.false_positives[-1], curve.normal_false_positives[-1]) == (50, 100)
    assert false_positives_per_normal_film(films, threshold=0.0).value == 100
    assert false_positives_per_normal_film(films, threshold=0.0505).value == 50
    assert curve.at(8).threshold == pytest.approx(0.085)  # 16 a normal film: 0.085 to 0.1


def test_a_finding_with_false_alarms_only_counts_as_0_and_one_without_any_not_at_all(result):
    films = [result([(HEART, 1)], [(HEART, 1, 0.9), (FAR, 2, 0.1)]), result()]
    assert average_precision(films, 1).value == 1
    assert average_precision(films, 2).value == 0
    absent = average_precision(films, 3)
    assert math.isnan(absent.value)
    assert absent.reason == "neither true boxes nor detections"
    assert average_precision(films, None).value == pytest.approx(0.5)


def test_normal_films_alone_have_no_sensitivity_but_false_positives(result):
    films = [result([], [(FAR, 1, 0.9)]), result()]
    curve = froc(films)
    assert np.isnan(curve.sensitivity).all()
    assert curve.normal_false_positives.tolist() == [0, 0.5]
    found = recall(films)
    assert (math.isnan(found.value), found.n, found.reason) == (True, 0, "no true box")
    assert all(math.isnan(p.sensitivity) and math.isnan(p.low) for p in froc_with_intervals(films))


def test_without_normal_films_their_false_positives_are_undefined(result):
    films = [result([(HEART, 1)], [(HEART, 1, 0.9)])]
    assert np.isnan(froc(films).normal_false_positives).all()
    missing = false_positives_per_normal_film(films, 0.5)
    assert (math.isnan(missing.value), missing.reason) == (True, "no normal film")


def test_nothing_detected_finds_nothing(result):
    films = [result([(HEART, 1)]), result()]
    curve = froc(films)
    assert (curve.thresholds.tolist(), curve.sensitivity.tolist()) == ([math.inf], [0])
    assert curve.at(1).sensitivity == 0
    assert average_precision(films, 1).value == 0
    assert recall(films).value == 0


def test_no_films_are_undefined_and_no_error():
    assert math.isnan(froc([]).at(1).sensitivity)
    assert math.isnan(recall([]).value)
    assert math.isnan(average_precision([], None).value)


def test_recall_is_what_any_detection_finds(films):
    found = recall([*films, replace(films[1], scores=films[1].scores / 100)], label=1)
    assert (found.value, found.n) == (1, 3)


@pytest.mark.parametrize("rule", ["iou50", "iou40", "centre"])
@pytest.mark.parametrize("label", [None, 1])
def test_agrees_with_a_curve_drawn_threshold_by_threshold(random_films, rule, label):
    films = random_films(25)
    curve = froc(films, label, rule)
    assert len(curve.thresholds) > 30
    for threshold, false, sensitivity, normal in zip(
        curve.thresholds, curve.false_positives, curve.sensitivity, curve.normal_false_positives, strict=True
    ):
        found, boxes, wrong, wrong_on_normal = brute_force(films, label, rule, threshold)
        assert sensitivity == pytest.approx(found / boxes)
        assert false == pytest.approx(wrong / len(films))
        assert normal == pytest.approx(wrong_on_normal / sum(film.normal for film in films))


def brute_force(films, label, rule, threshold):
    """Drop what scores below the threshold, then let the others choose, best first, film by film."""
    found = boxes = wrong = wrong_on_normal = 0
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
                found += 1
            else:
                wrong += 1
                wrong_on_normal += film.normal
    return found, boxes, wrong, wrong_on_normal


def iou(a, b):
    width, height = (max(0.0, float(min(a[i + 2], b[i + 2])) - float(max(a[i], b[i]))) for i in (0, 1))
    areas = [(float(c[2]) - float(c[0])) * (float(c[3]) - float(c[1])) for c in (a, b)]
    return width * height / (sum(areas) - width * height)


def counts(rule, box, true):
    if rule == "centre":
        x, y = (float(box[0]) + float(box[2])) / 2, (float(box[1]) + float(box[3])) / 2
        return true[0] <= x <= true[2] and true[1] <= y <= true[3]
    return iou(box, true) >= {"iou50": 0.5, "iou40": 0.4}[rule]


def test_average_precision_agrees_with_pycocotools(random_films):
    films = random_films(40)
    reference = pycocotools_precision(films, np.append(0.4, COCO_IOUS))
    for label in (1, 2, 3):
        own = AveragePrecision(films, label, (0.4, *COCO_IOUS))(np.ones(len(films)))
        np.testing.assert_allclose(own, reference[:, label - 1], atol=1e-9)
    assert average_precision(films, None, COCO_IOUS).value == pytest.approx(reference[1:].mean())
    assert average_precision(films, None, (0.4,)).value == pytest.approx(reference[0].mean())
    assert 0.1 < reference[1].mean() < 0.9


def pycocotools_precision(films, ious):
    """Average precision [IoU, class] of pycocotools."""
    coco, evaluation = pytest.importorskip("pycocotools.coco"), pytest.importorskip("pycocotools.cocoeval")
    truth, found = [], []
    for image, film in enumerate(films, 1):
        for box, label in zip(film.truth_boxes, film.truth_labels, strict=True):
            truth.append({**coco_row(image, box, label), "id": len(truth) + 1})
        for box, label, score in zip(film.boxes, film.labels, film.scores, strict=True):
            found.append({**coco_row(image, box, label), "score": float(score)})
    with contextlib.redirect_stdout(io.StringIO()):
        dataset = coco.COCO()
        images = [{"id": image} for image in range(1, len(films) + 1)]
        dataset.dataset = {"images": images, "annotations": truth, "categories": [{"id": i} for i in (1, 2, 3)]}
        dataset.createIndex()
        reference = evaluation.COCOeval(dataset, dataset.loadRes(found), "bbox")
        reference.params.iouThrs = ious
        reference.evaluate()
        reference.accumulate()
    return reference.eval["precision"][:, :, :, 0, 2].mean(1)


def coco_row(image, box, label):
    x1, y1, x2, y2 = map(float, box)
    sides = {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1)}
    return {"image_id": image, "category_id": int(label), "iscrowd": 0, **sides}


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


def test_a_finding_that_a_resample_lacks_does_not_count_as_0_in_its_mean(result):
    films = [result([(HEART, 1)], [(HEART, 1, 0.9)]), result([(SPINE, 2)], [(SPINE, 2, 0.9), (FAR, 1, 0.8)])]
    assert MeanAveragePrecision(films, (1, 2))(np.array([0.0, 2.0])).tolist() == [1]


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
    found = recall(films)
    assert (found.value, found.n, found.high) == (1, 20, 1)
    assert found.low == pytest.approx(0.025 ** (1 / 10))  # ten patients, none missed
