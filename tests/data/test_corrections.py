"""What became of our boxes under a doctor's hands: kept, moved, renamed, deleted, added."""

import numpy as np
import pytest

from cxr.data.corrections import changes
from cxr.data.film import Reading


def reading(boxes: list[list[float]], names: list[str], ids: tuple[str, ...] = ()) -> Reading:
    return Reading("r", np.array(boxes, np.float32).reshape(-1, 4), tuple(names), ids=ids)


def test_each_box_is_kept_moved_renamed_deleted_or_added() -> None:
    mine = reading([[0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10], [60, 0, 70, 10]], ["a", "a", "a", "b"])
    theirs = reading([[0.5, 0, 10, 10.9], [20, 0, 32, 10], [40, 0, 50, 10], [80, 0, 90, 10]], ["a", "a", "b", "b"])
    found = changes(mine, theirs)
    assert [(one.kind, one.finding, one.renamed_to) for one in found] == [
        ("kept", "a", ""), ("moved", "a", ""), ("renamed", "a", "b"), ("deleted", "b", ""), ("added", "b", ""),
    ]  # fmt: skip
    assert found[1].iou == pytest.approx(100 / 120)


def test_a_box_with_its_name_is_the_same_wherever_it_is_moved() -> None:
    mine = reading([[0, 0, 10, 10], [20, 0, 30, 10]], ["a", "a"], ("1", "2"))
    theirs = reading([[0, 0, 10, 10], [50, 50, 60, 60]], ["a", "a"], ("2", "1"))
    assert [one.kind for one in changes(mine, theirs)] == ["moved", "moved"]
    assert [one.iou for one in changes(mine, theirs)] == [0, 0]
    assert changes(reading([], []), reading([], [])) == []


def test_a_box_that_overlaps_ours_by_exactly_the_limit_is_ours_moved() -> None:
    ours_alone, low = reading([[0, 0, 10, 10]], ["a"]), reading([[0, 0, 10, 4]], ["a"])  # IoU 40 / 100
    assert [one.kind for one in changes(ours_alone, low)] == ["moved"]
    lower = reading([[0, 0, 10, 3.99]], ["a"])
    assert [one.kind for one in changes(ours_alone, lower)] == ["deleted", "added"]
    assert [one.kind for one in changes(ours_alone, reading([[0, 0, 10, 11]], ["a"]))] == ["kept"]  # a side by 1 px
    assert [one.kind for one in changes(ours_alone, reading([[0, 0, 10, 11.1]], ["a"]))] == ["moved"]
