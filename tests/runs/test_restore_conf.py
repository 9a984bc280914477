"""Every model, backbone, experiment, data set and intensity of conf/ can come back from a checkpoint."""

import copy
from pathlib import Path
from typing import Any, get_type_hints

import hydra
import pytest
import torch
from hydra import compose

from cxr.detect.task import DetectionTask
from cxr.runs.checkpoint import Checkpoint, read_checkpoint
from cxr.runs.restore import (
    load_data,
    load_study_data,
    restored_intensity,
)
from cxr.runs.restored_network import model_builder, of_studies
from cxr.suppress.unet import UNet
from cxr.volume.task import StudyTask
from scripts import ROOT

CONF = ROOT / "conf"
DETECTORS = sorted(p.stem for p in (CONF / "model").glob("*.yaml") if "/task@" not in p.read_text(encoding="utf-8"))

BACKBONES = sorted(p.stem for p in (CONF / "model" / "backbone").glob("*.yaml"))

COMPOSED = [f"model={name}" for name in DETECTORS] + [f"model/backbone={name}" for name in BACKBONES]


def network_of(checkpoint: Checkpoint, kind: type, within: str) -> Any:
    return model_builder(checkpoint, get_type_hints(kind.__init__)["model"], within)  # type: ignore[misc]


@pytest.mark.parametrize("choice", COMPOSED)
def test_every_detector_and_backbone_of_conf_can_come_back(written: Any, choice: str) -> None:
    named = ["model.backbone.name=mobilenetv3_small_050"] if choice.endswith("timm") else []
    checkpoint = written("seed", 3, choice, *named)
    kept = checkpoint.config["model"]
    builder = network_of(checkpoint, DetectionTask, "cxr.detect")
    assert builder.keywords["score_thresh"] == kept["score_thresh"]
    assert builder.keywords["weights"] == str(checkpoint.path)
    if "backbone" in kept:
        assert builder.keywords["backbone"].keywords["mean"] == kept["backbone"]["mean"]
        assert builder.keywords["backbone"].keywords["weights"] is None  # those of the whole count


# cxr.suppress.step reads a checkpoint of the first, and a backbone the file of the second
EXPERIMENTS = sorted({p.stem for p in (CONF / "experiment").glob("*.yaml")} - {"suppress", "pretrain"})


@pytest.mark.parametrize("choice", [*(f"model={m}" for m in DETECTORS), *(f"experiment={e}" for e in EXPERIMENTS)])
def test_the_settings_of_every_model_and_experiment_are_within_the_limits(
    tmp_path: Path, card: Any, choice: str
) -> None:
    cfg = compose("train", [choice, f"++data.root={tmp_path}", "run_dir=outputs/x"])
    torch.save({"state_dict": {}, "cxr": card(cfg)}, tmp_path / "any.ckpt")
    checkpoint = read_checkpoint(tmp_path / "any.ckpt")
    load: Any = load_study_data if of_studies(checkpoint) else load_data
    assert load(checkpoint).batch_size == cfg.data.batch_size
    kind, within = (StudyTask, "cxr.volume") if of_studies(checkpoint) else (DetectionTask, "cxr.detect")
    assert network_of(checkpoint, kind, within)


FILMS = "/inherited/films"

DATA_SETS = sorted(p.stem for p in (CONF / "data").glob("*.yaml") if FILMS in p.read_text(encoding="utf-8"))


@pytest.mark.parametrize("choice", DATA_SETS)
def test_every_data_set_of_conf_can_come_back(tmp_path: Path, card: Any, choice: str) -> None:
    cfg = compose("train", [f"data={choice}", f"data.root={tmp_path}", "run_dir=outputs/x"])
    torch.save({"state_dict": {}, "cxr": card(cfg)}, tmp_path / "any.ckpt")
    data = load_data(read_checkpoint(tmp_path / "any.ckpt"))
    assert (data.root, data.size, data.val_fraction) == (tmp_path, cfg.data.size, 0.15)


@pytest.mark.parametrize("choice", sorted(p.stem for p in (CONF / "intensity").glob("*.yaml")))
def test_every_intensity_of_conf_comes_back(written: Any, composed: Any, tmp_path: Path, choice: str) -> None:
    chosen = [f"intensity={choice}"]
    if choice == "suppressed":
        chosen.append(f"intensity.steps.1.weights={suppressor(tmp_path / 'unet.ckpt')}")
    trained = hydra.utils.instantiate(composed(*chosen).intensity, _convert_="all")
    checkpoint = written("seed", 3, *chosen)
    before = copy.deepcopy(checkpoint.config)
    assert restored_intensity(checkpoint).fingerprint() == trained.fingerprint()
    assert checkpoint.config == before


def suppressor(path: Path) -> Path:
    """Write the checkpoint of a network that takes nothing off."""
    state = {f"network.{name}": value for name, value in UNet((8, 8)).state_dict().items()}
    config = {"model": {"_target_": "cxr.suppress.unet.UNet", "widths": [8, 8]}, "data": {"size": 16}}
    torch.save({"state_dict": state, "cxr": {"config": config}}, path)
    return path
