"""From a film's values to the picture a detector sees, with values worked out by hand."""

import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from numpy.testing import assert_allclose, assert_array_equal

from cxr.read.intensity import (
    CtWindow,
    Despeckle,
    FullRange,
    Intensity,
    LogWindow,
    MrZScore,
    Percentile,
    Step,
    VoiWindow,
)
from cxr.read.radiograph import Lut, Radiograph, ReadError, Window

CONF = Path(__file__).parents[2] / "conf" / "intensity"


def film(pixels, photometric="MONOCHROME1", bits=12, windows=((2048, 4096),), **fields):
    pixels = np.asarray(pixels)
    pixels = pixels.astype(np.uint16) if pixels.dtype == np.int64 else pixels
    windows = tuple(Window(*w) for w in windows)
    return Radiograph(Path("film.dcm"), pixels, photometric, bits, "p0", "p0", windows=windows, **fields)


# --- the course's log window


def test_log_window_at_values_known_by_hand():
    # 12 bits: 4095 -> -ln(4096/4096) = 0; 0 -> -ln(1/4096)/2.5 = 3.3 -> 1; 1506 -> 1507 = 4096/e -> 1/2.5
    picture = Intensity([LogWindow()])(film([[4095, 0], [1506, 2047]]))
    assert_allclose(picture, [[0, 1], [0.4, np.log(2) / 2.5]], atol=1e-4)


def test_log_window_is_the_courses_formula_on_every_value():
    pixels = np.arange(4096).reshape(64, 64)
    x = np.clip(pixels, 1500 - 2600 / 2, 1500 + 2600 / 2)
    expected = np.clip(-np.log((1 + x) / 2**12) / 2.5, 0, 1)
    assert_allclose(Intensity([LogWindow()])(film(pixels, windows=[(1500, 2600)])), expected, atol=1e-6)


@pytest.mark.parametrize("window", [(2048, 4096), (1500, 2600), (100, 4000), (5000, 300)])
def test_log_window_gives_one_picture_for_a_film_stored_either_way_round(window):
    pixels = np.arange(4096).reshape(64, 64)
    center, width = window
    one = film(pixels, "MONOCHROME1", windows=[(center, width)])
    two = film(4095 - pixels, "MONOCHROME2", windows=[(4095 - center, width)])
    assert_allclose(LogWindow()(one.values(), one), LogWindow()(two.values(), two), atol=1e-6)


def test_log_window_counts_in_stored_values_whatever_the_rescale():
    pixels = np.arange(4096).reshape(64, 64)
    plain = film(pixels, windows=[(1500, 2600)])
    rescaled = film(pixels, windows=[(1500 * 0.5 - 1024, 2600 * 0.5)], slope=0.5, intercept=-1024)
    assert_allclose(LogWindow()(rescaled.values(), rescaled), LogWindow()(plain.values(), plain), atol=1e-5)


def test_log_window_of_signed_values_is_finite():
    signed = film(np.arange(-2048, 2048, dtype=np.int16).reshape(64, 64), windows=[(0, 4096)])
    unsigned = film(np.arange(4096).reshape(64, 64))
    assert_allclose(Intensity([LogWindow()])(signed), Intensity([LogWindow()])(unsigned), atol=1e-6)


def test_a_window_that_reaches_below_zero_gives_no_nan():
    picture = Intensity([LogWindow()])(film([[0, 4095]], windows=[(-3000, 1000)]))
    assert_array_equal(picture, [[1, 1]])  # all of the film is above the window, which ends below 0


def test_log_window_without_window_takes_all_values():
    whole = film([[0, 1506], [2047, 4095]], windows=[])
    assert_allclose(LogWindow()(whole.values(), whole), [[1, 0.4], [np.log(2) / 2.5, 0]], atol=1e-4)


def test_log_window_scale_and_choice_of_window():
    two = film([[100, 2047]], windows=[(2048, 4096), (2048, 2)])
    assert_allclose(LogWindow(scale=5.0)(two.values(), two)[0, 1], np.log(2) / 5, rtol=1e-5)
    assert_allclose(LogWindow(window=1)(two.values(), two), np.full((1, 2), np.log(2) / 2.5), rtol=1e-4)
    with pytest.raises(ReadError, match="window 2 does not exist, the file has 2"):
        LogWindow(window=2)(two.values(), two)


