"""Films, series, pairs and drawn layers are served alike: the same settings are refused, the same loaders are made."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cxr.data.datamodule import DataModule
from cxr.data.film import Film
from cxr.data.film_data import FilmDataModule
from cxr.data.layers import LayeredDataModule
from cxr.data.pair import Patient
from cxr.data.pair_data import PairDataModule
from cxr.data.series_data import SeriesDataModule
from cxr.data.study import Study
from cxr.findings import FindingVocabulary
from cxr.phantom.series import draw_series, write_series
from cxr.read.intensity import CtWindow, FullRange, Intensity, LogWindow
from cxr.read.radiograph import ReadError

FILMS, CT = Intensity([FullRange()]), Intensity([CtWindow(-600.0, 1500.0)])
KINDS = ("films", "series", "pairs", "layers")
Make = Callable[..., DataModule[Any]]


@pytest.fixture
def make(tmp_path: Path, write_film: Callable[..., Path], findings: FindingVocabulary) -> Make:
    """A data module of a kind: eight patients with a film and a series each, of whom every second has scoliosis."""
    pixels = np.random.default_rng(0).integers(0, 4096, (8, 40, 40)).astype(np.uint16)
    names = [("scoliosis",) if i % 2 else () for i in range(8)]
    films = [
        Film(write_film(tmp_path / f"{i}.dcm", pixels[i]), f"{i}", f"s{i}", f"p{i}",
             np.array([[0, 0, 9, 9]] * len(names[i]), np.float32).reshape(-1, 4), names[i], 40, 40)
        for i in range(8)
    ]  # fmt: skip

    def series() -> list[Study]:
        for i in range(8):
            if not (tmp_path / f"ct{i}").exists():
                write_series(tmp_path / f"ct{i}", draw_series(np.random.default_rng(i), 16, (), "CT"), f"P{i}", f"S{i}")
        return [Study(tmp_path / f"ct{i}", f"{i}", f"s{i}", f"p{i}", names[i], modality="CT") for i in range(8)]

    def pairs() -> list[Patient]:
        return [Patient(film.path, None, film.study, film.patient, film.findings) for film in films]

    def module(kind: str, **settings: Any) -> DataModule[Any]:
        cache = tmp_path / "cache"
        if kind == "films":
            return FilmDataModule(tmp_path, lambda *_: films, findings, FILMS, size=32, cache=cache, **settings)
        if kind == "series":
            return SeriesDataModule(tmp_path, lambda *_: series(), findings, CT, size=16, cache=cache, **settings)
        if kind == "pairs":
            items = settings.pop("items", pairs())
            return PairDataModule(
                tmp_path, lambda *_: items, findings, FILMS, CT, None, 32, 16, cache=cache, **settings
            )
        return LayeredDataModule(Intensity([LogWindow()]), size=32, films=8, val_films=2, test_films=2, **settings)

    return module


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("setting", "value", "expected"),
    [
        ("batch_size", 0, "at least 1"),
        ("workers", -1, "at least 0"),
        ("val_fraction", 1.0, "0 <= val_fraction < 1"),
        ("test_fraction", -0.1, "0 <= test_fraction < 1"),
        ("on_unreadable", "stop", "'skip' or 'raise'"),
    ],
)
def test_a_setting_that_nothing_can_be_served_with_is_refused_of_every_kind(
    make: Make, kind: str, setting: str, value: Any, expected: str
) -> None:
    if kind == "layers" and setting not in ("batch_size", "workers"):  # nothing is read, and the splits are counts
        return
    with pytest.raises(ValueError, match=rf"data\.{setting} is {value!r}, expected {expected}"):
        make(kind, **{setting: value})


@pytest.mark.parametrize("settings", [{"film_size": 8}, {"size": 4}, {"voxel_mm": 0.0}, {"max_gap_mm": -1.0}])
def test_pairs_refuse_the_sizes_that_films_and_series_refuse(
    findings: FindingVocabulary, tmp_path: Path, settings: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match=rf"data\.{next(iter(settings))} is "):
        PairDataModule(tmp_path, lambda *_: [], findings, FILMS, CT, cache=tmp_path, **settings)


@pytest.mark.parametrize("kind", ["films", "series", "pairs"])
def test_no_validation_set_may_be_asked_for_and_none_that_was_not_is_an_error(make: Make, kind: str) -> None:
    without = make(kind, val_fraction=0.0, test_fraction=0.25)
    without.setup()
    assert {split: len(items) for split, items in without.films.items()} == {"train": 6, "val": 0, "test": 2}
    assert len(without.val_dataloader()) == 0
    with pytest.raises(ValueError, match=r"is left for validation: 8 .* 0 val, 2 test with data\.val_fraction 0\.01"):
        make(kind, val_fraction=0.01, test_fraction=0.25).setup()


@pytest.mark.parametrize("kind", KINDS)
def test_loaders_are_made_alike(make: Make, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    module = make(kind, batch_size=3, workers=2)
    module.setup()
    train, val = module.train_dataloader(), module.val_dataloader()
    for loader in (train, val):
        assert loader.pin_memory
        assert loader.persistent_workers
        assert loader.multiprocessing_context.get_start_method() == "forkserver"
    assert (train.drop_last, val.drop_last) == (True, False)
    assert sorted(index for _, index in train.sampler) == list(range(len(module.films["train"])))


def test_a_pair_that_has_lost_its_film_counts_as_damaged_and_is_told(
    make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken = tmp_path / "broken.dcm"
    broken.write_bytes((tmp_path / "0.dcm").read_bytes()[:-1000])
    patients = make("pairs").listed()
    patients = [replace(patients[0], film=broken), *patients[1:]]
    module = make("pairs", items=patients)
    module.prepare_data()
    assert len(module.readable) == 7
    assert module.unreadable_files == [broken]
    assert "1 of 8 patients cannot be read, 1 files or folders" in caplog.text
    assert "counts as missing" in caplog.text
    with pytest.raises(ReadError, match="1 of 8 patients cannot be read"):
        make("pairs", items=patients, on_unreadable="raise").prepare_data()


def test_a_series_that_stands_in_two_splits_is_warned_of_as_a_film_is(
    make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    patients = make("pairs").listed()
    twin = replace(patients[0], study="s9", patient="p9", split="test")
    make("pairs", items=[*patients, twin], val_fraction=0.0).setup()
    assert "1 pictures stand in more than one split; the first is study s0 (train) and study s9 (test)" in caplog.text
