import contextlib
import io
import itertools
import logging
import math

import numpy as np
import pytest
import torch

from cxr.config.chatter import silence_libraries
from cxr.detect.image_head import with_image_scores
from cxr.detect.metrics import DetectionMetrics

HEART = [0.0, 0.0, 100.0, 100.0]
FAR = [500.0, 500.0, 600.0, 600.0]
FILMS = itertools.count()


def detected(*rows):
    """Rows of (box, label, score), as ``DetectionTask.detect`` gives them: a film scores as its strongest box."""
    boxes = {
        "boxes": torch.tensor([box for box, _, _ in rows]).reshape(-1, 4),
        "labels": torch.tensor([label for _, label, _ in rows], dtype=torch.int64),
        "scores": torch.tensor([score for _, _, score in rows]),
    }
    return with_image_scores(boxes, 3, None, 0.0, 0.0)


def true(*rows):
    boxes = torch.tensor([box for box, _ in rows]).reshape(-1, 4)
    labels = torch.tensor([label for _, label in rows], dtype=torch.int64)
    return {"boxes": boxes, "labels": labels, "film": torch.tensor(next(FILMS))}


@pytest.fixture
def measure(vocabulary):
    def run(detections, targets, **settings):
        metrics = DetectionMetrics(vocabulary, **settings)
        metrics.update(detections, targets)
        return metrics.compute()

    return run


def test_perfect_boxes_score_one(measure):
    figures = measure([detected((HEART, 1, 0.9))], [true((HEART, 1))])
    means = {"map": 1, "map_50": 1, "map_75": 1, "mar_100": 1, "sensitivity@1fp": 1}
    unmarked = {"only_detected/spine": 0, "only_detected/cap": 0}
    assert figures == pytest.approx({**means, **unmarked, "ap/heart": 1, "ap50/heart": 1, "ar/heart": 1})


def test_one_of_two_boxes_found_is_51_of_101_recall_points(measure):
    figures = measure([detected((HEART, 1, 0.9)), detected()], [true((HEART, 1)), true((HEART, 1))])
    assert figures["ap50/heart"] == pytest.approx(51 / 101)
    assert figures["ar/heart"] == pytest.approx(0.5)


def test_a_box_of_iou_062_counts_at_three_of_ten_thresholds(measure):
    figures = measure([detected(([0.0, 0.0, 100.0, 62.0], 1, 0.9))], [true((HEART, 1))])
    assert (figures["ap/heart"], figures["ap50/heart"], figures["map_75"]) == pytest.approx((0.3, 1.0, 0.0))


def test_a_false_alarm_above_the_true_box_halves_precision(measure):
    figures = measure([detected((FAR, 1, 0.95), (HEART, 1, 0.9))], [true((HEART, 1))])
    assert figures["ap50/heart"] == pytest.approx(0.5)


def test_figures_are_named_by_class_not_by_position(measure):
    figures = measure([detected((HEART, 3, 0.9))], [true((HEART, 3), (FAR, 2))])
    assert figures["ap/cap"] == pytest.approx(1.0)
    assert figures["ap/spine"] == 0.0
    assert not {"ap/heart", "ap50/heart", "ar/heart"} & set(figures)
    assert figures["map"] == pytest.approx(0.5)


def test_a_finding_with_only_false_alarms_is_left_out_of_ap_but_counted_on_normal_films(measure):
    figures = measure(
        [detected((HEART, 1, 0.9)), detected((HEART, 2, 0.5), (FAR, 2, 0.7), (FAR, 1, 0.49)), detected()],
        [true((HEART, 1)), true(), true()],
    )
    assert "ap/spine" not in figures
    assert (figures["only_detected/spine"], figures["only_detected/cap"]) == (2, 0)
    assert "only_detected/heart" not in figures
    assert figures["map"] == pytest.approx(1.0)
    assert figures["false_positives_per_normal_film"] == pytest.approx(1.0)  # two at 0.5 or higher, on two normal films


def test_the_threshold_of_false_alarms_is_a_setting(measure):
    figures = measure([detected((HEART, 2, 0.3))], [true()], alarm_threshold=0.2)
    assert figures["false_positives_per_normal_film"] == 1.0


