"""A film in a few numbers that are known by hand."""

import numpy as np
import pytest

from cxr.read.film_statistics import LIKENESS, PIXELS, film_statistics


def of(picture: np.ndarray) -> dict[str, float]:
    pixels = np.rint(np.clip(picture, 0, 1) * 65535).astype(np.uint16)
    return dict(zip((*PIXELS, *LIKENESS), film_statistics(pixels).tolist(), strict=True))


def test_quantiles_and_spread_of_a_film_that_rises_evenly() -> None:
    found = of(np.tile(np.linspace(0, 1, 201), (50, 1)))
    assert [found[name] for name in ("dark", "middle", "bright")] == pytest.approx([0.05, 0.5, 0.95], abs=0.005)
    assert found["spread"] == pytest.approx(1 / np.sqrt(12), abs=0.005)  # of an even distribution
    assert found["noise"] < -4  # an even slope is no noise


def test_noise_is_measured_as_a_power_of_ten() -> None:
    rng = np.random.default_rng(0)
    for strength in (0.01, 0.04):
        found = of(0.5 + strength * rng.standard_normal((200, 200)))
        assert found["noise"] == pytest.approx(np.log10(strength), abs=0.02)


def test_channels_are_one_picture_and_nothing_is_said_of_a_likeness_that_is_not_known() -> None:
    picture = np.random.default_rng(1).uniform(size=(40, 30))
    assert of(np.stack([picture] * 3, axis=2)) == pytest.approx(of(picture), abs=1e-4, nan_ok=True)
    assert np.isnan(of(picture)["distance"])
    assert np.isnan(of(picture)["refused"])
