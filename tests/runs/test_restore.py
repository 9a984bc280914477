"""A checkpoint gives its detector and its data back."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import hydra
import numpy as np
import pytest
import torch
from hydra import compose
from omegaconf import OmegaConf
from torchvision.models.detection import ssdlite320_mobilenet_v3_large

from cxr.config.errors import ConfigError
from cxr.data.film import Film
from cxr.data.film_data import FilmDataModule
from cxr.data.sources.rsna import read_rsna
from cxr.detect.task import DetectionTask
from cxr.findings import FindingVocabulary
from cxr.read.radiograph import Radiograph, ReadError
from cxr.runs.checkpoint import read_checkpoint
from cxr.runs.restore import (
    intensity_of_films,
    load_data,
    load_study_data,
    load_study_task,
    load_task,
    restored_intensity,
    same_films,
)

# --- the detector


def detected(task: DetectionTask) -> list[dict[str, torch.Tensor]]:
    images = [torch.rand(1, 64, 48, generator=torch.Generator().manual_seed(0)), torch.zeros(1, 48, 64)]
    size = {"scale": torch.tensor([0.5, 0.5]), "size": torch.tensor([128, 128])}
    return task.detect(images, [size, size])


def test_a_restored_detector_finds_what_the_trained_one_found(trained: Any) -> None:
    path, task = trained()
    restored = load_task(read_checkpoint(path))
    expected = detected(task)
    assert len(expected[0]["boxes"]) > 0
    torch.testing.assert_close(detected(restored), expected, rtol=0, atol=0)
    assert not any(module.training for module in restored.modules())
    assert restored.findings.label("scoliosis", "zh") == "脊椎側彎"
    with pytest.raises(RuntimeError, match=r"train\.py trains"):
        restored.configure_optimizers()


def test_the_weights_it_was_trained_from_may_be_gone(trained: Any, tmp_path: Path) -> None:
    # With weights a detector is built with frozen batch normalisation, without with another: it must come back alike
    start = tmp_path / "coco.pth"
    torch.save(ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=8).state_dict(), start)
    path, task = trained("model=ssdlite", f"model.weights={start}")
    start.unlink()
    expected = detected(task)
    assert len(expected[0]["boxes"]) > 0
    torch.testing.assert_close(detected(load_task(read_checkpoint(path))), expected, rtol=0, atol=0)


def test_weights_that_do_not_fit_the_config_are_refused(trained: Any) -> None:
    path, _ = trained()
    content = torch.load(path)
    content["cxr"]["config"]["model"]["regions"]["width"] = 32
    torch.save(content, path)
    with pytest.raises(ConfigError, match=r"(?s)best\.ckpt: its config's model does not fit its weights.*box_head"):
        load_task(read_checkpoint(path))


def test_a_head_for_other_findings_is_refused_not_left_at_random(trained: Any) -> None:
    path, _ = trained()
    content = torch.load(path)
    content["cxr"]["findings"]["findings"].pop()
    torch.save(content, path)
    with pytest.raises(ConfigError, match=r"(?s)its config's model does not fit its weights.*box_predictor"):
        load_task(read_checkpoint(path))


def test_an_argument_this_version_does_not_know_is_named(trained: Any) -> None:
    path, _ = trained()
    content = torch.load(path)
    content["cxr"]["config"]["model"]["dropout"] = 0.5
    torch.save(content, path)
    with pytest.raises(ConfigError, match=r"its config's model does not fit .*'dropout'"):
        load_task(read_checkpoint(path))


# --- the data


def ready(data: FilmDataModule) -> FilmDataModule:
    data.prepare_data()
    data.setup()
    return data


@pytest.fixture(scope="module")
def original(root: Path, tmp_path_factory: pytest.TempPathFactory, composed: Any) -> FilmDataModule:
    """The data as ``train.py`` makes them."""
    cfg = composed(f"data.root={root}", f"data.cache={tmp_path_factory.mktemp('cache')}")
    return ready(hydra.utils.instantiate(cfg.data, _convert_="all"))


def test_the_data_are_those_it_was_trained_on(written: Any, original: FilmDataModule, tmp_path: Path) -> None:
    checkpoint = written("data.root", str(original.root), data=original.fingerprint())
    data = ready(load_data(checkpoint, {"root": None, "cache": str(tmp_path / "cache"), "read": None}))
    assert same_films(checkpoint, data)
    assert {split: [film.path for film in films] for split, films in data.films.items()} == {
        split: [film.path for film in films] for split, films in original.films.items()
    }
    image = data.dataset("test")[0][0]
    assert torch.equal(image, original.dataset("test")[0][0])
    assert max(image.shape) == checkpoint.size == 64
    assert torch.equal(data.dataset("train")[0, 0][0], data.dataset("train")[1, 0][0])  # nothing is augmented


def test_films_that_stand_elsewhere_now_are_found_by_their_root(
    written: Any, original: FilmDataModule, tmp_path: Path
) -> None:
    checkpoint = written("data.root", "/nowhere", data=original.fingerprint())
    with pytest.raises(ConfigError, match=r"data\.root=/nowhere: there is no such folder"):
        load_data(checkpoint)
    moved = {"root": str(original.root), "cache": str(tmp_path / "cache")}
    assert same_films(checkpoint, ready(load_data(checkpoint, moved)))
    other = ready(
        load_data(checkpoint, {**moved, "val_fraction": 0.4})
    )  # other splits: what was trained on would be tested on
    assert not same_films(checkpoint, other)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"size": 128}, r"data\.size=128: films come as .*any\.ckpt was trained; leave it out"),
        ({"augment": {"_target_": "cxr.data.augment.Augment"}}, r"data\.augment="),
        ({"intensity": {"_target_": "cxr.read.intensity.Intensity", "steps": []}}, r"data\.intensity="),
        ({"rot": "x"}, "data does not fit .*'rot'"),
        ({"batch_size": 0}, "data.batch_size is 0, expected 1 to 1024"),
        ({"batch_size": "many"}, "data.batch_size is 'many', expected int"),
    ],
)
def test_settings_that_are_the_detectors_or_nobodys_are_refused(
    written: Any, original: FilmDataModule, overrides: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        load_data(written("data.root", str(original.root)), {"size": 64, **overrides})  # 64 is as it was trained


def test_another_data_set_comes_as_the_detector_needs_it(written: Any, tmp_path: Path) -> None:
    chosen = compose("evaluate", ["ckpt=any.ckpt", "data=course"]).data
    checkpoint = written("seed", 11, "intensity=percentile")
    with pytest.raises(ConfigError, match=r"data\.root has no value yet: type data\.root="):
        load_data(checkpoint, chosen)
    chosen.root = str(tmp_path)
    data = load_data(checkpoint, chosen)
    assert (data.root, data.size, data.seed, data.augment) == (tmp_path, 64, 11, None)  # course.yaml says 512
    assert data.findings is checkpoint.findings
    assert data.cache.intensity.fingerprint() == restored_intensity(checkpoint).fingerprint()
    OmegaConf.set_struct(chosen, False)
    chosen.findngs = "x"
    with pytest.raises(ConfigError, match="findngs"):
        load_data(checkpoint, chosen)


def read_mine(root: Path, findings: FindingVocabulary) -> list[Film]:
    """A reader outside this project."""
    boxes = np.zeros((0, 4), np.float32)
    return [Film(root / f"{i}.png", f"{i}", f"s{i}", f"p{i}", boxes, (), 64, 64) for i in range(4)]


def test_a_user_may_name_a_reader_of_their_own(written: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "mine", sys.modules[__name__])
    chosen = {"_target_": "cxr.data.film_data.FilmDataModule", "root": str(tmp_path)}
    data = load_data(written(), chosen | {"read": {"_target_": "mine.read_mine", "_partial_": True}})
    assert len(data.read(tmp_path, data.findings)) == 4
    with pytest.raises(ConfigError, match=r"expected cxr\.data\.film_data\.FilmDataModule"):
        load_data(written(), {"_target_": "builtins.dict"})


def test_a_detector_takes_films_of_its_own_kind_only(written: Any) -> None:
    checkpoint = replace(written(), kind="radiograph")
    slice_ = Radiograph(Path("slice.dcm"), np.zeros((8, 8), np.uint16), "MONOCHROME2", 12, "s", "p", modality="CT")
    with pytest.raises(ReadError, match=r"slice\.dcm: Modality is 'CT' .* trained on films of kind radiograph"):
        intensity_of_films(checkpoint)(slice_)
    intensity_of_films(written())(slice_)  # a checkpoint of before does not tell


MERGED = ("data=merge", "data.read.sources.coco.root=one", "data.read.sources.rsna.root=two")


def test_the_sources_of_a_merge_come_back_with_their_vocabularies(written: Any, root: Path) -> None:
    read = load_data(written("data.root", str(root.parent), *MERGED)).read
    sources = cast(Any, read).keywords["sources"]
    assert sources["rsna"].findings.names == ("lung_opacity",)
    assert sources["rsna"].mapping == {"lung_opacity": "lung_field_infiltration"}
    assert (sources["rsna"].read.func, sources["coco"].root) == (read_rsna, "one")


# --- studies


def test_a_classifier_of_studies_comes_back_and_is_no_detector(
    tmp_path: Path, root: Path, composed: Any, card: Any
) -> None:
    cfg = composed("model=cnn3d", "model.channels=[4,4]", "model.strides=[2]", f"data.root={root.parent}")
    torch.manual_seed(0)
    task = hydra.utils.instantiate(cfg.task, _convert_="all")
    findings = hydra.utils.instantiate(cfg.findings).as_dict()
    torch.save({"state_dict": task.state_dict(), "cxr": card(cfg) | {"findings": findings}}, tmp_path / "any.ckpt")
    checkpoint = read_checkpoint(tmp_path / "any.ckpt")
    batch = {"volume": torch.rand(2, 1, 16, 16, 16), "labels": torch.zeros(2, 2), "item": torch.arange(2)}
    torch.testing.assert_close(load_study_task(checkpoint).classify(batch), task.eval().classify(batch))
    data = load_study_data(checkpoint)
    assert (data.root, data.batch_size, data.seed) == (root.parent, 2, 3)
    with pytest.raises(ConfigError, match=r"of a network for whole studies, not of a detector; python explain\.py"):
        load_task(checkpoint)
