"""Augmentation: boxes stay on their lesions, air stays air, and a seed decides everything."""

import random
import warnings
from pathlib import Path
from typing import Any

import albumentations
import cv2
import numpy as np
import pytest
import yaml
from hydra.utils import instantiate
from numpy.typing import NDArray

from cxr.data.augment import Augment, clip_boxes

CONF = Path(__file__).parents[2] / "conf" / "augment"
AIR, TISSUE = 0.2, 0.8
NO_BOXES, NO_LABELS = np.zeros((0, 4), np.float32), np.zeros(0, np.int64)


def augment(name: str) -> Augment:
    made = instantiate(_recipe(name), _convert_="all")
    assert isinstance(made, Augment)
    return made


def _recipe(name: str) -> dict[str, Any]:
    """Return what ``augment=NAME`` gives: its file over those that it names under ``defaults``."""
    recipe: dict[str, Any] = yaml.safe_load((CONF / f"{name}.yaml").read_text(encoding="utf-8"))
    inherited = [other for other in recipe.pop("defaults", []) if other != "_self_"]
    return {key: value for other in inherited for key, value in _recipe(other).items()} | recipe


def rotation(degrees: float) -> Augment:
    settings = {"rotate_method": "ellipse", "border_mode": cv2.BORDER_CONSTANT, "p": 1}
    return Augment([albumentations.Rotate(limit=(degrees, degrees), **settings)])


def lesion(box: tuple[int, int, int, int], width: int = 700, height: int = 500) -> NDArray[np.uint16]:
    """An ellipse that fills ``box``, on air."""
    yy, xx = np.mgrid[:height, :width] + 0.5
    x0, y0, x1, y1 = box
    inside = ((xx - (x0 + x1) / 2) / ((x1 - x0) / 2)) ** 2 + ((yy - (y0 + y1) / 2) / ((y1 - y0) / 2)) ** 2 <= 1
    return np.where(inside, TISSUE * 65535, AIR * 65535).astype(np.uint16)


def extent(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], float)


def iou(a: Any, b: Any) -> float:
    overlap = np.prod(np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None))
    return float(overlap / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - overlap))


@pytest.mark.parametrize(
    "box",
    [(300, 60, 350, 440), (120, 60, 580, 110), (40, 200, 240, 300), (430, 90, 510, 170)],
    ids=["spine", "apices", "elongated, off the centre", "round"],
)
@pytest.mark.parametrize("degrees", [-5, -2.5, 5])
def test_a_rotated_box_is_the_box_of_the_rotated_lesion(box: tuple[int, int, int, int], degrees: float) -> None:
    image, boxes, labels = rotation(degrees)(lesion(box), np.array([box], np.float32), np.array([3]), seed=0)
    assert iou(boxes[0], extent(image > (AIR + TISSUE) / 2)) >= 0.97
    assert labels.tolist() == [3]


def test_the_corners_are_filled_with_the_films_own_air() -> None:
    image, _, _ = rotation(5)(lesion((300, 200, 400, 300)), NO_BOXES, NO_LABELS, seed=0)
    assert image[0, 0] == pytest.approx(AIR, abs=1e-4)
    assert image.min() == pytest.approx(AIR, abs=1e-4)
    assert image.max() == pytest.approx(TISSUE, abs=1e-4)


@pytest.mark.parametrize("name", ["none", "rotate", "positioning", "strong", "hospitals"])
def test_what_is_promised_of_types_and_ranges(name: str) -> None:
    transform = augment(name)
    border, tiny = (0, 0, 700, 500), (650, 450, 700, 500)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for seed in range(20):
            image, boxes, labels = transform(
                lesion((100, 100, 300, 200)), np.array([border, tiny], np.float32), np.array([1, 2]), seed
            )
            assert (image.dtype, image.shape) == (np.float32, (500, 700))
            assert image.min() >= 0
            assert image.max() <= 1
            assert (boxes.dtype, labels.dtype) == (np.float32, np.int64)
            assert boxes.min() >= 0
            assert (boxes[:, 2:] <= (700, 500)).all()
            assert labels.tolist() in ([1, 2], [1])
            assert len(boxes) == len(labels)


