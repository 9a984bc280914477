"""Which functions a checkpoint may name: this project's for their own place, and a user's where the user says so."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import hydra
import pytest
import torch
from hydra import compose

from cxr.config.entry import resolved
from cxr.config.errors import ConfigError
from cxr.runs.checkpoint import Checkpoint, read_checkpoint
from cxr.runs.restore import load_data, load_task, restored_intensity
from scripts import call

SMALL = ("model=fasterrcnn_tiny", "data.size=64", "model.regions.width=16")
CODE = """
from os import system
from shutil import rmtree
from pathlib import Path
from collections.abc import Callable
from cxr.detect.anchors import Anchors
from cxr.detect.backbones import Backbone, FeaturePyramid, tiny
from cxr.detect.faster_rcnn import FasterRCNN, Proposals, Regions, faster_rcnn
from cxr.read.intensity import LogWindow

def detector(
    num_classes: int,
    *,
    backbone: Callable[..., Backbone],
    pyramid: Callable[..., FeaturePyramid],
    anchors: Anchors,
    proposals: Proposals,
    regions: Regions,
    **settings,
) -> FasterRCNN:
    parts = {"backbone": backbone, "pyramid": pyramid, "anchors": anchors, "proposals": proposals, "regions": regions}
    return faster_rcnn(num_classes, **parts, **settings)

def untyped(num_classes, **settings):
    return faster_rcnn(num_classes, **settings)

def backbone(state=None, least_stride=8, *, weights=None, mean=(0.5,), std=(0.25,), channels=(8, 8, 8, 8, 8)):
    return tiny(state, least_stride, weights=weights, mean=mean, std=std, channels=channels)

class Step(LogWindow):
    pass

def read(root, findings, films=0):
    return []
