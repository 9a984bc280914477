"""A film as a detector gets it: its image, its target, its augmentation, and the order of an epoch."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cxr.data.augment import Augment
from cxr.data.dataset import EpochSampler, RadiographDataset, collate, share
from cxr.data.film import Film
from cxr.findings import FindingVocabulary
from cxr.read.cache import FilmCache
from cxr.read.intensity import FullRange, Intensity


def dataset(films: list[Film], findings: FindingVocabulary, cache: Path, size: int, **more: Any) -> RadiographDataset:
    return RadiographDataset(films, findings, FilmCache(cache, Intensity([FullRange()]), size), size, **more)


def test_a_sample_is_what_the_contract_says(films: list[Film], findings: FindingVocabulary, tmp_path: Path) -> None:
    image, target = dataset(films, findings, tmp_path / "cache", 60)[0]
    assert (image.dtype, image.shape) == (torch.float32, (1, 50, 60))
    assert image.min() >= 0
    assert image.max() <= 1
    assert target["boxes"].tolist() == [[0, 0, 30, 50], [15, 10, 25, 20]]
    assert target["labels"].tolist() == [2, 1]
    assert target["scale"].tolist() == [0.5, 0.5]
    assert target["size"].tolist() == [100, 120]
    assert target["labelled"].tolist() == [True] * (1 + len(findings.names))
    assert target["film"].tolist() == 0
    types = {"boxes": torch.float32, "labels": torch.int64, "scale": torch.float32}
    types |= {"size": torch.int64, "film": torch.int64}
    types |= {"original_boxes": torch.float32, "original_labels": torch.int64, "labelled": torch.bool}
    assert {key: value.dtype for key, value in target.items()} == types


def test_a_normal_film_stays_in_with_no_boxes(films: list[Film], findings: FindingVocabulary, tmp_path: Path) -> None:
    _, target = dataset(films, findings, tmp_path / "cache", 96)[1]
    assert target["boxes"].shape == (0, 4)
    assert (target["labels"].shape, target["labels"].dtype) == ((0,), torch.int64)


@pytest.mark.parametrize("size", [37, 60, 96, 160, 333])
def test_boxes_come_back_to_original_pixels_through_scale(
    films: list[Film], findings: FindingVocabulary, tmp_path: Path, size: int
) -> None:
    for film, (image, target) in zip(films, (data := dataset(films, findings, tmp_path / "cache", size)), strict=False):
        assert max(image.shape) == size
        np.testing.assert_allclose(target["boxes"] / target["scale"].repeat(2), film.boxes, rtol=1e-6, atol=1e-5)
        assert (target["size"] * target["scale"].flip(0)).tolist() == pytest.approx(list(image.shape[1:]))
    assert len(data) == 3


def test_the_pixels_under_a_box_are_those_of_the_lesion(
    tmp_path: Path, write_film: Callable[..., Path], findings: FindingVocabulary
) -> None:
    pixels = np.full((100, 160), 4095, np.uint16)  # MONOCHROME1: air
    pixels[20:60, 40:80] = 0
    path = write_film(tmp_path / "film.dcm", pixels)
    film = Film(path, "f", "s", "p", np.array([[40, 20, 80, 60]], np.float32), ("scoliosis",), 160, 100)
    image, target = dataset([film], findings, tmp_path / "cache", 80)[0]
    x0, y0, x1, y1 = target["boxes"][0].int().tolist()
    inside = torch.zeros_like(image)
    inside[:, y0:y1, x0:x1] = 1
    assert torch.equal(image, inside)


def test_what_was_marked_stays_whole_however_small_the_image(
    tmp_path: Path, write_film: Callable[..., Path], findings: FindingVocabulary, rotated: Augment
) -> None:
    path = write_film(tmp_path / "film.dcm", np.zeros((100, 2500), np.uint16))
    boxes = np.array([[900, 0, 906, 100], [1000, 10, 1500, 90]], np.float32)  # the first is 0.6 px wide at 256 px
    film = Film(path, "f", "s", "p", boxes, ("scoliosis", "cardiac_hypertrophy"), 2500, 100)
    for augment in (None, rotated):
        _, target = dataset([film], findings, tmp_path / "cache", 256, augment=augment)[3, 0]
        assert target["labels"].tolist() == [1]
        assert target["original_boxes"].tolist() == boxes.tolist()
        assert target["original_labels"].tolist() == [2, 1]


def test_a_batch_is_two_lists_with_films_of_any_size(
    films: list[Film], findings: FindingVocabulary, tmp_path: Path
) -> None:
    data = dataset(films, findings, tmp_path / "cache", 96)
    images, targets = collate([data[0], data[1]])
    assert [tuple(image.shape) for image in images] == [(1, 80, 96), (1, 96, 48)]
    assert [len(target["boxes"]) for target in targets] == [2, 0]


def test_augmentation_follows_from_seed_epoch_and_index(
    films: list[Film], findings: FindingVocabulary, tmp_path: Path, rotated: Augment
) -> None:
    data, again = (dataset(films, findings, tmp_path / "cache", 96, augment=rotated, seed=3) for _ in range(2))
    other = dataset(films, findings, tmp_path / "cache", 96, augment=rotated, seed=4)
    _ = data[5, 2], data[0]
    assert torch.equal(data[1, 0][0], again[1, 0][0])
    assert not torch.equal(data[1, 0][0], data[2, 0][0])
    assert not torch.equal(data[1, 0][0], other[1, 0][0])
    assert torch.equal(data[0][0], data[0, 0][0])


def test_the_order_follows_from_seed_and_epoch() -> None:
    sampler, again = EpochSampler(50, seed=1), EpochSampler(50, seed=1)
    first = list(sampler)
    sampler.set_epoch(7)
    assert [epoch for epoch, _ in sampler] == [7] * 50
    assert sorted(i for _, i in sampler) == list(range(50))
    assert [i for _, i in sampler] != [i for _, i in first]
    again.set_epoch(7)
    assert list(again) == list(sampler)


@pytest.mark.parametrize(("length", "world"), [(7, 2), (8, 2), (7, 3), (1, 4), (0, 2)])
def test_shares_are_equally_long_and_hold_every_film(length: int, world: int) -> None:
    shares = [share(range(length), rank, world) for rank in range(world)]
    assert {len(some) for some in shares} == {-(-length // world)}
    assert {film for some in shares for film in some} == set(range(length))
    assert share(range(length), 0, 1) == list(range(length))


def test_shares_of_an_epoch_are_of_one_order() -> None:
    samplers = [EpochSampler(7, 1, rank, world_size=2) for rank in (0, 1)]
    for sampler in samplers:
        sampler.set_epoch(3)
    whole = EpochSampler(7, seed=1)
    whole.set_epoch(3)
    order = list(whole)
    assert list(samplers[0]) == order[0::2]
    assert list(samplers[1]) == [*order[1::2], order[0]]  # the eighth of seven is the first again
    assert [len(sampler) for sampler in samplers] == [4, 4]