def test_normal_films_alone_have_no_precision(measure):
    figures = measure([detected((HEART, 1, 0.9))], [true()])
    assert all(math.isnan(figures[key]) for key in ("map", "map_50", "map_75", "mar_100", "sensitivity@1fp"))
    assert figures["false_positives_per_normal_film"] == 1.0
    assert not any(key.startswith("a") for key in figures)  # neither ap, ap50 nor ar of any finding
    assert figures["only_detected/heart"] == 1


def test_no_detections_score_zero(measure):
    assert measure([detected()], [true((HEART, 1))])["map_50"] == 0.0


def test_sensitivity_is_told_at_one_false_positive_a_film_over_all_batches(vocabulary):
    metrics = DetectionMetrics(vocabulary)
    # two films bear two false positives: the third, of 0.5, is one too many, and the spine below it is not found
    metrics.update([detected((HEART, 1, 0.9), (FAR, 1, 0.8), (FAR, 3, 0.7))], [true((HEART, 1))])
    metrics.update([detected((HEART, 2, 0.6), (FAR, 2, 0.4), (FAR, 1, 0.5))], [true((HEART, 2), (FAR, 2))])
    assert metrics.compute()["sensitivity@1fp"] == pytest.approx(2 / 3)


def test_false_alarms_on_normal_films_show_where_precision_says_one(measure):
    alarms = detected(*[(FAR, 1, 0.5 + n / 1000) for n in range(100)])
    figures = measure([detected((HEART, 1, 0.9)), alarms], [true((HEART, 1)), true()])
    assert figures["map"] == pytest.approx(1.0)
    assert figures["false_positives_per_normal_film"] == 100.0
    assert figures["image_auc"] == 1.0


def test_a_film_scores_as_its_strongest_box_and_nothing_without_one(measure):
    detections = [detected((FAR, 3, 0.6), (FAR, 1, 0.2)), detected(), detected((FAR, 1, 0.6)), detected((FAR, 1, 0.1))]
    figures = measure(detections, [true((HEART, 1)), true((HEART, 1)), true(), true()])
    assert figures["image_auc"] == pytest.approx((0.5 + 1 + 0 + 0) / 4)  # the tie of 0.6 counts half
    assert figures["sensitivity@1fp"] == 0.0


def test_a_films_own_score_goes_before_its_boxes(measure):
    detections = [detected((HEART, 1, 0.1)), detected((FAR, 1, 0.9))]
    alone = [{**film, "abnormal": torch.tensor(score)} for film, score in zip(detections, (0.8, 0.3), strict=True)]
    targets = [true((HEART, 1)), true()]
    assert measure(detections, targets)["image_auc"] == 0.0
    assert measure(alone, targets)["image_auc"] == 1.0


def test_image_auc_needs_films_of_both_kinds(measure):
    assert "image_auc" not in measure([detected()], [true()])
    assert "image_auc" not in measure([detected()], [true((HEART, 1))])


def test_reset_forgets(vocabulary):
    metrics = DetectionMetrics(vocabulary)
    metrics.update([detected((FAR, 1, 0.9)), detected((FAR, 1, 0.9))], [true((HEART, 1)), true()])
    metrics.compute()
    metrics.reset()
    metrics.update([detected((HEART, 1, 0.9))], [true((HEART, 1))])
    figures = metrics.compute()
    assert figures["map"] == figures["sensitivity@1fp"] == pytest.approx(1.0)
    assert not {"false_positives_per_normal_film", "image_auc"} & set(figures)


def test_says_nothing_of_its_own(measure, caplog, capfd):
    caplog.set_level(logging.INFO)
    silence_libraries()  # as every command does
    measure([detected(*[(HEART, 1, 0.9)] * 150)], [true((HEART, 1))])
    assert caplog.records == []
    assert capfd.readouterr() == ("", "")


