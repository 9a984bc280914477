"""What differs between hospitals: curves that never fall, bands known by hand, and nothing hides what is marked."""

import os
import subprocess
import sys

import albumentations
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from cxr.data import machines
from cxr.data.augment import Augment
from cxr.data.machines import Letters, LocalContrast, Rewindow, Shutters, TissueGamma

BOXES = np.array([[20, 30, 90, 110], [110, 96, 126, 128]], np.float32)  # one inside, one at the lower right corner
LABELS = np.array([1, 2])
GREY = np.full((128, 128), 0.5, np.float32)


def changed(transform: albumentations.BasicTransform, image: NDArray[np.float32], seed: int = 0) -> NDArray[np.float32]:
    pixels = np.rint(image * 65535).astype(np.uint16)
    boxes, labels = BOXES.copy(), LABELS
    made, boxes_after, labels_after = Augment(appearance=[transform])(pixels, boxes, labels, seed)
    assert_array_equal(boxes_after, BOXES)
    assert_array_equal(labels_after, LABELS)
    return made


def test_importing_it_asks_no_network_for_a_newer_albumentations() -> None:
    code = "import os, cxr.data.machines; assert os.environ['NO_ALBUMENTATIONS_UPDATE']"
    here = {key: value for key, value in os.environ.items() if key != "NO_ALBUMENTATIONS_UPDATE"}
    subprocess.run([sys.executable, "-c", code], check=True, env=here)


def test_gammas_of_lung_and_dense_tissue_at_values_known_by_hand() -> None:
    film = np.array([[0.0, 0.125, 0.5, 0.875, 1.0]], np.float32)  # its mean is 0.5
    made = TissueGamma().apply(film, dark=2.0, bright=0.5)
    # below: 0.5 · (0.125 / 0.5)² = 0.03125; above: 1 - 0.5 · √(0.125 / 0.5) = 0.75
    assert_allclose(made, [[0, 0.03125, 0.5, 0.75, 1]], atol=1e-6)


def test_a_window_starts_from_the_films_own_range() -> None:
    film = np.tile(np.linspace(0, 0.3, 301, dtype=np.float32), (9, 1))  # 2nd and 98th percentile: 0.006 and 0.294
    made = Rewindow().apply(film, dark=0.1, bright=0.9)
    assert_allclose(made[0, [6, 150, 294]], [0.1, 0.5, 0.9], atol=0.01)
    assert Rewindow().apply(film, dark=-0.2, bright=1.4)[0, [20, 280]].tolist() == [0, 1]  # both ends saturate
    assert_array_equal(Rewindow().apply(GREY, dark=0.1, bright=0.9), GREY)


def test_a_tone_curve_never_falls() -> None:
    ramp = np.tile(np.linspace(0, 1, 128, dtype=np.float32), (128, 1))
    for seed in range(10):
        made = changed(TissueGamma(limit=(0.5, 2.0), p=1), ramp, seed)
        assert (np.diff(made[0]) >= 0).all()
        assert_allclose(made[0, [0, -1]], [0, 1], atol=1e-6)


def test_each_channel_has_its_own_middle() -> None:
    one, two = np.full((8, 8), 0.2, np.float32), np.full((8, 8), 0.8, np.float32)
    made = TissueGamma().apply(np.dstack([one, two]), dark=2.0, bright=0.5)
    assert_allclose(made, np.dstack([one, two]), atol=1e-6)  # a constant channel is its own middle


def test_factors_of_one_leave_a_film_as_it_is() -> None:
    film = np.random.default_rng(0).random((65, 43, 3), np.float32)
    assert_allclose(LocalContrast(levels=4).apply(film, factors=[1.0] * 4), film, atol=1e-5)


