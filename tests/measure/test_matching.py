"""Which detection finds which true box, by each rule."""

import math

import pytest

from cxr.measure.matching import match, pairs

HEART = (0, 0, 100, 100)
SPINE = (200, 0, 260, 400)
FAR = (600, 600, 700, 700)


def test_each_true_box_is_found_once_and_by_its_own_finding(result):
    film = result([(HEART, 1)], [(HEART, 2, 0.9), (HEART, 1, 0.8), (HEART, 1, 0.7)])
    matches = match([film])
    assert matches.truth_scores == pytest.approx([0.8])
    assert matches.alarms == pytest.approx([0.9, 0.7])


def test_a_detection_does_not_find_the_box_of_another_film(result):
    films = [result([(HEART, 3)]), result([], [(HEART, 1, 0.9)]), result([], [(HEART, 3, 0.8)])]
    assert match(films).truth_scores.tolist() == [-math.inf]
    assert match(films[:2]).truth_scores.tolist() == [-math.inf]  # no detection bears the highest label


def test_a_detection_takes_the_box_that_it_overlaps_most(result):
    low, high = (0, 0, 100, 100), (0, 20, 100, 120)  # IoU 2/3 with each other
    film = result([(low, 1), (high, 1)], [(high, 1, 0.9), (low, 1, 0.8)])
    assert match([film]).truth_scores == pytest.approx([0.8, 0.9])
    tied = result([(low, 1)], [(high, 1, 0.5), (low, 1, 0.5)])
    assert pairs(tied, "iou50") == [(1, 0)]


def test_a_detection_scored_at_the_threshold_is_shown(result):
    film = result([(HEART, 1)], [(HEART, 1, 0.5)])
    assert pairs(film, "iou50", threshold=0.5) == [(0, 0)]
    assert pairs(film, "iou50", threshold=0.51) == []


def test_a_detection_whose_best_box_is_taken_finds_the_next(result):
    low, high = (0, 0, 100, 100), (0, 20, 100, 120)  # IoU 2/3 with each other
    film = result([(low, 1), (high, 1)], [(low, 1, 0.9), ((0, 2, 100, 102), 1, 0.8)])
    assert match([film]).truth_scores == pytest.approx([0.9, 0.8])


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
    assert {rule for rule in ("iou50", "iou40", "centre") if match([film], rule=rule).truth_scores[0] > 0} == rules


def test_an_unknown_rule_is_refused(result):
    with pytest.raises(ValueError, match=r"iou60.*iou50, iou40, centre"):
        match([result([(HEART, 1)], [(HEART, 1, 0.9)])], rule="iou60")


def test_a_score_that_is_no_number_is_refused_with_its_study(result):
    broken = result([], [(FAR, 2, math.nan), (FAR, 2, 0.3)], abnormal=0.5)
    with pytest.raises(ValueError, match=f"{broken.study}.*not a number"):
        match([broken])


def test_of_detections_and_boxes_that_are_all_alike_the_first_ones_are_paired(result):
    twins = result([(HEART, 1)], [(HEART, 1, 0.5), (HEART, 1, 0.5)])
    assert pairs(twins, "iou50") == [(0, 0)]
    left, right = (0, 0, 50, 100), (50, 0, 100, 100)  # each is half of the detection
    assert pairs(result([(left, 1), (right, 1)], [(HEART, 1, 0.5)]), "iou50") == [(0, 0)]
    both = result([(left, 1), (right, 1)], [(HEART, 1, 0.5), (HEART, 1, 0.5)])
    assert pairs(both, "iou50") == [(0, 0), (1, 1)]
