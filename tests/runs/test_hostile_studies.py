"""Checkpoints of studies made to harm: each is one message, and nothing is written or drawn."""

import functools
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from cxr.config.errors import ConfigError
from cxr.findings import FindingVocabulary
from cxr.phantom.drawn_set import PhantomError
from cxr.phantom.thorax import FINDINGS as DRAWN_SERIES
from cxr.runs.checkpoint import read_checkpoint
from cxr.runs.restore import load_study_data, load_study_task

FINDINGS = {"findings": [{"name": "nodule"}, {"name": "effusion"}], "normal": ["none"]}


def study(**changes: Any) -> dict[str, Any]:
    """Return the content of a small classifier of drawn series, with other values at dotted keys of its config."""
    from cxr.volume.networks import cnn3d
    from cxr.volume.task import StudyTask

    findings = FindingVocabulary(**FINDINGS)
    task = StudyTask(findings, functools.partial(cnn3d, channels=[4, 4], strides=[2]), lambda parameters: None)  # type: ignore[arg-type]
    read = {
        "_target_": "cxr.data.sources.phantom_volume.read_phantom_volume",
        "_partial_": True,
        "studies": 2,
        "test_studies": 1,
    }
    steps = [{"_target_": "cxr.read.intensity.CtWindow", "center": -300.0, "width": 1400.0}]
    data = {"_target_": "cxr.data.series_data.SeriesDataModule", "root": "series", "read": read, "size": 16}
    data |= {"intensity": {"_target_": "cxr.read.intensity.Intensity", "steps": steps}, "findings": FINDINGS}
    model = {"_target_": "cxr.volume.networks.cnn3d", "_partial_": True, "channels": [4, 4], "strides": [2]}
    config: dict[str, Any] = {"name": "run", "seed": 0, "task": {"_target_": "cxr.volume.task.StudyTask"}}
    config |= {"model": model, "data": data}
    for key, value in changes.items():
        group, name = key.split("__")
        config[group][name] = value
    return {
        "state_dict": dict(task.state_dict()),
        "cxr": {"config": config, "findings": FINDINGS, "data": "", "versions": {}},
    }


def use_studies(path: Path) -> None:
    checkpoint = read_checkpoint(path)
    load_study_task(checkpoint)
    load_study_data(checkpoint).read(Path("series"), FindingVocabulary([{"name": name} for name in DRAWN_SERIES]))


STUDIES: dict[str, tuple[dict[str, Any], str]] = {
    "series that are not there": ({}, r"series: the phantoms .* are not there"),
    "cubes of 10⁵ voxels": ({"data__size": 10**5}, r"data\.size is 100000, expected 16 to 512"),
    "voxels of NaN": ({"data__voxel_mm": math.nan}, r"data\.voxel_mm is nan, expected float"),
    "a million channels": ({"model__channels": [10**6, 10**6]}, "channels is .* expected 1 to 512"),
    "100 layers": ({"model__channels": [4] * 100}, "channels holds 100 values, expected at most 8"),
}


@pytest.mark.parametrize(("changes", "message"), STUDIES.values(), ids=STUDIES)
def test_a_hostile_checkpoint_of_studies_is_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(study(**changes), "hostile.ckpt")
    with pytest.raises((ConfigError, PhantomError), match=message):
        use_studies(tmp_path / "hostile.ckpt")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / "hostile.ckpt"]


def test_thresholds_of_studies_are_shares(tmp_path: Path) -> None:
    whole = study()
    whole["state_dict"]["thresholds"] = torch.tensor([0.5, 2.0, 0.5])
    torch.save(whole, tmp_path / "hostile.ckpt")
    with pytest.raises(ConfigError, match=r"the thresholds of its findings is \[0\.5, 2\.0, 0\.5\], expected 0 to 1"):
        load_study_task(read_checkpoint(tmp_path / "hostile.ckpt"))
