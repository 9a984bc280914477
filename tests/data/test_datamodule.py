"""The data module: what a detector gets, the same in every process and after every resume."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import albumentations
import cv2
import lightning as L  # noqa: N812
import numpy as np
import pytest
import torch
from torch import Tensor

from cxr.data.augment import Augment
from cxr.data.dataset import EpochSampler, RadiographDataset, collate, share
from cxr.data.film import Film
from cxr.data.film_data import FilmDataModule
from cxr.data.sources.course import read_course
from cxr.findings import FindingVocabulary
from cxr.read.cache import FilmCache
from cxr.read.dicom import ReadError
from cxr.read.intensity import FullRange, Intensity

SIZES = [(120, 100), (80, 160), (60, 50)]


@pytest.fixture
def films(tmp_path: Path, write_film: Callable[..., Path]) -> list[Film]:
    """A wide film with a box on its border, a tall normal one, and one smaller than the network frame."""

    def film(i: int, boxes: list[list[float]], *names: str) -> Film:
        width, height = SIZES[i]
        pixels = np.random.default_rng(i).integers(0, 4096, (height, width)).astype(np.uint16)
        path = write_film(tmp_path / "films" / f"{i}.dcm", pixels)
        return Film(path, str(i), f"s{i}", f"p{i}", np.array(boxes, np.float32).reshape(-1, 4), names, width, height)

    return [
        film(0, [[0, 0, 60, 100], [30, 20, 50, 40]], "scoliosis", "cardiac_hypertrophy"),
        film(1, []),
        film(2, [[11, 7, 43, 29]], "scoliosis"),
    ]


def rotate() -> Augment:
    return Augment([albumentations.Rotate((-5, 5), rotate_method="ellipse", border_mode=cv2.BORDER_CONSTANT, p=1)])


@pytest.fixture
def make(tmp_path: Path, films: list[Film], findings: FindingVocabulary) -> Callable[..., FilmDataModule]:
    """A data module of copies of the three films: 12 of them, one a patient."""

    def read(root: Path, findings: FindingVocabulary) -> list[Film]:
        return [
            Film(f.path, f"{i}", f.study, f"p{i}", f.boxes, f.findings, f.width, f.height)
            for i, f in enumerate(films * 4)
        ]

    def module(**settings: Any) -> FilmDataModule:
        defaults: dict[str, Any] = {"size": 96, "batch_size": 2, "workers": 0, "augment": rotate(), "read": read}
        defaults |= {"findings": findings, "intensity": Intensity([FullRange()]), "cache": tmp_path / "cache"}
        return FilmDataModule(tmp_path, **defaults | settings)

    return module


def ready(module: FilmDataModule) -> FilmDataModule:
    module.prepare_data()
    module.setup("fit")
    return module


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
    tmp_path: Path, write_film: Callable[..., Path], findings: FindingVocabulary
) -> None:
    path = write_film(tmp_path / "film.dcm", np.zeros((100, 2500), np.uint16))
    boxes = np.array([[900, 0, 906, 100], [1000, 10, 1500, 90]], np.float32)  # the first is 0.6 px wide at 256 px
    film = Film(path, "f", "s", "p", boxes, ("scoliosis", "cardiac_hypertrophy"), 2500, 100)
    for augment in (None, rotate()):
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
    films: list[Film], findings: FindingVocabulary, tmp_path: Path
) -> None:
    data, again = (dataset(films, findings, tmp_path / "cache", 96, augment=rotate(), seed=3) for _ in range(2))
    other = dataset(films, findings, tmp_path / "cache", 96, augment=rotate(), seed=4)
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


class Recorder(L.LightningModule):
    """Notes the batches that reach it, and draws a random number at each, as a detector's sampling does."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.batches: list[Any] = []
        self.drawn: list[float] = []

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        images, targets = batch
        self.batches.append((self.current_epoch, [image.clone() for image in images], [t["boxes"] for t in targets]))
        self.drawn.append(float(torch.rand(())))
        return self.weight.sum()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        pass

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(module: FilmDataModule, folder: Path, epochs: int, resume: Path | None = None) -> Recorder:
    torch.manual_seed(0)
    recorder = Recorder()
    trainer = L.Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=folder, log_every_n_steps=1,
    )  # fmt: skip
    trainer.fit(recorder, datamodule=module, ckpt_path=resume, weights_only=True)
    trainer.save_checkpoint(folder / f"{epochs}.ckpt")
    return recorder


