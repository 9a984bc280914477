"""Films of any maker brought to one look, with values worked out by hand."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from cxr.read.intensity import FullRange, Intensity
from cxr.read.normalise import BandEnergy, MatchedHistogram, _bands, _middle
from cxr.read.radiograph import Radiograph

RAMP = tuple(np.linspace(0, 1, 11).tolist())
ENERGIES = (0.15, 0.08, 0.05, 0.03, 0.02)


def radiograph(pixels, photometric="MONOCHROME2"):
    return Radiograph(Path("film.dcm"), np.asarray(pixels, np.uint16), photometric, 16, "p0", "p0")


def step_of(step, values):
    return step(values.astype(np.float32), radiograph(np.zeros((1, 1))))


def chest(side=192):
    """A body with two lungs, ribs and noise, on air."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:side, :side] / side
    body = 0.7 * (np.abs(x - 0.5) < 0.46) * (y > 0.04)
    for centre in (0.3, 0.7):
        body = np.where(((x - centre) / 0.15) ** 2 + ((y - 0.5) / 0.35) ** 2 < 1, 0.35, body)
    body = body + 0.04 * np.sin(40 * y) * (body > 0) + 0.01 * rng.standard_normal((side, side)) * (body > 0)
    return np.clip(cv2.GaussianBlur(body, (0, 0), 1.0), 0.02, 1).astype(np.float32)


# --- the histogram


def test_quantiles_become_those_of_the_reference():
    film = np.tile(np.linspace(0, 0.4, 101), (20, 1))  # its middle holds 0.04 to 0.36, evenly
    made = step_of(MatchedHistogram((0.0, 0.5, 1.0)), film)
    # the median 0.2 becomes 0.5; 0.04 and below 0; 0.36 and above 1; 0.12, half way to the median, 0.25
    assert_allclose(made[0, [0, 10, 30, 50, 90, 100]], [0, 0, 0.25, 0.5, 1, 1], atol=1e-5)


@pytest.mark.parametrize("curve", [lambda v: 0.25 + v / 2, np.sqrt, lambda v: v**2, lambda v: np.log1p(9 * v) / 3])
def test_any_tone_curve_is_undone(curve):
    film = chest()
    made, again = (step_of(MatchedHistogram(RAMP), picture) for picture in (film, curve(film)))
    assert np.abs(made - again).mean() < 0.01
    assert made[96, 60] < made[96, 96]  # lung is darker than mediastinum


def test_air_is_dark_however_the_film_is_stored():
    stored = np.rint(chest() * 60000)
    steps = Intensity([FullRange(), MatchedHistogram(RAMP)])
    one, two = steps(radiograph(stored)), steps(radiograph(65535 - stored, "MONOCHROME1"))
    assert_allclose(one, two, atol=1e-5)
    assert one[0].max() == 0


def test_a_black_border_stays_black_and_a_white_one_white():
    film = np.tile(np.linspace(0.2, 0.8, 100), (100, 1))
    film[:, :40], film[:, 70:] = 0.0, 1.0
    made = step_of(MatchedHistogram(RAMP), film)
    assert_array_equal(np.unique(made[:, :40]), [0])
    assert_array_equal(np.unique(made[:, 70:]), [1])
    assert made[0, 50] == pytest.approx(0.5, abs=0.02)  # column 50 is the median of the middle, columns 10 to 89


def test_few_bright_letters_do_not_darken_the_film():
    film = 0.35 * chest()
    lettered = film.copy()
    lettered[12:16, 12:16] = 1.0
    made, again = (step_of(MatchedHistogram(RAMP), picture) for picture in (film, lettered))
    assert_array_equal(made[30:], again[30:])


# --- the bands


def test_contrast_and_brightness_are_undone():
    film = chest()
    step = BandEnergy(ENERGIES, level=0.5)
    assert_allclose(step_of(step, 0.3 + film / 2), step_of(step, film), atol=1e-4)


