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
