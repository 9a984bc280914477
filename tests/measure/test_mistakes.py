"""Mix-ups, sizes and worst films of a hand-made set of detections; results survive json to the bit."""

import json
from dataclasses import fields

import numpy as np
import pytest

from cxr.measure.kept_results import as_plain, from_plain
from cxr.measure.matching import pairs
from cxr.measure.mistakes import by_size, confusion, worst_alarms, worst_misses
from cxr.measure.results import FilmResult

HEART, SPINE, AORTA = 1, 2, 3
Box = tuple[float, float, float, float]


def film(truth: list[tuple[int, Box]], detections: list[tuple[int, float, Box]], study: str = "p") -> FilmResult:
    """A film of 100 x 100 px."""
    scores = np.array([score for _, score, _ in detections], np.float32)
    return FilmResult(
        study,
        study,
        (100, 100),
        np.array([box for _, box in truth], np.float32).reshape(-1, 4),
        np.array([label for label, _ in truth], np.int64),
        np.array([box for *_, box in detections], np.float32).reshape(-1, 4),
        np.array([label for label, *_ in detections], np.int64),
        scores,
        np.zeros(3, np.float32),
        float(scores.max(initial=0)),
    )


PLACE, OTHER = (10.0, 10.0, 30.0, 90.0), (60.0, 10.0, 80.0, 90.0)


def test_two_findings_at_one_place_are_no_mix_up() -> None:
    both = film([(HEART, PLACE), (SPINE, PLACE)], [(SPINE, 0.9, PLACE), (HEART, 0.8, PLACE)])
    assert sorted(pairs(both, "iou50", across=True)) == [(0, 1), (1, 0)]
    assert confusion([both], (HEART, SPINE), "iou50", 0.5).tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 0]]


def test_confusion_counts_mix_ups_misses_and_alarms() -> None:
    results = [
        film([(HEART, PLACE)], [(SPINE, 0.9, PLACE)]),  # taken for the spine
        film([(SPINE, PLACE)], [(SPINE, 0.4, PLACE)]),  # under the threshold: missed
        film([], [(HEART, 0.6, OTHER), (HEART, 0.5, PLACE)]),  # two alarms, one just at the threshold
    ]
    assert confusion(results, (HEART, SPINE), "iou50", 0.5).tolist() == [[0, 1, 0], [0, 0, 1], [2, 0, 0]]


@pytest.mark.parametrize(("rule", "hits"), [("iou50", 0), ("iou40", 1), ("centre", 1)])
def test_the_rule_decides_what_is_found(rule: str, hits: int) -> None:
    # IoU of [0, 100] with [0, 45] along y is .45; the centre of the detection lies inside
    result = film([(HEART, (0, 0, 10, 100))], [(HEART, 0.9, (0, 0, 10, 45))])
    assert len(pairs(result, rule)) == hits  # type: ignore[arg-type]


def test_a_true_box_is_found_once_and_by_the_surest() -> None:
    result = film([(HEART, PLACE)], [(HEART, 0.3, PLACE), (HEART, 0.7, (10, 10, 30, 80))])
    assert pairs(result, "iou50") == [(1, 0)]


def test_sizes_are_shares_of_the_film() -> None:
    truth: list[tuple[int, Box]] = [
        (AORTA, (0, 0, 9, 10)),  # 0.9 %
        (AORTA, (20, 0, 30, 10)),  # 1 %, the next stratum
        (HEART, (0, 0, 100, 100)),  # the whole film
    ]
    strata = by_size([film(truth, [(AORTA, 0.9, (20, 0, 30, 10)), (HEART, 0.4, (0, 0, 100, 100))])], "iou50", 0.5)
    assert [(s.boxes, s.hits) for s in strata] == [(1, 0), (1, 1), (0, 0), (1, 0)]


def test_the_worst_come_first() -> None:
    results = [
        film([(HEART, PLACE)], [(HEART, 0.2, PLACE), (HEART, 0.9, OTHER), (SPINE, 0.95, OTHER)]),
        film([(HEART, PLACE), (SPINE, OTHER)], [(HEART, 0.8, PLACE)]),
        film([], []),
        film([], [(AORTA, 0.5, OTHER)]),
    ]
    misses = worst_misses(results, "iou50", 2)
    assert [(m.film, m.truth, m.score) for m in misses] == [(1, 1, 0.0), (0, 0, pytest.approx(0.2))]
    alarms = worst_alarms(results, "iou50", 5)
    assert [(a.film, a.detection) for a in alarms] == [(0, 2), (3, 0)]  # one a film


def test_results_survive_json_to_the_bit() -> None:
    before = film([(HEART, (0.1, 0.2, 33.3, 44.4))], [(SPINE, 1 / 3, (1 / 7, 0, 50, 60))])
    for result in (before, film([], [])):
        after = from_plain(json.loads(json.dumps(as_plain(result))))
        for field in fields(FilmResult):
            ours, theirs = getattr(result, field.name), getattr(after, field.name)
            if isinstance(ours, np.ndarray):
                assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
                assert (ours == theirs).all()
            else:
                assert ours == theirs