def test_each_band_has_the_energy_of_the_reference():
    film = chest(256)
    made = step_of(BandEnergy((0.1, 0.06, 0.04, 0.03, 0.02, 0.01)), film)
    bands, rest = [], made
    while max(rest.shape) >= 16:
        smaller = cv2.pyrDown(rest)
        bands.append(rest - cv2.pyrUp(smaller, dstsize=rest.shape[::-1]))
        rest = smaller
    finest = [float(band[25:-25, 25:-25].std()) for band in bands[:2]]
    assert finest == pytest.approx([0.01, 0.02], rel=0.15)  # of 5 bands and the rest: the last energies
    assert made[25:-25, 25:-25].mean() == pytest.approx(0.5, abs=0.05)  # the mean of the coarsest band


def test_bands_finer_than_the_last_energy_take_its_factor():
    film = chest(256)
    coarse, second, *_ = (float(_middle(band).std()) for band in _bands(film[None]))
    made = step_of(BandEnergy((coarse / 2, second / 2), level=0.4), film)
    assert_allclose(made - made.mean(), (film - film.mean()) / 2, atol=1e-4)  # all bands are halved, the finest too


def test_the_noise_of_a_blank_film_is_not_made_a_picture():
    film = 0.5 + 1e-4 * np.random.default_rng(0).standard_normal((128, 128))
    assert step_of(BandEnergy(ENERGIES), film).std() == pytest.approx(1e-3, rel=0.01)  # tenfold, no more


def test_sharpening_is_undone_and_air_stays_darker_than_tissue():
    film = chest()
    sharpened = np.clip(film + 0.8 * (film - cv2.GaussianBlur(film, (0, 0), 3)), 0, 1)
    step = BandEnergy(ENERGIES)
    before, after = np.abs(sharpened - film).mean(), np.abs(step_of(step, sharpened) - step_of(step, film)).mean()
    assert after < before / 2
    made = step_of(step, film)
    assert made[:4].mean() < made[96, 60] < made[96, 96]


def test_a_series_is_measured_as_a_whole():
    film = chest(64)
    for step in (MatchedHistogram(RAMP), BandEnergy(ENERGIES)):
        assert_allclose(step_of(step, np.stack([film, film])), [step_of(step, film)] * 2, atol=1e-3)
        both = step_of(step, np.stack([film, film / 2]))
        assert both[1].mean() < both[0].mean() - 0.05  # the darker slice stays darker


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_a_constant_film_has_no_structure(photometric):
    constant = radiograph(np.full((40, 30), 7), photometric)
    assert_array_equal(Intensity([FullRange(), MatchedHistogram(RAMP)])(constant), np.zeros((40, 30)))
    assert_allclose(Intensity([FullRange(), BandEnergy(ENERGIES, 0.4)])(constant), np.full((40, 30), 0.4), atol=1e-6)


@pytest.mark.parametrize("side", [1, 2, 9, 17])
def test_films_of_a_few_pixels_are_films_too(side):
    film = radiograph(np.arange(side * side).reshape(side, side))
    for step in (MatchedHistogram(RAMP), BandEnergy(ENERGIES)):
        made = Intensity([FullRange(), step])(film)
        assert made.shape == (side, side)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MatchedHistogram([0.5]), "at least two values"),
        (lambda: MatchedHistogram([0, 0.6, 0.5]), "never fall"),
        (lambda: MatchedHistogram([0, 1.5]), "in 0..1"),
        (lambda: BandEnergy([]), "at least one"),
        (lambda: BandEnergy([0.1, 0]), "above 0"),
        (lambda: BandEnergy([0.1], level=2), "level is 2"),
    ],
)
def test_impossible_settings_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_equal_settings_have_equal_fingerprints():
    for make in (MatchedHistogram, BandEnergy):
        one, two = (Intensity([make(values)]) for values in ([0.5, 1], (0.5, 1.0)))
        assert one.fingerprint() == two.fingerprint()
