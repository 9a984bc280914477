"""What is frozen after training: the weights of fusion and the operating point, on validation films alone."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from cxr.config.models import build
from cxr.detect import calibrate as module
from cxr.detect.calibrate import calibrate
from cxr.detect.task import DetectionTask
from cxr.findings import FindingVocabulary
from cxr.measure.operating_point import choose_operating_point
from cxr.measure.results import FilmResult

TRUE = np.array([[10, 10, 50, 50]], np.float32)
AWAY = np.array([[60, 60, 90, 90]], np.float32)


def result(number: int, normal: bool, box: float, film: float, box_weight: float, film_weight: float) -> FilmResult:
    """A film of its own patient: one box scored ``box`` and the whole film ``film``, fused as the task does."""
    truth = np.zeros((0, 4), np.float32) if normal else TRUE
    return FilmResult(
        study=f"s{number}", patient=f"p{number}", size=(100, 100),
        truth_boxes=truth, truth_labels=np.ones(len(truth), np.int64),
        boxes=AWAY if normal else TRUE, labels=np.array([1]),
        scores=np.array([box ** (1 - box_weight) * film**box_weight], np.float32),
        finding_scores=np.array([box ** (1 - film_weight) * film**film_weight], np.float32),
        abnormal=box ** (1 - film_weight) * film**film_weight,
    )  # fmt: skip


@pytest.fixture
def task() -> DetectionTask:
    vocabulary = FindingVocabulary([{"name": "a"}])
    return DetectionTask(
        vocabulary, lambda num_classes: build("fasterrcnn_tiny", num_classes, image_head=True), torch.optim.SGD
    )


def films(pairs: list[tuple[bool, float, float]]) -> Callable[..., list[FilmResult]]:
    def results(task: DetectionTask, dataset: object) -> list[FilmResult]:
        weights = float(task.image_head.box_weight), float(task.image_head.film_weight)  # type: ignore[union-attr]
        return [result(n, *pair, *weights) for n, pair in enumerate(pairs)]

    return results


def test_a_head_that_knows_better_gets_weight(task: DetectionTask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "film_results", films([(False, 0.5, 0.99), (False, 0.6, 0.98), (True, 0.8, 0.01)]))
    calibrate(task, [])  # type: ignore[arg-type]
    assert task.image_head is not None
    assert task.image_head.box_weight > 0  # the false alarm of .8 falls below both true boxes
    assert task.image_head.film_weight > 0


def test_a_head_that_adds_nothing_gets_none(task: DetectionTask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "film_results", films([(False, 0.9, 0.5), (False, 0.8, 0.5), (True, 0.1, 0.5)]))
    point = choose_operating_point(calibrate(task, []))  # type: ignore[arg-type]
    assert task.image_head is not None
    assert (task.image_head.box_weight, task.image_head.film_weight) == (0, 0)
    assert point.threshold == pytest.approx(0.8)  # misses none, clears the normal film
    assert point.limited
    assert point.split == "val"
