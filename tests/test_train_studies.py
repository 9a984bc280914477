"""End to end: networks on volumes, on film and volume, and the one that takes bones off, on phantoms of seconds."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from scripts import call

SHORT = ["trainer=cpu", "trainer.max_epochs=1", "trainer.log_every_n_steps=1"]
VOLUME = ["model=cnn3d", "model.channels=[4,8]", "model.strides=[2]", "data.size=16"]
VOLUME += ["data.read.studies=12", "data.read.test_studies=6", "data.read.size=32", "data.batch_size=4"]
FUSION = ["model=fusion", "model.channels=[4,8]", "model.strides=[2]", "data.size=16", "data.film_size=64"]
FUSION += ["data.read.patients=12", "data.read.test_patients=6", "data.read.film_size=64", "data.read.series_size=24"]
SUPPRESS = [
    "model=unet",
    "model.widths=[8,16]",
    "data.size=64",
    "data.films=4",
    "data.val_films=2",
    "data.test_films=2",
]
SUPPRESS += ["data.batch_size=2"]

pytestmark = pytest.mark.slow


def pixels(picture: Path) -> NDArray[np.uint8]:
    with Image.open(picture) as image:
        return np.asarray(image.convert("RGB"))


def figures(run: Path) -> dict[str, float | None]:
    result = json.loads((run / "result.json").read_text(encoding="utf-8"))
    assert result["status"] == "completed"
    return dict(result["metrics"])


def test_a_classifier_of_series_is_trained_tested_and_explained(tmp_path: Path) -> None:
    out = call("train.py", tmp_path, *VOLUME, *SHORT, "hydra.run.dir=run")
    assert "mean AUC" in out
    tested = figures(tmp_path / "run")
    assert {"test/auc/consolidation", "test/auc/pleural_effusion/low", "val/auc", "train/loss_study"} <= tested.keys()
    checkpoint = tmp_path / "run" / "checkpoints" / "best.ckpt"
    card = torch.load(checkpoint, weights_only=True)["cxr"]
    assert set(card["thresholds"]) == {"consolidation", "pleural_effusion", "abnormal"}
    planes = pixels(tmp_path / "run" / "planes.png").reshape(6, -1)
    assert len(np.unique(planes, axis=0)) == 6  # six test studies one below the other, each another
    again = call("train.py", tmp_path, *VOLUME, *SHORT, "hydra.run.dir=run")
    assert "is complete" in " ".join(again.split())  # a long path breaks the line

    call("explain.py", tmp_path, f"ckpt={checkpoint}", "films=2", "hydra.run.dir=maps")
    assert (tmp_path / "maps" / "index.html").read_text(encoding="utf-8").count("<figure") == 4
    assert len(list((tmp_path / "maps" / "studies").glob("*/study.json"))) == 2
    refused = call("evaluate.py", tmp_path, f"ckpt={checkpoint}", code=2)
    assert "of a network for whole studies, not of a detector" in refused


def test_film_and_series_of_a_patient_are_joined(tmp_path: Path) -> None:
    call("train.py", tmp_path, *FUSION, *SHORT, "hydra.run.dir=run")
    logged = figures(tmp_path / "run").keys()
    assert {"train/loss_study", "test/auc/disease", "test/auc/disease/low"} <= logged


def test_bones_are_taken_off_in_front_of_a_detector(tmp_path: Path) -> None:
    call("train.py", tmp_path, *SUPPRESS, *SHORT, "hydra.run.dir=unet")
    assert {"val/psnr", "test/dice/heart"} <= figures(tmp_path / "unet").keys()
    picture = pixels(tmp_path / "unet" / "suppression.png")
    assert picture.shape == (480, 1200, 3)  # two films of five pictures, each of 240 px
    middles = {
        row[80:160, left + 80 : left + 160].tobytes() for row in (picture[:240], picture[240:]) for left in (0, 480)
    }
    assert len(middles) == 4  # a film and what was drawn without bones differ, and so do two films
    weights = f"intensity.steps.1.weights={tmp_path / 'unet' / 'checkpoints' / 'best.ckpt'}"
    few = ["data.read.films=8", "data.read.test_films=2", "data.read.size=96", "data.size=64"]
    call("train.py", tmp_path, "experiment=smoke", *few, "intensity=suppressed", weights, "hydra.run.dir=run")
    assert "test/map_50" in figures(tmp_path / "run")
