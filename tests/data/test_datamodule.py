"""The data module: splits, refusals, and batches that are the same in every process and after every resume."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L  # noqa: N812
import numpy as np
import pytest
import torch
from torch import Tensor

from cxr.data.augment import Augment
from cxr.data.film import Film
from cxr.data.film_data import FilmDataModule
from cxr.data.sources.course import read_course
from cxr.findings import FindingVocabulary
from cxr.read.dicom import ReadError
from cxr.read.intensity import FullRange, Intensity


@pytest.fixture
def make(
    tmp_path: Path, films: list[Film], findings: FindingVocabulary, rotated: Augment
) -> Callable[..., FilmDataModule]:
    """A data module of copies of the three films: 12 of them, one a patient."""

    def read(root: Path, findings: FindingVocabulary) -> list[Film]:
        return [
            Film(f.path, f"{i}", f.study, f"p{i}", f.boxes, f.findings, f.width, f.height)
            for i, f in enumerate(films * 4)
        ]

    def module(**settings: Any) -> FilmDataModule:
        defaults: dict[str, Any] = {"size": 96, "batch_size": 2, "workers": 0, "augment": rotated, "read": read}
        defaults |= {"findings": findings, "intensity": Intensity([FullRange()]), "cache": tmp_path / "cache"}
        return FilmDataModule(tmp_path, **defaults | settings)

    return module


def ready(module: FilmDataModule) -> FilmDataModule:
    module.prepare_data()
    module.setup("fit")
    return module


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
