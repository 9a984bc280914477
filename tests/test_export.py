"""End to end: export.py on a checkpoint, and predict.py with what it leaves; a network that differs is refused."""

import copy
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import hydra
import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

from cxr.config.entry import resolved
from cxr.config.errors import ConfigError
from cxr.data.inputs import Decode, read_inputs
from cxr.detect.prediction import NotAssessed, Prediction
from cxr.detect.stream import predict_films
from cxr.export.graph import Graph
from cxr.files import short_digest_of
from cxr.runs import export as exporting
from cxr.runs import predict as predicting
from cxr.runs.checkpoint import read_checkpoint
from cxr.runs.predict_exported import restored
from cxr.runs.restore import intensity_of_films, load_task
from scripts import ROOT, table

SIDE = 96


def composed(script: str, *words: str) -> DictConfig:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose(script, [*words, "run_dir=outputs/x"])
    GlobalHydra.instance().clear()
    return cfg


def save_checkpoint(path: Path, *overrides: str) -> Path:
    """Write a checkpoint of random weights, as train.py would write one of learnt weights."""
    cfg = composed("train", "model=fasterrcnn_tiny", f"data.size={SIDE}", *overrides)
    torch.manual_seed(0)
    task = hydra.utils.instantiate(cfg.task, _convert_="all")
    task.detector.roi_heads.box_predictor.cls_score.weight.data *= 8  # untrained, all scores would be an eighth
    if task.image_head is not None:
        task.image_head.box_weight.fill_(0.25)
        task.image_head.film_weight.fill_(0.5)
    findings = hydra.utils.instantiate(cfg.findings, _convert_="all").as_dict()
    card = {"config": resolved(cfg), "findings": findings, "data": "", "versions": {"torch": "2"}}
    torch.save({"state_dict": task.state_dict(), "cxr": card}, path)
    return path


MODEL_CARD = "0123456789abcdef"


@pytest.fixture(scope="module")
def ckpt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("run") / "best.ckpt", "model.image_head=true")


def parts_of(ckpt: Path, to: str) -> exporting.Parts:
    checkpoint = read_checkpoint(ckpt)
    task = load_task(checkpoint)
    return exporting.Parts(to, checkpoint, short_digest_of(ckpt), task, Graph(task.detector, SIDE).eval(), MODEL_CARD)