@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*LeafSpec:FutureWarning")
def test_batches_are_the_same_with_workers_and_after_a_resume(
    make: Callable[..., FilmDataModule], tmp_path: Path
) -> None:
    undisturbed = fit(make(), tmp_path, 3)
    workers = fit(make(workers=1), tmp_path, 3)
    fit(make(), tmp_path, 1)
    resumed = fit(make(), tmp_path, 3, resume=tmp_path / "1.ckpt")
    assert [epoch for epoch, _, _ in undisturbed.batches] == sorted([0, 1, 2] * 4)
    assert [epoch for epoch, _, _ in resumed.batches] == sorted([1, 2] * 4)
    assert_same(undisturbed.batches, workers.batches)
    assert_same(undisturbed.batches[4:], resumed.batches)
    assert undisturbed.drawn == workers.drawn  # loading takes nothing from the generator the model draws from


def assert_same(a: list[Any], b: list[Any]) -> None:
    assert len(a) == len(b)
    for (_, images, boxes), (_, others, other_boxes) in zip(a, b, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(images + boxes, others + other_boxes, strict=True))


def test_only_training_films_are_augmented(make: Callable[..., FilmDataModule]) -> None:
    augmented, plain = ready(make()), ready(make(augment=None))
    for split in ("val", "test"):
        for (image, target), (same, same_target) in zip(augmented.dataset(split), plain.dataset(split), strict=False):
            assert torch.equal(image, same)
            assert torch.equal(target["boxes"], same_target["boxes"])
        assert len(augmented.dataset(split)) > 0
    assert not torch.equal(augmented.dataset("train")[0][0], plain.dataset("train")[0][0])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, r"data\.batch_size is 0, expected at least 1"),
        ({"size": 31}, r"data\.size is 31, expected at least 32 px: a detector halves"),
        ({"val_fraction": 1.0}, r"data\.val_fraction is 1\.0, expected 0 <= val_fraction < 1"),
        ({"test_fraction": -0.1}, r"data\.test_fraction is -0\.1, expected 0 <= test_fraction < 1"),
        ({"normal_fraction": 1.0}, r"data\.normal_fraction is 1\.0, expected 0 <= normal_fraction < 1, or null"),
        ({"folds": 1}, r"data\.folds is 1, expected at least 2, or null"),
        ({"folds": 3, "fold": 3}, r"data\.fold is 3, expected 0\.\.2"),
        ({"folds": 3, "fold": -1}, r"data\.fold is -1, expected 0\.\.2"),
        ({"on_unreadable": "ignore"}, r"data\.on_unreadable is 'ignore', expected 'skip' or 'raise'"),
    ],
)
def test_settings_that_cannot_be_are_refused_before_anything_is_read(
    make: Callable[..., FilmDataModule], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make(**settings)


@pytest.mark.parametrize(
    ("settings", "hint"), [({"val_fraction": 0.01}, r"a larger data\.val_fraction"), ({"folds": 50}, r"data\.folds")]
)
def test_an_empty_validation_set_that_was_asked_for_is_an_error(
    make: Callable[..., FilmDataModule], settings: dict[str, Any], hint: str
) -> None:
    fold = {"fold": 49} if "folds" in settings else {}
    with pytest.raises(ValueError, match=rf"12 films of 12 patients give .* 0 val, .*{hint}"):
        ready(make(test_fraction=0.25, **settings, **fold))
    assert ready(make(val_fraction=0.0)).films["val"] == []


def test_one_picture_in_two_splits_is_warned_of(
    make: Callable[..., FilmDataModule], films: list[Film], caplog: pytest.LogCaptureFixture
) -> None:
    ready(make(read=lambda root, findings: films, test_fraction=0.0, val_fraction=0.3))
    assert "more than one split" not in caplog.text
    ready(make(val_fraction=0.25, test_fraction=0.0))  # four films of each picture
    expected = r"[123] pictures stand in more than one split; the first is study s(\d) \(train\) and study s\1 \(val\)"
    assert re.search(expected, caplog.text)
    assert not any(film.patient in caplog.text for film in films)


@pytest.mark.parametrize("on_unreadable", ["skip", "raise"])
def test_a_film_is_read_from_its_copy_where_the_first_file_is_broken(
    make: Callable[..., FilmDataModule], films: list[Film], caplog: pytest.LogCaptureFixture, on_unreadable: str
) -> None:
    whole, broken = films[0].path, films[0].path.with_name("broken.dcm")
    # the header is whole, as whoever reads headers only believes; the pixels are cut off
    broken.write_bytes(whole.read_bytes()[:-1000])
    listed = [replace(films[0], path=broken, copies=(whole,)), *films[1:]]
    module = ready(make(read=lambda root, findings: listed, on_unreadable=on_unreadable, val_fraction=0.3))
    (film,) = [film for some in module.films.values() for film in some if film.id == "0"]
    assert (film.path, film.copies) == (whole, (broken,))
    assert "0 of 3 films cannot be read, 1 files" in caplog.text
    assert str(broken) in str(module.unreadable[0])


def test_splits_cover_all_films_and_loaders_all_of_a_split(make: Callable[..., FilmDataModule]) -> None:
    module = ready(make(val_fraction=0.25, test_fraction=0.25))
    assert {split: len(films) for split, films in module.films.items()} == {"train": 6, "val": 3, "test": 3}
    assert sum(len(images) for images, _ in module.val_dataloader()) == 3
    assert sum(len(images) for images, _ in module.test_dataloader()) == 3
    assert sum(len(images) for images, _ in module.train_dataloader()) == 6
    module.batch_size = 4
    assert [len(images) for images, _ in module.train_dataloader()] == [4]
    module.batch_size = 8
    assert [len(images) for images, _ in module.train_dataloader()] == [6]


def test_unreadable_films_are_named_and_left_out(
    make: Callable[..., FilmDataModule], films: list[Film], caplog: pytest.LogCaptureFixture
) -> None:
    films[1].path.write_bytes(b"<html>")
    module = ready(make())
    assert len(module.unreadable) == 1
    assert str(films[1].path) in str(module.unreadable[0])
    assert "4 of 12 films cannot be read" in caplog.text
    assert str(films[1].path) in caplog.text
    assert sum(len(some) for some in module.films.values()) == 8


def test_unreadable_films_stop_a_strict_run(make: Callable[..., FilmDataModule], films: list[Film]) -> None:
    films[1].path.write_bytes(b"<html>")
    with pytest.raises(ReadError, match="cannot be read"):
        make(on_unreadable="raise").prepare_data()


def test_boxes_for_another_size_of_film_are_refused(make: Callable[..., FilmDataModule], films: list[Film]) -> None:
    object.__setattr__(films[0], "width", 240)
    with pytest.raises(ValueError, match=r"4 films .* has 120 x 100 px, expected 240 x 100"):
        make().prepare_data()


def test_the_share_of_normal_films_is_a_setting_of_training_only(make: Callable[..., FilmDataModule]) -> None:
    as_they_are, fewer = ready(make(val_fraction=0.25)), ready(make(val_fraction=0.25, normal_fraction=0.0))
    assert not any(film.normal for film in fewer.films["train"])
    assert [f.id for f in fewer.films["val"]] == [f.id for f in as_they_are.films["val"]]


def test_the_fingerprint_tells_data_apart(make: Callable[..., FilmDataModule], films: list[Film]) -> None:
    first = ready(make()).fingerprint()
    assert ready(make()).fingerprint() == first
    assert ready(make(seed=5)).fingerprint() != first  # another split
    films[0].boxes[0, 0] += 1
    assert ready(make()).fingerprint() != first


def test_a_data_set_without_films_is_an_error(make: Callable[..., FilmDataModule]) -> None:
    with pytest.raises(ValueError, match="has no films"):
        make(read=lambda root, findings: []).prepare_data()


def test_the_course_layout_comes_through(course: Any, findings: FindingVocabulary, make: Any) -> None:
    for i in range(8):
        course.row(f"N{i}", "normal")
        course.row(f"S{i}", "scoliosis", [(40, 0, 60, 100)])
    course.test("T", [("scoliosis", 0.25, 0.5, 0.0, 1.0)])
    course.save()
    module = ready(make(read=read_course))
    assert {split: len(films) for split, films in module.films.items()} == {"train": 14, "val": 2, "test": 1}
    ((image,), (target,)) = next(iter(module.test_dataloader()))
    assert image.shape == (1, 80, 96)
    np.testing.assert_allclose(target["boxes"], [[24, 0, 48, 80]], rtol=1e-6)
