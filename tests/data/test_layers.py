"""Drawn films with and without some layers: what differs between them, and what follows from the seed."""

import numpy as np
import pytest
import torch

from cxr.data.layers import LayeredDataModule
from cxr.phantom.anatomy import draw_thorax
from cxr.phantom.layers import draw_layered
from cxr.read.intensity import Intensity, LogWindow


def data(**settings: int) -> LayeredDataModule:
    module = LayeredDataModule(Intensity([LogWindow()]), size=64, films=3, val_films=1, test_films=1, **settings)
    module.setup()
    return module


def test_films_differ_only_where_bones_and_vessels_were() -> None:
    film = draw_layered(draw_thorax(np.random.default_rng(1), ()), np.random.default_rng(2), 256)
    brighter = film.without.astype(int) - film.pixels  # MONOCHROME1: more attenuation, lower value
    bone, lung, _ = film.masks
    assert np.median(brighter[bone & lung]) > 3 * np.median(np.abs(brighter[lung & ~bone]))
    air = film.pixels >= np.percentile(film.pixels, 98)
    assert np.abs(brighter[air]).max() < 60  # of 4096: scatter only; another noise or window would be hundreds


def test_lung_is_not_where_the_heart_is_and_both_are_where_readers_expect_them() -> None:
    film = draw_layered(draw_thorax(np.random.default_rng(3), ()), np.random.default_rng(4), 128)
    _, lung, heart = film.masks
    assert not (lung & heart).any()
    assert heart.mean() < lung.mean()
    columns = np.arange(lung.shape[1])
    assert (heart.sum(0) * columns).sum() / heart.sum() > (lung.sum(0) * columns).sum() / lung.sum()  # patient's left


def test_the_masks_and_the_residual_stay_on_the_film() -> None:
    sample = data().dataset("train")[0]
    outside = sample["valid"] == 0
    assert outside.any()
    for name in ("film", "residual"):
        assert sample[name][outside].abs().max() == 0
    assert sample["residual"].max() > 0.05
    assert (sample["film"] - sample["residual"]).min() >= 0


def test_a_patient_lies_in_another_pose_each_epoch_and_in_the_same_again() -> None:
    one, again = data().dataset("train"), data().dataset("train")
    assert torch.equal(one[1, 2]["film"], again[1, 2]["film"])
    assert not torch.equal(one[1, 2]["film"], one[2, 2]["film"])


def test_no_patient_is_in_two_splits_and_the_fingerprint_tells_seeds_apart() -> None:
    module = data()
    patients = [film.patient for split in module.films.values() for film in split]
    assert len(patients) == len(set(patients)) == 5
    assert module.fingerprint() == data().fingerprint() != data(seed=1).fingerprint()


def test_there_must_be_films_to_train_on_and_none_to_validate_on() -> None:
    with pytest.raises(ValueError, match=r"data\.films is 0, expected at least 1"):
        LayeredDataModule(Intensity([LogWindow()]), films=0)
    with pytest.raises(ValueError, match=r"data\.val_films is -1, expected at least 0"):
        LayeredDataModule(Intensity([LogWindow()]), val_films=-1)
    module = LayeredDataModule(Intensity([LogWindow()]), size=64, films=3, val_films=0, test_films=1)
    module.setup()
    assert {split: len(patients) for split, patients in module.films.items()} == {"train": 3, "val": 0, "test": 1}


def test_a_size_that_does_not_halve_four_times_is_refused() -> None:
    with pytest.raises(ValueError, match=r"data\.size is 250.*multiple of 16: type data\.size=240 or 256"):
        LayeredDataModule(Intensity([LogWindow()]), size=250)