def test_a_network_that_says_something_else_is_refused_with_the_difference_and_removed(
    ckpt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime", reason="extra export")
    monkeypatch.setattr(exporting, "FILMS", 4)
    parts = parts_of(ckpt, "onnx")
    other = copy.deepcopy(parts.task.detector)
    other.roi_heads.box_predictor.bbox_pred.bias.data += 0.5  # boxes move by a twentieth of their sides
    parts.graph = Graph(other, SIDE).eval()
    with pytest.raises(ConfigError) as error:
        exporting.export(parts, tmp_path)
    assert "does not say what the detector says" in str(error.value)
    assert "boxes within" in str(error.value)
    assert "Allowed are 0.1 px and 0.0001" in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_the_card_holds_all_that_predict_needs_and_how_far_it_was(
    ckpt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime", reason="extra export")
    monkeypatch.setattr(exporting, "FILMS", 4)
    card = exporting.export(parts_of(ckpt, "onnx"), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["export.json", "model.onnx"]
    assert (card.detector, card.size, card.box_weight, card.film_weight) == ("faster_rcnn (tiny)", SIDE, 0.25, 0.5)
    assert card.checkpoint == short_digest_of(ckpt)
    assert card.model_card == MODEL_CARD
    assert card.outputs == ("boxes", "labels", "scores", "image_scores")
    assert card.intensity["_target_"] == "cxr.read.intensity.Intensity"
    assert card.compared["films"] == 5
    assert card.compared["sides"] == [96, 64]
    assert card.compared["box_px"] < 0.1
    assert str(ckpt.parent) not in (tmp_path / "export.json").read_text(encoding="utf-8")


def call(script: str, place: Path, *words: str, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, str(ROOT / script), *words],
        cwd=place, env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stdout
    return done.stdout


def assert_same_tables(one: Path, other: Path) -> None:
    """The tables of two runs name the same films, findings and boxes; rows of equal scores may have changed places."""
    for first, second in zip(table(one / "films.csv"), table(other / "films.csv"), strict=True):
        assert [first[name] for name in ("study", "assessed", "reason")] == [
            second[name] for name in ("study", "assessed", "reason")
        ]
        if first["assessed"] == "yes":
            assert float(first["abnormal"]) == pytest.approx(float(second["abnormal"]), abs=1e-4)
    left = table(other / "detections.csv")
    sides = ("xmin", "ymin", "xmax", "ymax")
    right = table(one / "detections.csv")
    assert len(right) == len(left) > 50

    def apart(row: dict[str, str], like: dict[str, str]) -> float:
        if (row["study"], row["finding"]) != (like["study"], like["finding"]):
            return np.inf
        boxes = max(abs(float(row[side]) - float(like[side])) for side in sides)
        return max(boxes / 0.3, abs(float(row["score"]) - float(like["score"])) / 1e-4)  # 0.1 px at the network's size

    for row in right:
        distances = [apart(row, like) for like in left]
        assert min(distances) <= 1
        left.pop(int(np.argmin(distances)))


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of pictures of several shapes: one is as large as the detector's films, one smaller, one too small."""
    folder, random = tmp_path_factory.mktemp("films"), np.random.default_rng(0)
    for n, shape in enumerate([(200, 200), (260, 200), (150, 190), (96, 96), (40, 60), (9, 9)]):
        picture = cv2.resize(random.integers(0, 255, (9, 9), np.uint8), shape, interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(folder / f"{n}.png"), picture)
    return folder


@pytest.mark.slow
def test_predict_says_with_a_runtime_what_it_says_in_pytorch(ckpt: Path, films: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="extra export")
    shutil.copy(ckpt, tmp_path / "best.ckpt")
    call("predict.py", tmp_path, "ckpt=best.ckpt", f"images={films}", "hydra.run.dir=eager")
    out = call("export.py", tmp_path, "ckpt=best.ckpt", "to=openvino", "hydra.run.dir=exported")
    assert "as the detector itself on 121 films" in out
    assert "runtime=openvino images=FOLDER" in out
    result = json.loads((tmp_path / "exported/result.json").read_text(encoding="utf-8"))
    assert result["status"] == "completed"
    assert result["compared"]["unlike"] == 0
    (tmp_path / "best.ckpt").unlink()  # the folder is enough
    words = ("ckpt=exported", "runtime=openvino", f"images={films}", "hydra.run.dir=faster")
    call("predict.py", tmp_path, *words)
    assert_same_tables(tmp_path / "eager", tmp_path / "faster")
    algorithms = [
        json.loads((tmp_path / run / "result.json").read_text(encoding="utf-8"))["algorithm"]
        for run in ("eager", "faster")
    ]
    assert algorithms[0] == algorithms[1]  # the same checkpoint, whatever ran it


def test_what_is_exported_streams_as_the_detector_does(
    ckpt: Path, films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime", reason="extra export")
    monkeypatch.setattr(exporting, "FILMS", 4)
    exporting.export(parts_of(ckpt, "onnx"), tmp_path)
    outcomes = []
    for place, runtime in ((ckpt, "eager"), (tmp_path, "onnx")):
        found = restored(str(place), runtime, batch=2)
        checkpoint, task = found.checkpoint, found.task
        decode = Decode(intensity_of_films(checkpoint), checkpoint.size, checkpoint.kind)
        stream = predict_films(task, read_inputs(films), decode, batch=2, workers=1)
        outcomes.append({film.path.name: outcome for film, outcome in stream})
    for name, one in outcomes[0].items():
        other = outcomes[1][name]
        if isinstance(one, NotAssessed):  # too few pixels
            assert isinstance(other, NotAssessed)
            continue
        assert isinstance(one, Prediction)
        assert isinstance(other, Prediction)
        assert other.finding_scores == pytest.approx(one.finding_scores, abs=1e-4)
        assert other.abnormal == pytest.approx(one.abnormal, abs=1e-4)
        assert len(other.boxes) == len(one.boxes) > 10
        assert other.scores == pytest.approx(one.scores, abs=1e-4)
    assert sum(isinstance(outcome, Prediction) for outcome in outcomes[0].values()) == 5


@pytest.mark.parametrize(
    ("script", "words", "message"),
    [
        (exporting, ["to=tensorrt"], "to is 'tensorrt', expected one of onnx, openvino, torch"),
        (predicting, ["images=films", "runtime=tensorrt"], "runtime is 'tensorrt', expected one of eager"),
        (
            predicting,
            ["images=films", "runtime=onnx", "cam=gradcam", "dicom=true"],
            "cam=… needs the detector's own layers; leave runtime=onnx out",
        ),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_read(script: Any, words: list[str], message: str) -> None:
    if "dicom=true" in words:
        pytest.importorskip("highdicom", reason="the extra is not installed: pip install 'cxr[dicom]'")
    cfg = composed(script.__name__.removeprefix("cxr.runs."), "ckpt=nowhere.ckpt", *words)
    with pytest.raises(ConfigError) as error, script.opened(cfg):
        pass
    assert message in str(error.value)


def test_a_missing_package_is_told_with_what_to_type(
    ckpt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    cfg = composed("export", f"ckpt={ckpt}", "to=openvino")
    message = "needs onnx and openvino: pip install 'cxr[export]'"
    with pytest.raises(ConfigError, match=re.escape(f"to=openvino {message}")), exporting.opened(cfg):
        pass
    with pytest.raises(ConfigError, match=re.escape("runtime=onnx needs onnxruntime: pip install 'cxr[export]'")):
        restored(str(tmp_path), "onnx", batch=8)


@pytest.mark.parametrize(("model", "task"), [("r3d", "cxr.volume.task.StudyTask"), ("unet", "cxr.suppress.task.Task")])
def test_a_network_that_is_no_detector_of_films_is_named(ckpt: Path, tmp_path: Path, model: str, task: str) -> None:
    content = torch.load(ckpt, weights_only=True)
    content["cxr"]["config"]["model"] = {"_target_": f"cxr.networks.{model}"}
    content["cxr"]["config"]["task"]["_target_"] = task
    torch.save(content, tmp_path / "other.ckpt")
    with pytest.raises(ConfigError, match=rf"other\.ckpt: {model} .*cannot be exported: it is no detector of films"):
        exporting.instantiate(composed("export", f"ckpt={tmp_path / 'other.ckpt'}", "to=onnx"))


def test_a_detector_that_cannot_be_exported_is_named_before_work_begins(
    ckpt: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task: Any = load_task(read_checkpoint(ckpt))

    class Mine(torch.nn.Module):
        pass

    task.detector = Mine()
    monkeypatch.setattr(exporting, "load_task", lambda checkpoint: task)
    with pytest.raises(
        ConfigError, match=r"faster_rcnn \(tiny\) cannot be exported: Mine has no graph; those that have are"
    ):
        exporting.instantiate(composed("export", f"ckpt={ckpt}", "to=onnx"))
