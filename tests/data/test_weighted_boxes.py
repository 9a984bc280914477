"""Weighted boxes fusion, by hand."""

import numpy as np
import pytest

from cxr.data.weighted_boxes import fuse_boxes


def boxes(*rows: list[float]) -> np.ndarray:
    return np.array(rows, np.float32).reshape(-1, 4)


def test_a_fused_box_is_the_mean_weighted_by_the_scores() -> None:
    fused, cluster = fuse_boxes(boxes([0, 0, 10, 10], [2, 0, 12, 10]), np.array([0.9, 0.3], np.float32), 0.5)
    assert fused.tolist() == [[pytest.approx(0.5), 0, pytest.approx(10.5), 10]]  # (0.9 · 0 + 0.3 · 2) / 1.2
    assert cluster.tolist() == [0, 0]


def test_the_surest_box_begins_and_each_box_says_where_it_went() -> None:
    rows = boxes([2, 0, 12, 10], [50, 50, 60, 60], [0, 0, 10, 10])
    fused, cluster = fuse_boxes(rows, np.array([0.2, 0.9, 0.6], np.float32), 0.5)
    assert cluster.tolist() == [1, 0, 1]
    np.testing.assert_allclose(fused, boxes([50, 50, 60, 60], [0.5, 0, 10.5, 10]))


def test_boxes_with_the_score_0_have_a_mean_and_none_gives_none() -> None:
    fused, _ = fuse_boxes(boxes([0, 0, 10, 10]), np.zeros(1, np.float32), 0.5)
    np.testing.assert_allclose(fused, boxes([0, 0, 10, 10]))
    fused, cluster = fuse_boxes(boxes(), np.zeros(0, np.float32), 0.5)
    assert (fused.shape, cluster.shape) == ((0, 4), (0,))


def test_boxes_that_overlap_by_exactly_the_limit_are_two_things() -> None:
    rows, scores = boxes([0, 0, 10, 10], [0, 0, 10, 5]), np.array([0.9, 0.3], np.float32)  # IoU 50 / 100
    assert fuse_boxes(rows, scores, 0.5)[1].tolist() == [0, 1]
    assert fuse_boxes(rows, scores, 0.4999)[1].tolist() == [0, 0]


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0], [1, 2, 0]])
def test_of_boxes_that_are_equally_sure_and_large_the_same_one_begins_in_any_order_of_rows(order: list[int]) -> None:
    # the middle one could join either: IoU 80 / 120 with both; the mean of two has 70 / 130 with the third
    rows = boxes([0, 0, 10, 10], [2, 0, 12, 10], [4, 0, 14, 10])[order]
    fused, _ = fuse_boxes(rows, np.full(3, 0.5, np.float32), 0.6)
    assert fused.tolist() == [[1, 0, 11, 10], [4, 0, 14, 10]]