def test_local_contrast_amplifies_structures_of_its_size_alone() -> None:
    x = np.arange(256)
    fine, broad = (0.1 * np.sin(2 * np.pi * x / period) for period in (4, 128))
    film = np.tile(0.5 + fine + broad, (64, 1)).astype(np.float32)
    spectrum = np.abs(np.fft.rfft(LocalContrast(levels=2).apply(film, factors=[1.5, 1.0])[32] - 0.5)) / 12.8
    assert spectrum[256 // 4] == pytest.approx(1.5, abs=0.1)
    assert spectrum[256 // 128] == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("white", [0.0, 1.0])
def test_no_blade_covers_more_than_a_part_of_a_box(white: float) -> None:
    covered_at_all = 0
    for seed in range(40):
        made = changed(Shutters(depth=0.4, spared=0.1, white=white, p=1), GREY, seed)
        covered = np.abs(made - GREY) > 1e-3
        assert_array_equal(np.unique(made[covered]), [white] if covered.any() else [])
        covered_at_all += covered.sum()
        for x0, y0, x1, y1 in BOXES.astype(int):
            inner = covered[y0:y1, x0:x1]
            rim_y, rim_x = round(0.1 * (y1 - y0)), round(0.1 * (x1 - x0))
            assert not inner[rim_y : y1 - y0 - rim_y, rim_x : x1 - x0 - rim_x].any()
    assert covered_at_all > 40 * 128  # a row of each film at least, in the mean


def test_blades_lie_at_the_rim_and_reach_no_deeper_than_they_may() -> None:
    pixels = np.full((100, 200), 32768, np.uint16)
    shutters = Augment(appearance=[Shutters(depth=0.1, white=0, p=1)])
    for seed in range(20):
        made, _, _ = shutters(pixels, np.zeros((0, 4), np.float32), np.zeros(0, np.int64), seed)
        assert (made[10:90, 20:180] > 0).all()
        assert (made == 0).any()


def test_blades_come_from_every_side_tilted_and_may_cut_a_part_of_a_box() -> None:
    found = np.zeros(4, int)  # left, top, right, bottom
    tilted = cut = 0
    pixels, box = np.full((100, 200), 32768, np.uint16), np.array([[10, 10, 190, 90]], np.float32)
    for seed in range(40):
        shutters = Augment(appearance=[Shutters(depth=0.4, spared=0.1, white=0, p=1)])
        covered = shutters(pixels, box, np.array([1]), seed)[0] == 0
        found += [covered[50, 0], covered[0, 100], covered[50, -1], covered[-1, 100]]
        tilted += covered[20, :100].sum() != covered[80, :100].sum()
        cut += covered[10:90, 10:190].any()
    assert (found > 20).all()
    assert tilted > 20
    assert cut > 20


def test_no_blade_covers_a_box_that_reaches_the_rim_where_none_may_be_cut() -> None:
    pixels, box = np.full((100, 200), 32768, np.uint16), np.array([[0, 0, 200, 100]], np.float32)
    for seed in range(10):
        made, _, _ = Augment(appearance=[Shutters(spared=0, white=0, p=1)])(pixels, box, np.array([1]), seed)
        assert made.min() > 0


def test_letters_spare_the_inner_half_of_each_box() -> None:
    masks = [changed(Letters(notes=(), most=1, p=1), np.zeros_like(GREY), seed) > 0 for seed in range(60)]
    assert sum(mask.any() for mask in masks) > 30
    for mask in masks:
        assert not mask[50:90, 38:72].any()  # the inner halves of BOXES
        assert not mask[104:120, 114:122].any()


def test_r_lies_at_the_left_and_l_at_the_right(monkeypatch: pytest.MonkeyPatch) -> None:
    width = {"R": 5, "L": 9}  # instead of letters, bars that tell which one it was
    monkeypatch.setattr(machines, "_written", lambda text, height: np.ones((8, width[text]), np.float32))
    columns: dict[int, list[int]] = {5: [], 9: []}
    for seed in range(60):
        made = changed(Letters(notes=(), most=1, p=1), np.zeros_like(GREY), seed)
        if (across := np.flatnonzero(made.any(axis=0))).size:
            columns[across.size].append(int(across[0]))
            assert made.max() >= 0.6  # bright, as burnt in
    assert min(map(len, columns.values())) > 10
    assert max(columns[5]) < 128 / 4 < 128 / 2 < min(columns[9])


def test_a_film_has_as_many_texts_as_are_allowed_at_most() -> None:
    letters = Letters(most=3, p=1)
    data = {"boxes": np.zeros((0, 4), np.float32)}
    counts = {len(letters.get_params_dependent_on_data({"shape": (400, 400)}, data)["texts"]) for _ in range(60)}
    assert counts == {1, 2, 3}


@pytest.mark.parametrize("height", [10, 20, 60])
def test_capitals_are_as_high_as_asked(height: int) -> None:
    rows = np.flatnonzero((machines._written("R", height) > 0.5).any(axis=1))
    assert rows[-1] - rows[0] + 1 == pytest.approx(height, rel=0.2, abs=1)


def test_a_text_covers_what_lies_under_it_by_its_mask() -> None:
    mask = np.array([[0, 0.5, 1]], np.float32)
    made = Letters().apply(np.full((2, 5), 0.4, np.float32), texts=[(mask, 1, 0, 0.8)])
    assert_allclose(made, [[0.4, 0.4, 0.6, 0.8, 0.4], [0.4] * 5], atol=1e-6)


def test_factors_are_drawn_apart_and_a_factor_and_its_inverse_are_equally_likely() -> None:
    bands = LocalContrast(limit=(0.25, 4), levels=3)
    gammas = TissueGamma(limit=(0.25, 4))
    bands.set_random_seed(0)
    gammas.set_random_seed(0)
    drawn = np.array([[*bands.get_params()["factors"], *gammas.get_params().values()] for _ in range(400)])
    assert ((drawn >= 0.25) & (drawn <= 4)).all()
    assert_allclose((drawn < 1).mean(axis=0), 0.5, atol=0.1)
    assert_allclose((drawn < 0.5).mean(axis=0), 0.25, atol=0.1)
    correlations = np.corrcoef(np.log(drawn), rowvar=False)
    assert np.abs(correlations - np.eye(5)).max() < 0.2


def test_a_text_larger_than_the_film_is_left_out() -> None:
    tiny = np.zeros((6, 6), np.uint16)
    letters = Augment(appearance=[Letters(notes=("PORTABLE",), p=1)])
    made, _, _ = letters(tiny, np.zeros((0, 4), np.float32), np.zeros(0, np.int64), 0)
    assert_array_equal(made, np.zeros((6, 6)))


@pytest.mark.parametrize("channels", [2, 3])
def test_channels_change_alike(channels: int) -> None:
    one = np.random.default_rng(0).random((128, 128), np.float32)
    for transform in (Rewindow(p=1), TissueGamma(p=1), LocalContrast(p=1), Shutters(p=1), Letters(p=1)):
        made = changed(transform, np.dstack([one] * channels), 3)
        assert made.shape == (128, 128, channels)
        for channel in range(1, channels):
            assert_allclose(made[..., channel], made[..., 0], atol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Rewindow(dark=(0.2, 0.5), bright=(0.4, 1)), "dark is"),
        (lambda: TissueGamma(limit=(0, 1)), "gamma limit is"),
        (lambda: LocalContrast(limit=(2, 1)), "the smaller one first"),
        (lambda: LocalContrast(levels=0), "levels is 0"),
        (lambda: Shutters(depth=0.6), "depth is 0.6"),
        (lambda: Letters(most=0), "most is 0"),
    ],
)
def test_impossible_settings_are_refused(make, message) -> None:
    with pytest.raises(ValueError, match=message):
        make()
