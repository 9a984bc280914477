"""Films that do not tell of everything have a part only in the figures they tell of."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cxr.measure.evaluation import POOLED, Settings, evaluate
from cxr.measure.kept_results import as_plain, from_kept, from_plain, read_kept
from cxr.measure.results import with_known_truth

BOX = [0, 0, 100, 100]
HEART_ONLY = np.array([True, False, False, False])


def test_a_film_tells_of_what_was_looked_for(result) -> None:
    whole, part = result([(BOX, 1)]), replace(result(), labelled=HEART_ONLY)
    assert with_known_truth([whole, part], 1) == [whole, part]
    assert with_known_truth([whole, part], 2) == [whole]
    assert with_known_truth([whole, part]) == [whole]  # without a mark nobody knows whether the other is normal
    assert not part.normal
    assert with_known_truth([replace(result([(BOX, 1)]), labelled=HEART_ONLY)]) != []  # a mark is enough to be abnormal


def test_it_is_kept_with_the_result(result) -> None:
    kept = from_plain(as_plain(replace(result(), labelled=HEART_ONLY)))
    assert kept.labelled is not None
    assert kept.labelled.tolist() == HEART_ONLY.tolist()
    assert from_plain(as_plain(result())).labelled is None


def test_figures_of_a_finding_count_the_films_that_tell_of_it(result, vocabulary) -> None:
    films = [result([(BOX, 1)], [(BOX, 1, 0.9)]), result([(BOX, 2)], [(BOX, 2, 0.8)]), result()]
    films += [replace(result(abnormal=0.99), labelled=HEART_ONLY) for _ in range(5)]
    first, second, _ = vocabulary.names
    evaluation = evaluate(films, vocabulary, vocabulary.names, None, Settings("iou50", (0.2,), 2, 10, 0))
    assert evaluation.per_finding[first].all_films == 8
    assert evaluation.per_finding[second].all_films == 3
    assert evaluation.per_finding[POOLED].all_films == 8
    assert (evaluation.films, evaluation.normal) == (8, 1)
    assert evaluation.image_precision.n == 3  # five films of which nobody knows whether they are normal are left out


def test_what_is_not_finite_is_null_in_the_file_and_told_when_it_comes_back(result) -> None:
    broken = replace(result(), abnormal=math.nan, finding_scores=np.full(3, np.nan, np.float32))
    assert result().finite
    assert not broken.finite
    kept = json.loads(json.dumps(as_plain(broken), allow_nan=False))
    assert not from_plain(kept).finite


@pytest.mark.parametrize("content", ["", "[1]", '{"a": [', "\x00\x00", "[" * 9999])
def test_a_damaged_file_of_kept_results_is_as_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "detections.json").write_text(content)
    assert read_kept(tmp_path / "detections.json") == {}


def test_kept_results_that_are_damaged_or_too_few_are_detected_again(result) -> None:
    whole = [as_plain(result()), as_plain(result())]
    assert from_kept(whole, 2) is not None
    assert from_kept(None, 2) is None
    for damaged in (whole[:1], [whole[0], {}], [whole[0], {**whole[1], "boxes": [[1.0]]}], 7, "films"):
        assert from_kept(damaged, 2) is None
