"""Configs as Hydra composes them, and checkpoints as ``train.py`` leaves them."""

import copy
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from cxr.config.entry import resolved
from cxr.config.models import builder
from cxr.detect.task import DetectionTask
from cxr.findings import FindingVocabulary
from cxr.measure.operating_point import choose_operating_point
from cxr.measure.results import FilmResult
from cxr.phantom.films import write_course_layout
from cxr.runs.checkpoint import Checkpoint, read_checkpoint
from scripts import ROOT

FINDINGS = {"findings": [{"name": "nodule"}, {"name": "effusion", "chinese": "肋膜積水"}], "normal": ["none"]}
STEPS = [{"_target_": "cxr.read.intensity.LogWindow", "scale": 2.5}]
PHANTOM: dict[str, Any] = {"films": 8, "test_films": 2, "size": 96, "seed": 0, "normal_fraction": 0.25}
SMALL = ("model=fasterrcnn_tiny", "augment=strong", "data.size=64", "data.batch_size=2", "data.workers=0", "seed=3")
DRAWN = ("data.read.films=12", "data.read.test_films=3", "data.read.size=96", "+data.read.workers=1")


@pytest.fixture(scope="module")
def configs() -> Iterator[None]:
    """Let Hydra compose the YAML files of conf/ in this process, as it does for the scripts."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        yield
    GlobalHydra.instance().clear()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for drawn films."""
    return tmp_path_factory.mktemp("films") / "phantom"


@functools.cache  # composing takes a tenth of a second
def compose_small(*overrides: str) -> Any:
    """Compose the config of a small detector of few drawn films."""
    drawn = () if {"data=merge", "model=cnn3d"} & set(overrides) else DRAWN
    return compose("train", [*SMALL, *drawn, *overrides, "run_dir=outputs/x"])


def card_of(cfg: Any, data: str = "") -> dict[str, Any]:
    """Return what ``train.py`` keeps in a checkpoint beside the weights."""
    findings = hydra.utils.instantiate(cfg.findings, _convert_="all")
    return {"config": resolved(cfg), "findings": findings.as_dict(), "data": data, "versions": {"torch": "2"}}


@pytest.fixture(scope="module")
def composed(configs: None) -> Callable[..., Any]:
    return compose_small


@pytest.fixture
def card(configs: None) -> Callable[..., dict[str, Any]]:
    return card_of


@pytest.fixture
def trained(tmp_path: Path, configs: None) -> Callable[..., tuple[Path, DetectionTask]]:
    """Write the checkpoint of a detector that ``overrides`` compose; return it with the detector itself."""

    def train(*overrides: str) -> tuple[Path, DetectionTask]:
        cfg = compose_small(*overrides)
        torch.manual_seed(0)
        task = hydra.utils.instantiate(cfg.task, _convert_="all")
        raw = {key: torch.zeros_like(value) for key, value in task.state_dict().items()}  # weight averaging keeps both
        path = tmp_path / "best.ckpt"
        torch.save({"state_dict": task.state_dict(), "current_model_state": raw, "cxr": card_of(cfg)}, path)
        return path, task

    return train


@pytest.fixture
def written(tmp_path: Path, configs: None) -> Callable[..., Checkpoint]:
    """Write a checkpoint without weights whose config has ``value`` at a dotted ``key``, and read it."""

    def write(key: str = "seed", value: Any = 3, *overrides: str, data: str = "") -> Checkpoint:
        content = {"state_dict": {}, "cxr": card_of(compose_small(*overrides), data)}
        set_value(content["cxr"]["config"], key, value)
        torch.save(content, tmp_path / "any.ckpt")
        return read_checkpoint(tmp_path / "any.ckpt")

    return write


def set_value(node: Any, key: str, value: Any) -> None:
    """Put ``value`` at a dotted key of a nested dict, whose lists are counted from 0."""
    *parents, last = (int(name) if name.isdecimal() else name for name in key.split("."))
    for name in parents:
        node = node[name]
    node[last] = value


@pytest.fixture(name="set_value")
def set_value_fixture() -> Callable[[Any, str, Any], None]:
    return set_value


@functools.cache
def network() -> DetectionTask:
    """Return the smallest detector, with an image head."""
    torch.manual_seed(0)
    model = builder("fasterrcnn_tiny", image_head=True, regions__width=8, anchors__image_size=64)
    return DetectionTask(FindingVocabulary(**FINDINGS), model, lambda parameters: None)  # type: ignore[arg-type]


@functools.cache
def point() -> dict[str, Any]:
    """Return an operating point, chosen on two films."""
    boxes, labels, scores = np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.float32)
    box, finding_scores = np.ones((1, 4), np.float32), np.array([0.5, 0], np.float32)
    films = [
        FilmResult("a", "a", (8, 8), box, np.array([1]), boxes, labels, scores, finding_scores, 0.75),
        FilmResult("b", "b", (8, 8), boxes, labels, boxes, labels, scores, finding_scores, 0.25),
    ]
    return choose_operating_point(films, samples=2).as_dict()


def node(target: str, **settings: Any) -> dict[str, Any]:
    """Return a node of a config that names something of cxr.detect."""
    return {"_target_": f"cxr.detect.{target}", **settings}


@pytest.fixture
def content() -> dict[str, Any]:
    """What ``train.py`` would have left of a short run on drawn films, to be changed at will."""
    read = {"_target_": "cxr.data.sources.phantom.read_phantom", "_partial_": True, **PHANTOM}
    intensity = {"_target_": "cxr.read.intensity.Intensity", "steps": copy.deepcopy(STEPS)}
    sizes = [[0.0625, 0.09375], [0.15625, 0.25], [0.40625, 0.65625]]
    model = {
        **node("faster_rcnn.faster_rcnn", _partial_=True, weights=None, image_head=True),
        "backbone": node("backbones.tiny", _partial_=True, weights=None, mean=[0.5], std=[0.25]),
        "pyramid": node("backbones.FeaturePyramid", _partial_=True, least_stride=8, channels=64, coarser=None),
        "anchors": node("anchors.Anchors", image_size=64, sizes=sizes, ratios=[0.25, 0.5, 1, 2, 4]),
        "proposals": node("faster_rcnn.Proposals", post_nms_top_n=100),
        "regions": node("faster_rcnn.Regions", pool="separable", width=8),
    }
    data = {
        "_target_": "cxr.data.film_data.FilmDataModule",
        "root": "phantoms",
        "read": read,
        "findings": FINDINGS,
        "intensity": intensity,
    }
    data |= {"augment": None, "size": 64, "cache": ".cache/films", "batch_size": 2, "workers": 0, "val_fraction": 0.25}
    config = {
        "name": "run",
        "seed": 0,
        "task": {"_target_": "cxr.detect.task.DetectionTask"},
        "model": model,
        "data": data,
    }
    card = {"config": config, "findings": copy.deepcopy(FINDINGS), "data": "0f", "versions": {"torch": "2"}}
    card |= {"kind": "radiograph", "operating_point": copy.deepcopy(point())}
    card["films"] = {split: torch.arange(count) for split, count in (("train", 6), ("val", 2), ("test", 2))}
    return {"state_dict": {name: value.clone() for name, value in network().state_dict().items()}, "cxr": card}


@pytest.fixture
def draw_phantoms() -> Callable[[Path], None]:
    """Draw into a folder the films that ``content`` was trained on."""
    return functools.partial(write_course_layout, **PHANTOM, workers=1)
