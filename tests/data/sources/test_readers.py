"""Several readers of a film: what their boxes become, and how far they agree, worked out by hand."""

from pathlib import Path

import numpy as np
import pytest

from cxr.data.film import Film, Reading
from cxr.data.sources.readers import agreement, fleiss_kappa, fuse, unite, weighted_boxes_fusion
from cxr.data.weighted_boxes import box_iou


def reading(rater: str, *marks: tuple[str, list[float]]) -> Reading:
    boxes = np.array([box for _, box in marks], np.float32).reshape(-1, 4)
    return Reading(rater, boxes, tuple(name for name, _ in marks))


def film(*readings: Reading) -> Film:
    nothing = np.zeros((0, 4), np.float32)
    return Film(Path("x"), "x", "s", "p", nothing, (), 100, 100, readings=readings)


def test_the_overlap_of_two_squares_that_share_a_quarter_of_their_sum() -> None:
    a, b = np.array([[0, 0, 10, 10]], np.float32), np.array([[0, 5, 10, 15], [20, 20, 30, 30]], np.float32)
    assert box_iou(a, b).tolist() == [[pytest.approx(50 / 150), 0]]


def test_boxes_that_overlap_become_their_mean_and_others_stay() -> None:
    boxes = np.array([[0, 0, 10, 10], [2, 0, 12, 10], [50, 50, 60, 60]], np.float32)  # the first two: IoU 80 / 120
    assert weighted_boxes_fusion(boxes, 0.4).tolist() == [[1, 0, 11, 10], [50, 50, 60, 60]]
    assert weighted_boxes_fusion(boxes, 0.7).tolist() == [[0, 0, 10, 10], [2, 0, 12, 10], [50, 50, 60, 60]]


def test_a_box_is_compared_with_the_mean_of_a_cluster_not_with_its_first() -> None:
    # the third overlaps the first by 60 / 140 = .43, the mean of the first two (1..11) by 70 / 130 = .54
    boxes = np.array([[0, 0, 10, 10], [2, 0, 12, 10], [4, 0, 14, 10]], np.float32)
    assert weighted_boxes_fusion(boxes, 0.5).tolist() == [[2, 0, 12, 10]]


def test_the_order_of_rows_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 20, (30, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(5, 20, (30, 2))], axis=1).astype(np.float32)
    np.testing.assert_array_equal(weighted_boxes_fusion(boxes, 0.4), weighted_boxes_fusion(boxes[::-1], 0.4))


def test_boxes_of_different_findings_are_not_fused() -> None:
    readings = [reading("R1", ("nodule", [0, 0, 10, 10])), reading("R2", ("mass", [0, 0, 10, 10]))]
    boxes, names = fuse(readings, 0.4)
    assert names == ("mass", "nodule")
    assert boxes.tolist() == [[0, 0, 10, 10], [0, 0, 10, 10]]


def test_the_union_has_every_box_and_the_same_one_once() -> None:
    readings = [
        reading("R1", ("nodule", [0, 0, 10, 10])),
        reading("R2", ("nodule", [0, 0, 10, 10]), ("nodule", [1, 0, 10, 10])),
    ]
    boxes, names = unite(readings)
    assert boxes.tolist() == [[0, 0, 10, 10], [1, 0, 10, 10]]
    assert names == ("nodule", "nodule")


def test_no_readings_are_no_boxes() -> None:
    for boxes, names in (fuse([reading("R1"), reading("R2")], 0.4), unite([])):
        assert (boxes.shape, boxes.dtype, names) == ((0, 4), np.float32, ())


def test_fleiss_kappa_of_three_readers() -> None:
    # films: all yes, two of three, none, none. Agreement 1, 1/3, 1, 1 → mean 5/6; yes 5 of 12 → chance 25/144 + 49/144
    assert fleiss_kappa([(3, 3), (2, 3), (0, 3), (0, 3)]) == pytest.approx((5 / 6 - 74 / 144) / (1 - 74 / 144))
    assert fleiss_kappa([(0, 3), (0, 3)]) is None
    assert fleiss_kappa([(1, 2), (1, 2)]) == pytest.approx(-1)


def test_agreement_counts_films_and_pairs_boxes_one_to_one() -> None:
    left, right, shifted = [0.0, 0, 10, 10], [50.0, 0, 60, 10], [2.0, 0, 12, 10]
    films = [
        film(reading("R1", ("nodule", left), ("nodule", right)), reading("R2", ("nodule", shifted)), reading("R3")),
        film(reading("R1"), reading("R4"), reading("R5", ("mass", left))),
        film(reading("R1", ("nodule", left))),  # one reader: nothing to compare
    ]
    agreements = agreement(films, ["nodule", "mass", "fracture"])
    assert agreements.keys() == {"nodule", "mass"}
    nodule = agreements["nodule"]
    assert (nodule.films, nodule.marked, nodule.shared, nodule.share) == (2, 1, 1, 1)
    assert nodule.box_f1 == pytest.approx(2 * 1 / (3 + 2 + 1))  # R1–R2: 1 pair of 3 boxes; R1–R3: 2 boxes; R2–R3: 1
    # yes 2 of 3 and 0 of 3: agreement 1/3 and 1; yes 2 of 6: chance 5/9
    assert nodule.kappa == pytest.approx((2 / 3 - 5 / 9) / (1 - 5 / 9))
    assert (agreements["mass"].shared, agreements["mass"].share, agreements["mass"].box_f1) == (0, 0, 0)


def test_two_boxes_of_one_reader_cannot_both_be_one_box_of_the_other() -> None:
    twice = reading("R1", ("nodule", [0, 0, 10, 10]), ("nodule", [1, 0, 11, 10]))
    once = reading("R2", ("nodule", [0, 0, 10, 10]))
    assert agreement([film(twice, once)], ["nodule"])["nodule"].box_f1 == pytest.approx(2 / 3)


def test_boxes_of_two_readers_that_overlap_by_exactly_the_limit_agree() -> None:
    whole, half = reading("R1", ("nodule", [0, 0, 10, 10])), reading("R2", ("nodule", [0, 0, 10, 5]))  # IoU 50 / 100
    agreed = [agreement([film(whole, half)], ["nodule"], iou)["nodule"] for iou in (0.5, 0.5001)]
    assert [(one.box_f1, one.overlap) for one in agreed] == [(1, 0.5), (0, None)]