# --- the other steps


def test_voi_window_is_the_display():
    one = film([[0, 1024], [2048, 4095]])
    assert_array_equal(Intensity([VoiWindow()])(one), one.display())


def test_full_range_knows_no_window_but_polarity():
    assert_array_equal(Intensity([FullRange()])(film([[10, 20, 30]], windows=[(0, 5)])), [[1, 0.5, 0]])
    assert_array_equal(Intensity([FullRange()])(film([[10, 20, 30]], "MONOCHROME2")), [[0, 0.5, 1]])


def test_percentile_saturates_the_tails_and_stretches_the_rest():
    ramp = film(np.arange(101)[None], "MONOCHROME2")
    picture = Intensity([FullRange(), Percentile(10, 90)])(ramp)
    assert_array_equal(picture[0, :11], 0)
    assert_array_equal(picture[0, 90:], 1)
    assert_allclose(picture[0, 50], 0.5, atol=1e-6)


def test_percentile_is_not_moved_by_a_few_wild_pixels():
    calm = np.tile(np.arange(100), (100, 1))
    wild = calm.copy()
    wild[:5, 0] = 60000
    steps = Intensity([FullRange(), Percentile(1, 99)])
    calm_picture, wild_picture = (steps(film(p, "MONOCHROME2", bits=16)) for p in (calm, wild))
    assert_allclose(wild_picture[10:], calm_picture[10:], atol=0.02)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_a_constant_film_is_black_and_its_z_score_in_the_middle(photometric):
    constant = film(np.full((4, 4), 7), photometric)
    for first in (FullRange(), VoiWindow(), LogWindow()):
        assert_allclose(Intensity([first, Percentile()])(constant), np.zeros((4, 4)), atol=0)
    assert_allclose(Intensity([MrZScore()])(constant), np.full((4, 4), 0.5), atol=0)


def test_despeckle_takes_dots_and_leaves_everything_else_bit_for_bit():
    rng = np.random.default_rng(0)
    picture = (0.5 + 0.01 * rng.standard_normal((40, 40))).astype(np.float32)
    picture[:, 20:] += 0.3  # an edge
    picture[10:13, :18] = 0.1  # a dark line
    dotted = picture.copy()
    dotted[5, 5] = dotted[25:27, 30:32] = 1.0
    cleaned = Despeckle(size=5, excess=0.15)(dotted, film(dotted))
    dots = dotted != picture
    assert_array_equal(cleaned[~dots], picture[~dots])
    assert_allclose(cleaned[dots], picture[dots], atol=0.05)


def test_ct_window_in_hounsfield_units():
    slice_ = film(np.array([[0, 274, 1024, 3000]]), "MONOCHROME2", intercept=-1024.0)
    lung = Intensity([CtWindow(center=-600, width=1500)])
    assert_allclose(lung(slice_), [[326 / 1500, 600 / 1500, 1350 / 1500, 1]], atol=1e-6)


def test_mr_z_score_is_robust_and_knows_no_unit():
    rng = np.random.default_rng(0)
    body = np.zeros((64, 64))
    body[16:48, 16:48] = 500 + 50 * rng.standard_normal((32, 32))
    slice_ = film(body.astype(np.uint16), "MONOCHROME2", windows=[])
    picture = Intensity([MrZScore(clip=3.0)])(slice_)
    assert_allclose(np.median(picture[16:48, 16:48]), 0.5, atol=0.01)
    assert_allclose(picture[16:48, 16:48].std(), 1 / 6, atol=0.02)  # one deviation of six
    assert picture[0, 0] == 0
    assert_allclose(Intensity([MrZScore()])(replace(slice_, slope=7.0)), picture, atol=1e-4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Percentile(99, 1), "percentiles are 99 and 1"),
        (lambda: Despeckle(size=4), "size is 4, expected 3 or 5"),
        (lambda: Despeckle(excess=0), "excess is 0"),
        (lambda: CtWindow(0, 0), "a width of 1e-18 to"),
        (lambda: MrZScore(0), "clip is 0"),
        (lambda: Intensity([]), "at least one step"),
    ],
)
def test_impossible_settings_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# --- the chain


