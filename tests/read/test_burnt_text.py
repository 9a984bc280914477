"""Text burnt into the pixels is covered in pictures, whatever its letters say; side markers stay."""

from functools import cache

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from cxr.fonts import picture_font
from cxr.phantom.films import draw_phantom
from cxr.read.burnt_text import _strokes_of, text_boxes, without_text

Picture = NDArray[np.uint8]


@cache
def film(seed: int = 0, size: int = 512) -> Picture:
    """Return a drawn film, air dark, without the markers that phantoms have at their upper and lower borders."""
    stored = draw_phantom(np.random.default_rng(seed), size).pixels.astype(np.float32)
    picture = np.clip(-np.log((1 + stored) / 4096) / 2.5, 0, 1) * 200
    picture[: size // 5] = cv2.GaussianBlur(picture[: size // 5], (0, 0), 12)
    picture[-size // 6 :] = cv2.GaussianBlur(picture[-size // 6 :], (0, 0), 12)
    return np.asarray(picture, np.uint8)


def written(text: str, height: int, place: tuple[int, int], value: int = 255, seed: int = 0) -> tuple[Picture, Picture]:
    """Return a film with ``text`` on it, whose capitals are ``height`` px high, and a mask of the letters."""
    letters = Image.new("L", film(seed).shape[::-1])
    ImageDraw.Draw(letters).text(place, text, 255, picture_font(round(height / 0.73)))
    mask = np.asarray(letters)
    share = mask / np.float32(255)
    return np.uint8(film(seed) * (1 - share) + value * share), mask


def left(text: str, height: int, place: tuple[int, int], **how: int) -> float:
    """Return the share of the letters' pixels that can still be seen in the picture without text."""
    picture, mask = written(text, height, place, **how)
    shown = without_text(picture)
    ink = mask > 128
    return float((shown[ink] == picture[ink]).mean()) if how.get("value", 255) else float((shown[ink] != 0).mean())


@pytest.mark.parametrize("height", [8, 11, 16, 24, 40, 70])
@pytest.mark.parametrize("name", ["LIN YU-TING", "Wang Xiaoming", "ID 20180315", "心臟肥大", "張小明", "1940/03/05"])
def test_a_name_is_covered_at_every_size(name: str, height: int) -> None:
    if not all(ord(letter) < 128 for letter in name) and height < 11:
        pytest.skip("Chinese letters of 8 px cannot be read by anybody")
    assert left(name, height, (20, 40)) < 0.05


@pytest.mark.parametrize("place", [(20, 200), (150, 250), (20, 470), (250, 20)])
def test_a_name_is_covered_on_lung_bone_belly_and_air(place: tuple[int, int]) -> None:
    assert left("LIN YU-TING", 16, place) < 0.05


@pytest.mark.parametrize("marker", ["L", "R", "R JB", "L C"])
@pytest.mark.parametrize("height", [12, 20, 40])
def test_a_side_marker_stays(marker: str, height: int) -> None:
    assert left(marker, height, (40, 40)) == 1.0


@pytest.mark.parametrize("name", ["WU", "CHEN", "小明"])
def test_a_short_name_is_no_side_marker(name: str) -> None:
    assert left(name, 20, (40, 40)) < 0.05


@pytest.mark.parametrize("seed", range(3))
def test_a_film_without_text_stays_as_it_is(seed: int) -> None:
    assert np.array_equal(without_text(film(seed)), film(seed))


def test_lines_of_text_are_boxes_in_the_pixels_of_the_picture() -> None:
    picture, mask = written("LIN YU-TING", 16, (60, 30))
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    boxes = text_boxes(picture)
    assert len(boxes) > 0
    assert boxes[:, :2].min(0).tolist() <= [columns[0], rows[0]]
    assert (boxes[:, 2:].max(0) <= [columns[-1] + 20, rows[-1] + 20]).all()


def test_a_film_of_floats_is_covered_like_one_of_bytes() -> None:
    picture, _ = written("LIN YU-TING", 16, (60, 30))
    shown = without_text(picture / np.float32(255))
    assert np.array_equal(np.rint(shown * 255).astype(np.uint8), without_text(picture))
    assert without_text(np.zeros((4, 5), np.uint8)).shape == (4, 5)


@pytest.mark.parametrize("marker", ["L", "R"])
def test_a_marker_stays_beside_text_that_is_covered(marker: str) -> None:
    picture, mask = film(), np.zeros(film().shape, np.uint8)
    for text, height, place in ((marker, 26, (30, 30)), ("AP ERECT", 14, (62, 34)), ("LIN YU-TING", 14, (62, 56))):
        picture_of_text, letters = written(text, height, place)
        picture = np.where(letters > 0, picture_of_text, picture)
        mask |= np.where(letters > 128, np.uint8(1 if text == marker else 2), np.uint8(0))
    shown = without_text(picture)
    assert np.array_equal(shown[mask == 1], picture[mask == 1])
    assert (shown[mask == 2] == picture[mask == 2]).mean() < 0.05


def test_of_many_grains_the_largest_are_looked_at_so_that_memory_is_bounded_and_a_name_is_found_among_them() -> None:
    grains = np.zeros((800, 800), np.uint8)
    for top in range(400, 790, 9):
        for left_side in range(5, 790, 9):
            grains[top : top + 5, left_side : left_side + 2] = 255  # 44 rows of 88, each of 10 px
    letters = Image.new("L", (800, 800))
    ImageDraw.Draw(letters).text((100, 100), "LIN YU-TING", 255, picture_font(22))
    mask = np.asarray(letters)
    strokes = _strokes_of(np.maximum(grains, mask), 5)
    assert len(strokes.boxes) == 1500
    assert (strokes.boxes[:10, 3] < 200).all()  # letters, the largest
    assert (without_text(np.maximum(grains, mask))[mask > 128] == 0).mean() > 0.95
