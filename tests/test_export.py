"""End to end: export.py on a checkpoint, and predict.py with what it leaves; a network that differs is refused."""

import copy
import csv
import json
import os
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

from cxr import config, exporting
from cxr.checkpoint import read_checkpoint
from cxr.config import ConfigError
from cxr.export.graph import Graph
from cxr.exported import digest_of
from cxr.restore import load_task

ROOT = Path(__file__).parents[1]
SIDE = 96


def save_checkpoint(path: Path, *overrides: str) -> Path:
    """Write a checkpoint of random weights, as train.py would write one of learnt weights."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("train", ["model=fasterrcnn_tiny", f"data.size={SIDE}", *overrides, "run_dir=outputs/x"])
    GlobalHydra.instance().clear()
    torch.manual_seed(0)
    task = hydra.utils.instantiate(cfg.task, _convert_="all")
    task.detector.roi_heads.box_predictor.cls_score.weight.data *= 8  # untrained, all scores would be an eighth
    if task.image_head is not None:
        task.image_head.box_weight.fill_(0.25)
        task.image_head.film_weight.fill_(0.5)
    findings = hydra.utils.instantiate(cfg.findings, _convert_="all").as_dict()
    card = {"config": config.plain(cfg), "findings": findings, "data": "", "versions": {"torch": "2"}}
    torch.save({"state_dict": task.state_dict(), "cxr": card}, path)
    return path


@pytest.fixture(scope="module")
def ckpt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("run") / "best.ckpt", "model.image_head=true")


def parts_of(ckpt: Path, to: str) -> exporting.Parts:
    checkpoint = read_checkpoint(ckpt)
    task = load_task(checkpoint)
    return exporting.Parts(to, checkpoint, digest_of(ckpt), task, Graph(task.detector, SIDE).eval())


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
    assert (card.detector, card.size, card.box_weight, card.film_weight) == ("fasterrcnn_tiny", SIDE, 0.25, 0.5)
    assert card.checkpoint == digest_of(ckpt)
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


def rows(table: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(table.read_text(encoding="utf-8-sig").splitlines()))


def assert_same_tables(one: Path, other: Path) -> None:
    """The tables of two runs name the same films, findings and boxes; rows of equal scores may have changed places."""
    for first, second in zip(rows(one / "films.csv"), rows(other / "films.csv"), strict=True):
        assert first["study"] == second["study"]
        assert float(first["abnormal"]) == pytest.approx(float(second["abnormal"]), abs=1e-4)
    left = rows(other / "detections.csv")
    sides = ("xmin", "ymin", "xmax", "ymax")
    found = rows(one / "detections.csv")
    assert len(found) == len(left) > 50

    def apart(row: dict[str, str], like: dict[str, str]) -> float:
        if (row["study"], row["finding"]) != (like["study"], like["finding"]):
            return np.inf
        boxes = max(abs(float(row[side]) - float(like[side])) for side in sides)
        return max(boxes / 0.3, abs(float(row["score"]) - float(like["score"])) / 1e-4)  # 0.1 px at the network's size

    for row in found:
        distances = [apart(row, like) for like in left]
        assert min(distances) <= 1
        left.pop(int(np.argmin(distances)))


@pytest.mark.slow
def test_predict_says_with_each_runtime_what_it_says_in_pytorch(ckpt: Path, tmp_path: Path) -> None:
    for package in ("onnxruntime", "openvino"):
        pytest.importorskip(package, reason="extra export")
    random = np.random.default_rng(0)
    (tmp_path / "films").mkdir()
    for n, shape in enumerate([(200, 200), (260, 200), (150, 190), (96, 96), (40, 60)]):
        picture = cv2.resize(random.integers(0, 255, (9, 9), np.uint8), shape, interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(tmp_path / "films" / f"{n}.png"), picture)
    shutil.copy(ckpt, tmp_path / "best.ckpt")
    call("predict.py", tmp_path, "ckpt=best.ckpt", "images=films", "hydra.run.dir=eager")
    for to in ("onnx", "openvino"):
        out = call("export.py", tmp_path, "ckpt=best.ckpt", f"to={to}", f"hydra.run.dir=as_{to}")
        assert "as the detector itself on 121 films" in out
        assert f"runtime={to} images=FOLDER" in out
        result = json.loads((tmp_path / f"as_{to}" / "result.json").read_text(encoding="utf-8"))
        assert result["status"] == "completed"
        assert result["compared"]["unlike"] == 0
        (tmp_path / "best.ckpt").rename(tmp_path / "away.ckpt")  # the folder is enough
        call("predict.py", tmp_path, f"ckpt=as_{to}", f"runtime={to}", "images=films", f"hydra.run.dir=with_{to}")
        (tmp_path / "away.ckpt").rename(tmp_path / "best.ckpt")
        assert_same_tables(tmp_path / "eager", tmp_path / f"with_{to}")
        algorithms = [
            json.loads((tmp_path / run / "result.json").read_text(encoding="utf-8"))["algorithm"]
            for run in ("eager", f"with_{to}")
        ]
        assert algorithms[0] == algorithms[1]  # the same checkpoint, whatever ran it


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "words", "told"),
    [
        ("export.py", ["ckpt=CKPT"], "to has no value yet"),
        ("export.py", ["ckpt=CKPT", "to=tensorrt"], "to is 'tensorrt', expected one of onnx, openvino, torch"),
        ("export.py", ["to=onnx", "ckpt=nowhere.ckpt"], "ckpt=nowhere.ckpt: there is no such file"),
        ("predict.py", ["ckpt=CKPT", "runtime=onnx", "images=films"], "type python export.py ckpt="),
        (
            "predict.py",
            ["ckpt=CKPT", "runtime=tensorrt", "images=films"],
            "runtime is 'tensorrt', expected one of eager",
        ),
        (
            "predict.py",
            ["ckpt=CKPT", "runtime=onnx", "images=films", "cam=gradcam", "dicom=true"],
            "cam=… needs the detector's own layers; leave runtime=onnx out",
        ),
    ],
)
def test_what_is_wrong_is_told(ckpt: Path, tmp_path: Path, script: str, words: list[str], told: str) -> None:
    if "dicom=true" in words:
        pytest.importorskip("highdicom", reason="the extra is not installed: pip install 'cxr[dicom]'")
    (tmp_path / "films").mkdir()
    cv2.imwrite(str(tmp_path / "films" / "1.png"), np.zeros((9, 9), np.uint8))
    out = call(script, tmp_path, *(word.replace("CKPT", str(ckpt)) for word in words), code=2)
    assert told in out
    assert "Traceback" not in out


def test_a_detector_that_cannot_be_exported_is_named_before_work_begins(
    ckpt: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task: Any = load_task(read_checkpoint(ckpt))

    class Mine(torch.nn.Module):
        pass

    task.detector = Mine()
    monkeypatch.setattr(exporting, "load_task", lambda checkpoint: task)
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("export", [f"ckpt={ckpt}", "to=onnx", "run_dir=outputs/x"])
    GlobalHydra.instance().clear()
    with pytest.raises(ConfigError, match="fasterrcnn_tiny cannot be exported: Mine has no graph; those that have are"):
        exporting.instantiate(cfg)
