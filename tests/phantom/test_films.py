"""Phantom films: what is drawn is what is asked for, where the box says, stored as the hospital stores it."""

import numpy as np
import pytest
from numpy.typing import NDArray

from cxr.phantom.anatomy import (
    CALCIFICATION,
    CARDIOMEGALY,
    CURVATURE,
    FINDINGS,
    INFILTRATION,
    PLEURAL_CAPS,
    SCOLIOSIS,
    SPONDYLOSIS,
    draw_findings,
    draw_thorax,
)
from cxr.phantom.canvas import Map
from cxr.phantom.films import Phantom, draw_phantom

SEEDS = range(12)
IN_LUNGS = (CALCIFICATION, CARDIOMEGALY, PLEURAL_CAPS, INFILTRATION)  # the box over both lungs is the largest


def film(seed: int, findings: tuple[str, ...] | None, size: int = 192) -> Phantom:
    return draw_phantom(np.random.default_rng(seed), size, findings)


def attenuation(phantom: Phantom) -> Map:
    return np.sum(list(phantom.layers.values()), axis=0)


def inside(box: NDArray[np.float32], shape: tuple[int, int], margin: float) -> NDArray[np.bool_]:
    x0, y0, x1, y1 = box + margin * np.array([-1, -1, 1, 1])
    rows, columns = np.indices(shape) + 0.5
    return (columns >= x0) & (columns <= x1) & (rows >= y0) & (rows <= y1)


def test_the_same_generator_draws_the_same_film_and_another_seed_another() -> None:
    first, again, other = film(3, None), film(3, None), film(4, None)
    assert np.array_equal(first.pixels, again.pixels)
    assert first.boxes.keys() == again.boxes.keys()
    assert not np.array_equal(first.pixels, other.pixels)


@pytest.mark.parametrize("size", [128, 200])
def test_size_is_the_longest_side_and_values_have_twelve_bits(size: int) -> None:
    shapes = set()
    for seed in SEEDS:
        pixels = film(seed, (), size).pixels
        assert pixels.dtype == np.uint16
        assert pixels.max() <= 4095
        assert max(pixels.shape) == size
        shapes.add(pixels.shape)
    assert len(shapes) > 3  # patients differ in proportion


def test_the_course_normalisation_gives_a_picture_with_air_dark() -> None:
    for seed in SEEDS:
        phantom = film(seed, ())
        picture = np.clip(-np.log((1 + phantom.pixels.astype(np.float32)) / 4096) / 2.5, 0, 1)
        dense = attenuation(phantom)
        lung, abdomen = picture[dense < np.quantile(dense, 0.4)], picture[dense > np.quantile(dense, 0.9)]
        assert lung.mean() < 0.6 * abdomen.mean()


def test_without_findings_there_is_no_box_and_nothing_of_a_finding() -> None:
    for seed in SEEDS:
        phantom = film(seed, ())
        assert not phantom.boxes
        assert not {"calcium", "osteophytes", "caps", "opacities"} & phantom.layers.keys()
        assert phantom.thorax.cardiothoracic_ratio < 0.49
        assert phantom.thorax.spine.cobb_angle < 5


@pytest.mark.parametrize("finding", FINDINGS)
def test_a_finding_asked_for_is_the_only_one_drawn(finding: str) -> None:
    for seed in SEEDS:
        phantom = film(seed, (finding,), 96)
        assert list(phantom.boxes) == [finding]
        layers = {"calcium": CALCIFICATION, "osteophytes": SPONDYLOSIS, "caps": PLEURAL_CAPS, "opacities": INFILTRATION}
        assert phantom.layers.keys() & layers.keys() == {k for k, v in layers.items() if v == finding}
        assert (phantom.thorax.cardiothoracic_ratio > 0.53) == (finding == CARDIOMEGALY)
        assert (phantom.thorax.spine.cobb_angle > 19) == (finding == SCOLIOSIS)


def test_cardiothoracic_ratio_is_that_of_what_is_drawn() -> None:
    phantom = film(1, (CARDIOMEGALY,), 512)
    columns = np.flatnonzero((phantom.layers["lungs"] < -0.4).any(axis=0))
    x0, _, x1, _ = phantom.boxes[CARDIOMEGALY]
    measured = (x1 - x0) / (columns.max() + 1 - columns.min())
    assert measured == pytest.approx(phantom.thorax.cardiothoracic_ratio, abs=0.03)
    assert measured > 0.5


