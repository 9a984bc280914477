"""What counts as the same detections, and what as a difference: detectors that say what they are told to."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cxr.export.card import Card
from cxr.export.compare import Comparison, _nearest, compare, paired
from cxr.export.detector import ExportedDetector

Found = tuple[list[float], int, float]  # box, label, score
HEART: Found = ([10, 10, 36, 36], 1, 0.9)
SPINE: Found = ([20, 5, 30, 38], 2, 0.4)


def answer_of(*detections: Found) -> dict[str, Any]:
    boxes = np.array([box for box, *_ in detections], float).reshape(-1, 4)
    labels = np.array([label for _, label, _ in detections])
    return {"boxes": boxes, "labels": labels, "scores": np.array([score for *_, score in detections])}


class Says:
    """Stands for a task: says of a film what a function of its pixels gives."""

    image_head = None

    def __init__(self, answer: Callable[[Tensor], Sequence[Found]]) -> None:
        self.answer = answer

    def detect(self, images: list[Tensor], targets: list[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
        return [self._whole(answer_of(*self.answer(image))) for image in images]

    def _whole(self, answer: dict[str, Any]) -> dict[str, Tensor]:
        scores = [
            max((s for s, n in zip(answer["scores"], answer["labels"], strict=True) if n == k), default=0)
            for k in (1, 2)
        ]
        whole = {"finding_scores": torch.tensor(scores), "abnormal": torch.tensor(max(scores))}
        return {**{name: torch.from_numpy(value) for name, value in answer.items()}, **whole}


def exported(answer: Callable[[Tensor], Sequence[Found]], most: int = 100) -> ExportedDetector:
    """Return what stands for an exported network, of two findings, that says what ``answer`` gives."""

    def run(films: Any, sizes: Any) -> dict[str, Any]:
        boxes, labels, scores = (
            np.zeros((len(films), 9, 4), np.float32),
            np.zeros((len(films), 9), int),
            np.zeros((len(films), 9)),
        )
        for n, (film, (height, width)) in enumerate(zip(films, sizes, strict=True)):
            for m, (box, label, score) in enumerate(answer(torch.from_numpy(film[:, :height, :width]))):
                boxes[n, m], labels[n, m], scores[n, m] = box, label, score
        return {"boxes": boxes, "labels": labels, "scores": scores.astype(np.float32)}

    findings = {"findings": [{"name": "heart"}, {"name": "spine"}]}
    card = Card("onnx", {}, "", "", findings, 64, 1, 32, (), {}, None, 0.05, most, 0.0, 0.0, None, {})
    return ExportedDetector(card, run)


def compared(
    one: Callable[[Tensor], Sequence[Found]], other: Callable[[Tensor], Sequence[Found]], **settings: int
) -> Comparison:
    return compare(Says(one), exported(other, **settings), (64, 96), films=4)  # type: ignore[arg-type]


def test_the_same_is_alike_on_drawn_films_of_two_sizes_and_an_empty_one() -> None:
    seen: list[tuple[int, bool]] = []

    def answer(film: Tensor) -> list[Found]:
        seen.append((max(film.shape[1:]), bool(film.any())))
        return [HEART, SPINE]

    result = compared(answer, lambda _: [HEART, SPINE])
    assert result.alike
    assert (result.films, result.detections, result.unlike, result.undecided) == (5, 10, 0, 0)
    assert seen == [(64, False), (64, True), (64, True), (96, True), (96, True)]


@pytest.mark.parametrize(
    ("moved", "alike", "box_px", "score"),
    [
        (([10.05, 10, 36, 36], 1, 0.9), True, 0.05, 0.0),
        (([10, 10, 36, 36], 1, 0.90005), True, 0.0, 5e-5),
        (([10.3, 10, 36, 36], 1, 0.9), False, 0.3, 0.0),  # a side is off by more than 0.1 px
        (([10, 10, 36, 36], 1, 0.9004), False, 0.0, 4e-4),  # a score by more than 1e-4
    ],
)
def test_the_largest_difference_is_told(moved: Found, alike: bool, box_px: float, score: float) -> None:
    result = compared(lambda _: [HEART, SPINE], lambda _: [moved, SPINE])
    assert result.alike is alike
    assert result.box_px == pytest.approx(box_px, abs=1e-5)
    assert result.score == pytest.approx(score, abs=1e-6)
    assert f"boxes within {result.box_px:.2g} px" in str(result)


@pytest.mark.parametrize(
    "answers",
    [
        ([HEART, SPINE], [HEART]),  # lost
        ([HEART], [HEART, SPINE]),  # made up
        ([HEART, SPINE], [HEART, (SPINE[0], 1, SPINE[2])]),  # of another finding
    ],
)
def test_a_detection_that_only_one_has_is_a_difference(answers: tuple[list[Found], list[Found]]) -> None:
    result = compared(lambda _: answers[0], lambda _: answers[1])
    assert not result.alike
    assert result.unlike >= 5
    assert "detections that only one of the two has" in str(result)


def test_at_the_threshold_a_detection_may_be_there_or_not() -> None:
    weak = ([1.0, 20, 9, 30], 2, 0.05004)  # the threshold is 0.05
    result = compared(lambda _: [HEART, weak], lambda _: [HEART])
    assert result.alike
    assert result.undecided == 5
    assert not compared(lambda _: [HEART, (weak[0], 2, 0.0503)], lambda _: [HEART]).alike


def test_so_may_the_weakest_of_a_film_that_has_as_many_as_are_kept() -> None:
    others = [([1.0, 20, 9, 30], 2, 0.3), ([1.0, 1, 9, 9], 2, 0.30004)]
    one, other = ([HEART, weakest] for weakest in others)
    assert compared(lambda _: one, lambda _: other, most=2).alike
    assert not compared(lambda _: one, lambda _: other, most=3).alike


def test_a_choice_that_the_detector_itself_leaves_to_rounding_is_undecided() -> None:
    twin: Found = ([11, 10, 37, 36], 1, 0.9)

    def torn(film: Tensor) -> list[Found]:  # between two boxes of one score, by the last bits of the film
        return [HEART if int(film.double().sum() * 1e9) % 2 else twin, SPINE]

    result = compared(torn, lambda _: [twin, SPINE])
    assert result.alike
    assert result.undecided > 0
    # what lies above that choice must still be the same, and so must the number of boxes
    strong: Found = ([1, 1, 38, 38], 2, 0.97)
    assert not compared(lambda film: [strong, *torn(film)], lambda _: [twin, SPINE]).alike
    more = [([float(x), 0, x + 8.0, 8], 1, 0.3) for x in (0, 8, 16, 24, 32)]
    assert not compared(torn, lambda _: [twin, SPINE, *more]).alike


def test_nan_is_like_nothing() -> None:
    result = compared(lambda _: [], lambda _: [([1.0, 1, 9, 9], 1, float("nan"))])
    assert not result.alike
    assert result.score == float("inf")


def test_each_detection_is_paired_once_and_only_with_its_like() -> None:
    near: Found = ([10.02, 10, 36, 36], 1, 0.9)
    assert paired(answer_of(HEART, near), answer_of(near)) == [(0, 0)]
    assert paired(answer_of(HEART, near), answer_of(near, HEART)) == [(0, 1), (1, 0)]
    assert paired(answer_of(HEART), answer_of(([10, 10, 36, 36], 2, 0.9))) == []
    assert paired(answer_of(), answer_of(HEART)) == []


def test_what_has_no_partner_is_compared_with_the_nearest_of_its_finding() -> None:
    def found(*rows: tuple[list[float], int, float]) -> dict[str, Any]:
        boxes, labels, scores = zip(*rows, strict=True)
        return {"boxes": np.array(boxes), "labels": np.array(labels), "scores": np.array(scores)}

    original = found(([0.0, 0, 10, 10], 1, 0.9))
    other = found(([0.0, 0, 10, 11], 2, 0.9), ([0.0, 0, 10, 17], 1, 0.6), ([0.0, 0, 10, 30], 1, 0.9))
    assert _nearest(original, other, []) == [(7, pytest.approx(0.3))]
    assert _nearest(original, found(([0.0, 0, 10, 11], 2, 0.9)), []) == []
