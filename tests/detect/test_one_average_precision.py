"""train.py and evaluate.py say one average precision of one set of detections, whatever odd films are among them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cxr.detect.metrics import DetectionMetrics
from cxr.findings import FindingVocabulary
from cxr.measure.evaluation import POOLED, Settings, evaluate
from cxr.measure.results import FilmResult

NAMES = ("heart", "spine", "cap", "node")  # nobody marks a node
FINDINGS = FindingVocabulary([{"name": name} for name in NAMES])
FAR = np.array([[900, 900, 990, 990]], np.float32)


def film(rng: np.random.Generator, number: int) -> FilmResult:
    """A film as a reader marked it and a detector answered it.

    No score comes twice among the loose boxes of a finding, but all findings share the scores. Exact boxes are all
    scored 0.75 and boxes far from everything 0.25: ties of right ones and of wrong ones.
    """
    marked = 0 if number % 4 == 3 else int(rng.integers(1, 4))  # every fourth film is normal
    labelled = np.array([True, True, number % 5 != 0, True, number % 5 != 0])  # of some nobody looked for a cap
    corners = 350 * np.arange(marked)[:, None] + rng.uniform(0, 50, (marked, 2))
    truth = np.concatenate([corners, corners + rng.uniform(80, 250, (marked, 2))], 1).astype(np.float32)
    labels = rng.integers(1, 4 if labelled[2] else 3, marked)
    loose = truth + rng.normal(0, 12, truth.shape).astype(np.float32)
    exact = rng.random(marked) < 0.3
    boxes = np.concatenate([loose, truth[exact], *[FAR] * 4])
    classes = np.concatenate([labels, labels[exact], [1, 2, 3, 4]])
    scores = np.concatenate([(np.arange(marked) + 3 * number + 1) / 1000, np.full(exact.sum(), 0.75), [0.25] * 4])
    if number % 7 == 6:  # nothing is detected
        boxes, classes, scores = boxes[:0], classes[:0], scores[:0]
    return FilmResult(
        str(number), f"p{number // 2}", (1000, 1000), truth, labels, boxes, classes, scores.astype(np.float32),
        np.zeros(4, np.float32), float(scores.max(initial=0)), labelled,
    )  # fmt: skip


def looked_for(each: FilmResult) -> FilmResult:
    """Return the film as evaluate.py has it: without detections of what nobody looked for."""
    kept = each.labelled[each.labels - 1]  # type: ignore[index]
    return replace(each, boxes=each.boxes[kept], labels=each.labels[kept], scores=each.scores[kept])


def in_training(films: list[FilmResult]) -> dict[str, float]:
    """Return the figures of ``DetectionMetrics``."""
    metrics = DetectionMetrics(FINDINGS)
    tensor = torch.from_numpy
    for number, each in enumerate(films):
        detection = {"boxes": tensor(each.boxes), "labels": tensor(each.labels), "scores": tensor(each.scores)}
        detection |= {"finding_scores": tensor(each.finding_scores), "abnormal": torch.tensor(each.abnormal)}
        target = {"boxes": tensor(each.truth_boxes), "labels": tensor(each.truth_labels), "film": torch.tensor(number)}
        metrics.update([detection], [target | {"labelled": tensor(each.labelled)}])
    return metrics.compute()


@pytest.mark.parametrize("seed", range(5))
def test_training_and_evaluation_say_the_same(seed: int) -> None:
    rng = np.random.default_rng(seed)
    films = [film(rng, number) for number in range(40)]
    trained = in_training(films)
    films = [looked_for(each) for each in films]
    evaluation = evaluate(films, FINDINGS, NAMES, None, Settings("iou50", (0.1,), worst=1, samples=2, seed=0))
    figures = {name: each.precision for name, each in evaluation.per_finding.items()}
    ours = {"map": figures[POOLED]["ap"].value, "map_50": figures[POOLED]["ap50"].value}
    ours |= {f"ap/{name}": figures[name]["ap"].value for name in NAMES[:3]}
    ours |= {f"ap50/{name}": figures[name]["ap50"].value for name in NAMES[:3]}
    assert {name: trained[name] for name in ours} == pytest.approx(ours, abs=1e-6)
    assert 0.05 < ours["map"] < ours["map_50"] < 0.95
    assert "ap/node" not in trained
    assert np.isnan(figures["node"]["ap"].value)
    assert evaluation.only_detected == {"node": trained["only_detected/node"]}
    assert evaluation.only_detected["node"] > 20
    assert trained["image_auc"] == pytest.approx(evaluation.per_finding[POOLED].auc.value)
    assert trained["sensitivity@1fp"] == evaluation.per_finding[POOLED].curve.at(1).sensitivity


def test_two_of_four_findings_marked_and_found_are_a_whole_score() -> None:
    box = np.array([[0, 0, 100, 100], [200, 0, 260, 400]], np.float32)
    classes, scores = np.array([1, 2, 3, 4]), np.array([0.9, 0.8, 0.7, 0.6], np.float32)
    answer = FilmResult(
        "a", "a", (1000, 1000), box, np.array([1, 2]), np.concatenate([box, FAR, FAR]), classes, scores, scores, 0.9,
        np.ones(5, bool),
    )  # fmt: skip
    evaluation = evaluate([answer], FINDINGS, NAMES, None, Settings("iou50", (0.1,), worst=1, samples=2, seed=0))
    pooled = evaluation.per_finding[POOLED].precision
    assert {name: estimate.value for name, estimate in pooled.items()} == {"ap40": 1, "ap50": 1, "ap": 1}
    assert in_training([answer])["map"] == pytest.approx(1)
    assert evaluation.only_detected == {"cap": 1, "node": 1}


def test_a_tie_of_a_right_and_a_wrong_box_depends_on_the_order_of_films_in_training_and_never_in_evaluation() -> None:
    box, nothing = np.array([[0, 0, 100, 100]], np.float32), np.zeros((0, 4), np.float32)
    half, whole = np.array([0.5], np.float32), np.ones(5, bool)
    right = FilmResult("a", "a", (1000, 1000), box, np.array([1]), box, np.array([1]), half, np.zeros(4), 0.5, whole)
    none = np.zeros(0, np.int64)
    wrong = FilmResult("b", "b", (1000, 1000), nothing, none, FAR, np.array([1]), half, np.zeros(4), 0.5, whole)
    for films, in_order in (([right, wrong], 1), ([wrong, right], 1 / 2)):
        assert in_training(films)["map"] == pytest.approx(in_order)
        evaluation = evaluate(films, FINDINGS, NAMES, None, Settings("iou50", (0.1,), worst=1, samples=2, seed=0))
        assert evaluation.per_finding[POOLED].precision["ap"].value == pytest.approx(1 / 2)  # one right of two