@pytest.mark.parametrize("finding", [name for name in FINDINGS if name != SCOLIOSIS])
def test_what_a_finding_changes_lies_in_its_box(finding: str) -> None:
    for seed in SEEDS:
        with_it, without = film(seed, (finding,)), film(seed, ())
        change = np.abs(attenuation(with_it) - attenuation(without))
        box = with_it.boxes[finding]
        assert change[inside(box, change.shape, 2.0)].sum() > 0.97 * change.sum()
        assert change.max() > 0.1


def test_a_curved_spine_lies_in_its_box_as_wide_as_the_curve() -> None:
    for seed in SEEDS:
        phantom = film(seed, (SCOLIOSIS,))
        spine, (x0, y0, x1, y1) = phantom.layers["spine"], phantom.boxes[SCOLIOSIS]
        rows = spine[int(y0) + 2 : int(y1) - 2] > 0.15
        columns = np.flatnonzero(rows.any(axis=0))
        assert columns.min() == pytest.approx(x0, abs=3)
        assert columns.max() + 1 == pytest.approx(x1, abs=3)
        assert y1 - y0 > 3 * (x1 - x0)


@pytest.mark.parametrize(
    ("finding", "layer"), [(CALCIFICATION, "calcium"), (PLEURAL_CAPS, "caps"), (SPONDYLOSIS, "osteophytes")]
)
def test_boxes_are_tight(finding: str, layer: str) -> None:
    for seed in SEEDS:
        phantom = film(seed, (finding,), 384)
        drawn = phantom.layers[layer] > 0.25 * phantom.layers[layer].max()
        rows, columns = np.flatnonzero(drawn.any(axis=1)), np.flatnonzero(drawn.any(axis=0))
        x0, y0, x1, y1 = phantom.boxes[finding]
        bounds = [columns.min(), columns.max() + 1]
        if finding == SPONDYLOSIS:  # the box holds the whole vertebrae, of which the layer is only what grew on them
            assert [x0, x1] == pytest.approx(bounds, abs=384 / 60)
        else:
            assert [x0, x1, y0, y1] == pytest.approx([*bounds, rows.min(), rows.max() + 1], abs=384 / 60)


def test_boxes_have_the_shapes_that_readers_draw() -> None:
    for seed in SEEDS:
        boxes = film(seed, FINDINGS).boxes
        size = {name: (box[2] - box[0], box[3] - box[1]) for name, box in boxes.items()}
        assert min(min(sides) for sides in size.values()) > 0.06 * 192
        assert size[PLEURAL_CAPS][0] > 3 * size[PLEURAL_CAPS][1]  # wide and flat
        assert size[SPONDYLOSIS][1] > 1.4 * size[SPONDYLOSIS][0]  # tall and narrow
        assert size[INFILTRATION] == pytest.approx(tuple(map(max, zip(*(size[n] for n in IN_LUNGS), strict=True))))
        knob, arch = boxes[CALCIFICATION], boxes[CURVATURE]
        assert arch[0] <= knob[0]  # the knob is part of the arch
        assert arch[2] >= knob[2] - 2


def test_boxes_lie_on_the_film_and_hold_pixels() -> None:
    for seed in range(40):
        phantom = film(seed, None, 96)
        height, width = phantom.pixels.shape
        assert phantom.boxes
        for box in phantom.boxes.values():
            assert box.dtype == np.float32
            assert 0 <= box[0] < box[2] <= width
            assert 0 <= box[1] < box[3] <= height


def test_attenuation_without_a_layer_is_the_film_without_that_part() -> None:
    phantom = film(2, ())
    ribs = phantom.layers["ribs"]
    assert ribs.min() >= 0
    assert (ribs > 0.05).mean() > 0.1
    assert np.all(phantom.layers["lungs"] <= 0)
    total = attenuation(phantom)
    assert total.min() > -0.3  # gas never takes away more than there is, but for rounding of the coarse maps


def test_findings_are_never_none_and_every_one_is_drawn() -> None:
    rng = np.random.default_rng(0)
    draws = [draw_findings(rng) for _ in range(400)]
    assert all(draws)
    assert max(len(names) for names in draws) >= 4
    for name in FINDINGS:
        assert 0.15 < np.mean([name in names for names in draws]) < 0.5


def test_an_unknown_finding_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"cannot draw fracture; known findings: .*scoliosis"):
        draw_thorax(np.random.default_rng(0), ["scoliosis", "fracture"])