"""


pytestmark = pytest.mark.usefixtures("configs")


@pytest.fixture(autouse=True)
def hospital(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package of the user's own, ``my_hospital``."""
    (tmp_path / "my_hospital").mkdir()
    (tmp_path / "my_hospital" / "__init__.py").touch()
    (tmp_path / "my_hospital" / "parts.py").write_text(CODE, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_hospital"]:
        del sys.modules[name]


@pytest.fixture
def trained(tmp_path: Path) -> Callable[..., Any]:
    """Return a task as train.py builds it, and its checkpoint, which trusts nobody."""

    def train(*overrides: str, **changed: Any) -> tuple[Any, Checkpoint]:
        cfg = compose("train", [*SMALL, *overrides, f"data.root={tmp_path}", "run_dir=outputs/x"])
        torch.manual_seed(0)
        task = hydra.utils.instantiate(cfg.task, _convert_="all").eval()
        config = resolved(cfg)
        for key, value in changed.items():  # behind the user's back
            *parents, last = key.split("__")
            node: Any = config
            for name in parents:
                node = node[int(name) if name.isdecimal() else name]
            node[int(last) if last.isdecimal() else last] = value
        findings = hydra.utils.instantiate(cfg.findings, _convert_="all").as_dict()
        card = {"config": config, "findings": findings, "data": "", "versions": {}}
        torch.save({"state_dict": task.state_dict(), "cxr": card}, tmp_path / "best.ckpt")
        return task, read_checkpoint(tmp_path / "best.ckpt")

    return train


def trusting(checkpoint: Checkpoint, *modules: str) -> Checkpoint:
    return replace(checkpoint, trust=modules)


def detected(task: Any) -> Any:
    film = torch.rand(1, 64, 48, generator=torch.Generator().manual_seed(0))
    return task.detect([film], [{"scale": torch.ones(2), "size": torch.tensor([64, 48])}])


@pytest.mark.parametrize(
    "overrides",
    [
        ("model._target_=my_hospital.parts.detector",),
        ("model.backbone._target_=my_hospital.parts.backbone",),
        ("model._target_=my_hospital.parts.detector", "model.backbone._target_=my_hospital.parts.backbone"),
    ],
)
def test_a_detector_with_parts_of_the_users_own_comes_back_where_they_are_trusted(
    trained: Any, overrides: tuple[str, ...]
) -> None:
    task, checkpoint = trained(*overrides)
    key = overrides[0].partition("=")[0]
    with pytest.raises(ConfigError, match=rf"{key} is 'my_hospital\..*type trust=\[my_hospital\.parts\]") as refused:
        load_task(checkpoint)
    assert "best.ckpt" in str(refused.value)
    expected = detected(task)
    assert len(expected[0]["boxes"]) > 0
    for trust in ("my_hospital.parts", "my_hospital"):
        torch.testing.assert_close(detected(load_task(trusting(checkpoint, trust))), expected, rtol=0, atol=0)
    for other in ("my_hospital.part", "my_hosp", "hospital.parts"):  # beginnings of a name are other packages
        with pytest.raises(ConfigError, match=r"type trust="):
            load_task(trusting(checkpoint, other))


def test_one_module_is_trusted_without_a_list(trained: Any, tmp_path: Path) -> None:
    trained(model___target_="my_hospital.parts.detector")
    checkpoint = read_checkpoint(tmp_path / "best.ckpt", "my_hospital")  # as trust=my_hospital gives it
    assert checkpoint.trust == ("my_hospital",)
    load_task(checkpoint)


def test_an_untrusted_package_is_not_even_imported(trained: Any) -> None:
    _, checkpoint = trained(model___target_="my_hospital.parts.detector")
    with pytest.raises(ConfigError, match=r"type trust=\[my_hospital\.parts\]"):
        load_task(checkpoint)
    assert "my_hospital" not in sys.modules


@pytest.mark.parametrize("name", ["system", "rmtree", "Path", "os.system", "tiny", "_anything", "__builtins__"])
def test_what_a_trusted_module_has_from_elsewhere_is_refused(trained: Any, name: str) -> None:
    _, checkpoint = trained(model___target_=f"my_hospital.parts.{name}")
    with pytest.raises(ConfigError, match=r"model\._target_ is 'my_hospital\.parts\..*, which a checkpoint may not"):
        load_task(trusting(checkpoint, "my_hospital"))


def test_parts_in_settings_without_an_annotation_are_refused_with_what_to_do(trained: Any) -> None:
    _, checkpoint = trained(model___target_="my_hospital.parts.untyped")
    with pytest.raises(ConfigError, match=r"which a checkpoint may not call there; annotate the parameter"):
        load_task(trusting(checkpoint, "my_hospital"))


def test_a_step_and_a_reader_of_the_users_own_come_back_where_they_are_trusted(trained: Any, tmp_path: Path) -> None:
    step = {"_target_": "my_hospital.parts.Step", "scale": 2.5}
    _, checkpoint = trained(data__intensity__steps__0=step)
    with pytest.raises(ConfigError, match=r"steps\.0\._target_ is .*type trust=\[my_hospital\.parts\]"):
        restored_intensity(checkpoint)
    restored: Any = restored_intensity(trusting(checkpoint, "my_hospital"))
    assert (type(restored.steps[0]).__module__, restored.steps[0].scale) == ("my_hospital.parts", 2.5)
    _, checkpoint = trained(data__read={"_target_": "my_hospital.parts.read", "_partial_": True, "films": 3})
    with pytest.raises(ConfigError, match=r"data\.read\._target_ is .*type trust=\[my_hospital\.parts\]"):
        load_data(checkpoint)
    reader: Any = load_data(trusting(checkpoint, "my_hospital")).read
    assert (reader.func.__name__, reader.keywords) == ("read", {"films": 3})


READER = {"_target_": "cxr.data.sources.phantom.read_phantom", "_partial_": True}
STEP = {"_target_": "cxr.read.intensity.LogWindow", "scale": 2.5}


@pytest.mark.parametrize(
    ("key", "node"),
    [
        ("model__backbone", READER),
        ("model__backbone", STEP),
        ("model__backbone", {"_target_": "cxr.detect.backbones.FeaturePyramid", "_partial_": True}),
        ("model__pyramid", {"_target_": "cxr.detect.backbones.tiny", "_partial_": True}),
        ("model__anchors", {"_target_": "cxr.detect.faster_rcnn.Regions"}),
        ("model__regions__width", {"_target_": "cxr.detect.faster_rcnn.Regions"}),
        ("model___target_", "cxr.detect.detector.finish"),
        ("model___target_", "cxr.detect.backbones.resnet50"),
        ("data__read", {"_target_": "cxr.detect.backbones.tiny", "_partial_": True}),
        ("data__intensity", STEP),
        ("data__intensity__steps__0", READER),
        ("data__intensity__steps__0", {"_target_": "cxr.read.intensity.Intensity", "steps": [STEP]}),
    ],
)
def test_a_function_of_this_project_is_called_in_its_own_place_only(trained: Any, key: str, node: Any) -> None:
    _, checkpoint = trained(**{key: node})
    with pytest.raises(ConfigError, match=r"_target_ is 'cxr\..*which a checkpoint may not call there"):
        (load_task if key.startswith("model") else load_data)(checkpoint)


MOBILENET = """
# A detector of torchvision, whole.
_target_: cxr.detect.foreign.torchvision_detector
_partial_: true
builder:
  _target_: torchvision.models.detection.fasterrcnn_mobilenet_v3_large_320_fpn
  _partial_: true
  weights_backbone: null
"""


@pytest.mark.slow
def test_a_detector_of_torchvision_trains_and_comes_back_by_one_yaml(tmp_path: Path) -> None:
    (tmp_path / "my_conf" / "model").mkdir(parents=True)
    (tmp_path / "my_conf" / "model" / "mobilenet.yaml").write_text(MOBILENET)
    words = ("--config-dir", "my_conf", "experiment=smoke", "model=mobilenet", "hydra.run.dir=run", "data.size=64")
    call("train.py", tmp_path, *words, "data.read.films=8", "data.read.test_films=2", "data.read.size=96")
    ckpt = "ckpt=run/checkpoints/best.ckpt"
    output = call("evaluate.py", tmp_path, ckpt, "samples=10", code=2)
    assert "type trust=[torchvision.models.detection]" in output
    call("evaluate.py", tmp_path, ckpt, "samples=10", "trust=[torchvision.models.detection]", "run_dir=evaluated")
    checkpoint = read_checkpoint(tmp_path / "run" / "checkpoints" / "best.ckpt", ["torchvision.models.detection"])
    task = load_task(checkpoint)
    assert type(task.detector).__name__ == "Foreign"
    assert {"boxes", "labels", "scores", "finding_scores", "abnormal"} == set(detected(task)[0])