@pytest.mark.parametrize("name", ["none", "rotate", "positioning", "strong", "hospitals"])
def test_a_normal_film_keeps_its_empty_boxes(name: str) -> None:
    _, boxes, labels = augment(name)(lesion((100, 100, 300, 200)), NO_BOXES, NO_LABELS, seed=1)
    assert (boxes.shape, boxes.dtype) == ((0, 4), np.float32)
    assert (labels.shape, labels.dtype) == ((0,), np.int64)


@pytest.mark.parametrize("channels", [2, 3])
def test_windows_of_a_ct_are_augmented_as_one_film(channels: int) -> None:
    transform, film = augment("hospitals"), lesion((100, 100, 300, 200))
    box = np.array([[100, 100, 300, 200]], np.float32)
    for seed in range(6):
        image, boxes, _ = transform(np.dstack([film] * channels), box, np.array([1]), seed)
        assert (image.shape, image.dtype) == ((500, 700, channels), np.float32)
        np.testing.assert_array_equal(boxes, transform(film, box, np.array([1]), seed)[1])


def test_a_box_that_leaves_the_frame_goes_with_its_label() -> None:
    shift = albumentations.Affine(translate_px={"x": (200, 200), "y": (0, 0)}, rotate=0, p=1)
    boxes = np.array([[600, 10, 690, 40], [100, 10, 150, 40]], np.float32)
    _, boxes, labels = Augment([shift])(lesion((300, 200, 400, 300)), boxes, np.array([5, 6]), seed=0)
    np.testing.assert_allclose(boxes, [[300, 10, 350, 40]], atol=1e-3)
    assert labels.tolist() == [6]
    at_the_edge = boxes + np.float32([300, 0, 300, 0])
    _, boxes, labels = Augment([shift])(lesion((300, 200, 400, 300)), at_the_edge, labels, seed=0)
    assert (boxes.shape, labels.shape, labels.dtype) == ((0, 4), (0,), np.int64)


def test_boxes_outside_the_film_are_cut_to_it() -> None:
    given = np.array([[-5, -5, 20, 30], [690, 490, 701, 501], [10, 10, 10, 40], [710, 10, 750, 40]], np.float32)
    boxes, labels = clip_boxes(given, np.array([1, 2, 3, 4]), 700, 500)
    np.testing.assert_array_equal(boxes, [[0, 0, 20, 30], [690, 490, 700, 500]])
    assert labels.tolist() == [1, 2]


@pytest.mark.parametrize("name", ["rotate", "strong", "hospitals"])
def test_the_seed_decides_and_nothing_else(name: str) -> None:
    image, boxes, labels = lesion((100, 100, 300, 200)), np.array([[100, 100, 300, 200]], np.float32), np.array([1])
    transform = augment(name)
    first = transform(image, boxes, labels, seed=11)
    others = [transform(image, boxes, labels, seed=seed)[0] for seed in range(5)]
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002  the global generator is what must not matter
    again = augment(name)(image, boxes, labels, seed=11)
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert all(not np.array_equal(first[0], other) for other in others)


def test_the_processes_random_numbers_are_left_alone() -> None:
    before = random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    augment("strong")(lesion((100, 100, 300, 200)), NO_BOXES, NO_LABELS, seed=1)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before  # noqa: NPY002


@pytest.mark.parametrize("name", ["rotate", "strong", "hospitals"])
def test_no_film_is_mirrored(name: str) -> None:
    transform = augment(name)
    left = lesion((100, 200, 200, 300))
    for seed in range(30):
        image, _, _ = transform(left, NO_BOXES, NO_LABELS, seed)
        bright = image[50:-50, 80:-80] > image[50:-50, 80:-80].mean()  # within the rim, where blades and letters are
        assert bright[:, :270].sum() > bright[:, 270:].sum()
