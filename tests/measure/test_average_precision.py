"""Average precision by hand, by another program, and over the findings that somebody marked."""

import contextlib
import io
import math

import numpy as np
import pytest

from cxr.measure.average_precision import (
    COCO_IOUS,
    AveragePrecision,
    MeanAveragePrecision,
    average_precision,
    only_detected,
    only_detected_in_words,
)
from cxr.measure.froc import froc

HEART = (0, 0, 100, 100)
SPINE = (200, 0, 260, 400)
FAR = (600, 600, 700, 700)


HEARTS, ALL = (1,), (1, 2, 3)


@pytest.mark.parametrize(
    ("boxes", "detections", "ap50", "ap"),
    [
        ([HEART], [(HEART, 1, 0.9)], 1, 1),
        ([HEART], [(FAR, 1, 0.9)], 0, 0),
        ([HEART], [], 0, 0),
        ([HEART], [(FAR, 1, 0.95), (HEART, 1, 0.9)], 1 / 2, 1 / 2),  # precision is 1/2 where the box is found
        ([HEART, SPINE], [(HEART, 1, 0.9)], 51 / 101, 51 / 101),  # recall 1/2: the recalls 0, .01 … .50 of 101
        ([HEART], [((0, 0, 100, 62), 1, 0.9)], 1, 3 / 10),  # IoU .62: found at .50, .55 and .60
        ([HEART, SPINE], [(HEART, 1, 0.9), (FAR, 1, 0.8), (SPINE, 1, 0.7)], (51 + 50 * 2 / 3) / 101, None),
    ],
)
def test_one_finding_by_hand(result, boxes, detections, ap50, ap):
    films = [result([(box, 1) for box in boxes], detections), result()]
    assert average_precision(films, HEARTS).value == pytest.approx(ap50)
    assert ap is None or average_precision(films, HEARTS, COCO_IOUS).value == pytest.approx(ap)


def test_precision_says_one_where_froc_shows_a_hundred_false_alarms_on_normal_films(result):
    sick = [result([(HEART, 1)], [(HEART, 1, 0.9)]) for _ in range(5)]
    normal = [result([], [(FAR, 1, (n + 1) / 1000) for n in range(100)]) for _ in range(5)]
    films = sick + normal
    assert average_precision(films, HEARTS).value == average_precision(films, ALL).value == 1.0
    curve = froc(films)
    assert (curve.false_positives[-1], curve.normal_false_positives[-1]) == (50, 100)
    assert curve.at(8).threshold == pytest.approx(0.085)  # 16 a normal film: 0.085 to 0.1


def test_the_mean_is_over_the_findings_that_somebody_marked(result):
    films = [result([(HEART, 1), (SPINE, 2)], [(HEART, 1, 0.9), (FAR, 3, 0.8), (FAR, 3, 0.7)]), result()]
    assert average_precision(films, ALL).value == 1 / 2  # the heart's 1 and the spine's 0; nobody marked the cap
    alone = average_precision(films, (3,))
    assert (math.isnan(alone.value), alone.n, alone.reason) == (True, 0, "nobody marked it on these films")
    assert only_detected(films, ALL) == {3: 2}
    assert only_detected(films[1:], ALL) == {1: 0, 2: 0, 3: 0}


def test_findings_that_were_only_detected_are_named_with_their_boxes(vocabulary):
    assert only_detected_in_words({"heart": 1, "spine": 0, "cap": 2}, vocabulary).endswith(
        ": heart (1 box), cap (2 boxes)."
    )
    assert only_detected_in_words({"spine": 0}, vocabulary) == only_detected_in_words({}, vocabulary) == ""


@pytest.fixture
def rare_spine(result):
    """Two hearts, both found; one spine, found below a false alarm (AP 1/2); a normal film. Four patients."""
    heart = [result([(HEART, 1)], [(HEART, 1, 0.9)]) for _ in range(2)]
    return [*heart, result([(SPINE, 2)], [(FAR, 2, 0.9), (SPINE, 2, 0.8)]), result()]


@pytest.mark.parametrize(
    ("times", "mean"),
    [
        ([1, 1, 1, 1], 3 / 4),
        ([0, 3, 1, 0], 3 / 4),  # how often a finding is drawn is no weight
        ([1, 1, 0, 2], 1),  # without the one patient who bears a spine: the hearts alone
        ([0, 0, 3, 1], 1 / 2),
        ([0, 0, 0, 4], math.nan),  # no box at all
    ],
)
def test_a_resample_takes_the_mean_over_the_findings_it_has_boxes_of(rare_spine, times, mean):
    figure = MeanAveragePrecision(rare_spine, ALL)
    assert figure(np.array(times, float)).tolist() == pytest.approx([mean], nan_ok=True)


def test_a_resample_without_a_true_box_has_no_part_in_the_interval(rare_spine):
    spine = average_precision(rare_spine, (2,), samples=200)  # 1/2 wherever the patient is drawn, never 0
    assert (spine.value, spine.n) == (1 / 2, 1)
    assert math.isnan(spine.low)
    assert spine.reason == "all resamples of the patients give the same"
    mean = average_precision(rare_spine, ALL, samples=1000)
    assert (mean.value, mean.low, mean.high) == (
        3 / 4,
        1 / 2,
        1,
    )  # hearts alone in 31 %, the spine alone in 6 %


def test_average_precision_agrees_with_pycocotools(random_films):
    films = random_films(40)
    reference = pycocotools_precision(films, np.append(0.4, COCO_IOUS))
    for label in (1, 2, 3):
        ours = AveragePrecision(films, label, (0.4, *COCO_IOUS))(np.ones(len(films)))
        np.testing.assert_allclose(ours, reference[:, label - 1], atol=1e-9)
    assert average_precision(films, ALL, COCO_IOUS).value == pytest.approx(reference[1:].mean())
    assert average_precision(films, ALL, (0.4,)).value == pytest.approx(reference[0].mean())
    assert 0.1 < reference[1].mean() < 0.9


def pycocotools_precision(films, ious):
    """Average precision [IoU, class] of pycocotools."""
    coco, evaluation = pytest.importorskip("pycocotools.coco"), pytest.importorskip("pycocotools.cocoeval")
    truth, detections = [], []
    for image, film in enumerate(films, 1):
        for box, label in zip(film.truth_boxes, film.truth_labels, strict=True):
            truth.append({**coco_row(image, box, label), "id": len(truth) + 1})
        for box, label, score in zip(film.boxes, film.labels, film.scores, strict=True):
            detections.append({**coco_row(image, box, label), "score": float(score)})
    with contextlib.redirect_stdout(io.StringIO()):
        dataset = coco.COCO()
        images = [{"id": image} for image in range(1, len(films) + 1)]
        dataset.dataset = {"images": images, "annotations": truth, "categories": [{"id": i} for i in (1, 2, 3)]}
        dataset.createIndex()
        reference = evaluation.COCOeval(dataset, dataset.loadRes(detections), "bbox")
        reference.params.iouThrs = ious
        reference.evaluate()
        reference.accumulate()
    return reference.eval["precision"][:, :, :, 0, 2].mean(1)


def coco_row(image, box, label):
    x1, y1, x2, y2 = map(float, box)
    sides = {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1)}
    return {"image_id": image, "category_id": int(label), "iscrowd": 0, **sides}