def test_agrees_with_pycocotools(vocabulary):
    coco, evaluation = pytest.importorskip("pycocotools.coco"), pytest.importorskip("pycocotools.cocoeval")
    rng = np.random.default_rng(0)
    detections, targets, images, truth, results = [], [], [], [], []
    for film in range(1, 31):
        corners = rng.uniform(0, 400, (rng.integers(0, 4), 2))
        boxes = np.concatenate([corners, corners + rng.uniform(100, 300, corners.shape)], 1)
        labels = rng.integers(1, 4, len(boxes))
        noise = boxes.repeat(2, 0) + rng.normal(0, 15, (2 * len(boxes), 4))
        wrong = np.array([[5.0, 5.0, 90.0, 80.0]])
        places = np.concatenate([noise, wrong])
        classes, scores = np.append(labels.repeat(2), 1), rng.uniform(0, 1, len(places)).astype(np.float32)
        targets.append(true(*zip(boxes.tolist(), labels.tolist(), strict=True)))
        detections.append(detected(*zip(places.tolist(), classes.tolist(), scores.tolist(), strict=True)))
        images.append({"id": film, "width": 800, "height": 800})
        truth += [coco_row(film, *row, id=len(truth) + i) for i, row in enumerate(zip(boxes, labels, strict=True), 1)]
        results += [coco_row(film, *row) for row in zip(places, classes, scores, strict=True)]
    metrics = DetectionMetrics(vocabulary)
    for detection, target in zip(detections, targets, strict=True):
        metrics.update([detection], [target])
    figures = metrics.compute()
    with contextlib.redirect_stdout(io.StringIO()):
        dataset = coco.COCO()
        dataset.dataset = {"images": images, "annotations": truth, "categories": [{"id": i} for i in (1, 2, 3)]}
        dataset.createIndex()
        reference = evaluation.COCOeval(dataset, dataset.loadRes(results), "bbox")
        reference.evaluate()
        reference.accumulate()
        reference.summarize()
    expected = dict(zip(("map", "map_50", "map_75"), reference.stats[:3], strict=True)) | {
        "mar_100": reference.stats[8]
    }
    for column, name in enumerate(("heart", "spine", "cap")):
        expected[f"ap/{name}"] = reference.eval["precision"][:, :, column, 0, 2].mean()
        expected[f"ap50/{name}"] = reference.eval["precision"][0, :, column, 0, 2].mean()
        expected[f"ar/{name}"] = reference.eval["recall"][:, column, 0, 2].mean()
    assert 0.1 < expected["map"] < 0.9
    assert {key: figures[key] for key in expected} == pytest.approx(expected, abs=1e-6)


def coco_row(film, box, label, score=1.0, **rest):
    x1, y1, x2, y2 = map(float, np.asarray(box, dtype=np.float32))
    sides = {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1)}
    return {"image_id": film, "category_id": int(label), "score": float(score), "iscrowd": 0, **sides, **rest}


def test_a_finding_that_nobody_looked_for_is_no_false_alarm(measure):
    detections, target = [detected((HEART, 1, 0.9), (FAR, 2, 0.95))], true((HEART, 1))
    everything = measure(detections, [target])
    unlabelled = measure(detections, [target | {"labelled": torch.tensor([True, False, False, False])}])
    assert everything["sensitivity@1fp"] == unlabelled["sensitivity@1fp"] == 1
    normal = true()
    assert measure(detections, [normal])["false_positives_per_normal_film"] == 2
    assert measure(detections, [normal | {"labelled": torch.tensor([True, False, True, True])}])[
        "false_positives_per_normal_film"
    ] == pytest.approx(1)


def test_a_film_without_boxes_of_which_not_all_was_asked_is_not_normal(measure):
    sick, unknown = true((HEART, 1)), true() | {"labelled": torch.tensor([True, False, True, False])}
    figures = measure([detected((HEART, 1, 0.9)), detected((HEART, 1, 0.99))], [sick, unknown])
    assert "image_auc" not in figures
    assert "false_positives_per_normal_film" not in figures


def test_a_film_with_an_answer_that_is_not_finite_counts_as_one_without_detections(measure):
    broken = detected((HEART, 1, 0.9)) | {"abnormal": torch.tensor(torch.nan)}
    figures = measure([broken, detected((FAR, 1, 0.2))], [true((HEART, 1)), true()])
    assert (figures["map_50"], figures["sensitivity@1fp"], figures["image_auc"]) == (0, 0, 0)