@dataclass(frozen=True)
class Wrong(Step):
    value: float

    def __call__(self, values, radiograph):
        return np.full_like(values, self.value)


@pytest.mark.parametrize("value", [-0.1, 1.1, np.nan, np.inf])
def test_a_chain_that_leaves_0_to_1_is_an_error_that_names_the_film(value):
    with pytest.raises(ReadError, match=r"film\.dcm: LogWindow.* > Wrong\(value=.*expected 0\.\.1"):
        Intensity([LogWindow(), Wrong(value)])(film([[1, 2]]))


@pytest.mark.parametrize("head", [LogWindow(), VoiWindow(), FullRange(), CtWindow(40, 400)], ids=repr)
@pytest.mark.parametrize(
    "fields",
    [
        {"photometric": "MONOCHROME1"},
        {"photometric": "MONOCHROME2", "windows": ((100.5, 31.5, "SIGMOID"), (7, 9))},
        {"slope": -0.684, "intercept": 17.3, "windows": ()},
        {"voi_luts": (Lut(-3, 10, np.arange(1023, 0, -2, dtype=np.uint16)),)},
        {"modality_lut": Lut(40, 12, np.array([5, 4095, 0, 77], np.uint16)), "windows": ()},
    ],
)
@pytest.mark.parametrize(("lowest", "dtype"), [(37, np.uint16), (-300, np.int16), (0, np.uint8)])
def test_a_value_looked_up_is_the_value_worked_out(head, fields, lowest, dtype):
    windows = fields.get("windows", ((2048, 4096),))
    if head == LogWindow() and not windows:
        windows = ((0, 100),)
    pixels = (np.random.default_rng(0).integers(0, 256, (40, 30)) + lowest).astype(dtype)
    one = film(pixels, **{"bits": 8 if dtype == np.uint8 else 12, **fields, "windows": windows})
    other = np.where(np.arange(30) < 15, pixels, pixels.min())  # other values between the same ends
    for radiograph in (one, replace(one, pixels=other.astype(dtype))):
        assert_array_equal(Intensity([head])(radiograph), head(radiograph.values(), radiograph))


def test_steps_at_the_head_are_worked_out_once_for_a_value():
    sizes = []

    @dataclass(frozen=True)
    class Counting(Step):
        pointwise = True

        def __call__(self, values, radiograph):
            sizes.append(values.size)
            return values / 4095

    Intensity([Counting(), Percentile(), Counting()])(film(np.tile([[7, 9], [8, 16]], (50, 50))))
    assert sizes == [10, 10_000]  # 7 to 16; behind a step that knows its neighbours each pixel counts


def test_a_step_whose_settings_cannot_be_told_is_refused():
    with pytest.raises(TypeError, match="no dataclass"):
        Intensity([lambda values, radiograph: values])


def test_fingerprint_tells_steps_order_and_arguments():
    despeckled = Intensity([LogWindow(), Despeckle(size=3)])
    assert despeckled.fingerprint() == "LogWindow(scale=2.5, window=0) > Despeckle(size=3, excess=0.1)"
    assert despeckled.fingerprint() != Intensity([LogWindow(2.6), Despeckle(size=3)]).fingerprint()
    assert despeckled.fingerprint() != Intensity([Despeckle(size=3), LogWindow()]).fingerprint()


def test_fingerprint_is_the_same_in_another_process():
    code = "from cxr.read.intensity import *; print(Intensity([LogWindow(), Percentile(1, 99)]).fingerprint())"
    root = Path(__file__).parents[2]
    out = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == Intensity([LogWindow(), Percentile(1, 99)]).fingerprint()


RECIPES = [path for path in sorted(CONF.glob("*.yaml")) if path.stem != "suppressed"]  # that one needs trained weights


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_every_recipe_makes_a_picture(path):
    from hydra.utils import instantiate

    intensity = instantiate(yaml.safe_load(path.read_text(encoding="utf-8")), _convert_="all")
    picture = intensity(film(np.arange(4096).reshape(64, 64)))
    assert picture.dtype == np.float32
    assert picture.shape[-2:] == (64, 64)
    assert 0 <= picture.min() < picture.max() <= 1
