"""YOLOv8: held against ultralytics' own model, and against the contract of torchvision's detectors."""

import copy
import logging
import os
import subprocess
import sys
import warnings
from types import SimpleNamespace

import cv2
import pytest
import torch
from torch import nn
from torchvision.ops import FrozenBatchNorm2d, box_convert

from cxr.detect.yolo import yolov8
from cxr.learn.weights import WeightsError

pytest.importorskip("ultralytics", reason="extra yolo")


@pytest.fixture(scope="module")
def detector():
    torch.manual_seed(0)
    return yolov8(4, score_thresh=0.0)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Ultralytics' own model of 80 classes with numbers like trained ones, and its file: a pickled module in halves."""
    from ultralytics.nn.tasks import DetectionModel

    torch.manual_seed(0)
    theirs = DetectionModel("yolov8n.yaml", nc=80, verbose=False)
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    theirs.half()
    path = tmp_path_factory.mktemp("weights") / "yolov8n.pt"
    torch.save({"epoch": -1, "model": theirs, "ema": None, "train_args": {"lr0": 0.01}}, path)
    return theirs.float().eval(), path


def test_a_batch_of_normal_films_teaches_only_that_nothing_is_there(detector, film):
    images, targets = zip(*(film(i, boxes=[]) for i in range(2)), strict=True)
    losses = detector.train()(list(images), list(targets))
    assert losses["loss_box"] == losses["loss_dfl"] == 0
    assert losses["loss_cls"] > 0


def test_bfloat16_keeps_boxes_and_losses_in_float32(detector, batch):
    with torch.autocast("cpu", torch.bfloat16):
        assert all(loss.dtype == torch.float32 for loss in detector.train()(*batch).values())
        with torch.no_grad():
            assert detector.eval()(batch[0])[0]["boxes"].dtype == torch.float32


def test_a_file_of_ultralytics_gives_its_boxes_and_scores_on_a_film_of_one_channel(published):
    theirs, path = published
    detector = yolov8(81, weights=str(path)).eval()
    film = torch.rand(1, 1, 96, 64)
    with torch.no_grad():
        reference = theirs(film.expand(1, 3, -1, -1))[0]
        levels = list(detector.backbone(film).values())
        offsets, logits = detector.predictions(levels)
        boxes = detector.boxes_on_canvas(offsets, levels)
    expected = box_convert(reference[0, :4].T, "cxcywh", "xyxy")
    torch.testing.assert_close(boxes[0], expected, rtol=0, atol=1e-2)
    torch.testing.assert_close(logits[0].sigmoid(), reference[0, 4:].T, rtol=0, atol=1e-4)
    assert any(isinstance(module, FrozenBatchNorm2d) for module in detector.modules())


def test_losses_are_ultralytics_own_a_film(published):
    from ultralytics.utils.loss import v8DetectionLoss

    theirs, path = published
    detector = yolov8(81, weights=str(path))
    film, box = torch.rand(1, 64, 64), torch.tensor([[8.0, 16.0, 40.0, 48.0]])
    target = {"boxes": box, "labels": torch.tensor([5])}
    theirs.args = SimpleNamespace(box=7.5, cls=0.5, dfl=1.5)
    with torch.no_grad():
        _, predicted = theirs(film.expand(1, 3, -1, -1))
        batch = {
            "batch_idx": torch.zeros(1),
            "cls": torch.tensor([4.0]),
            "bboxes": torch.tensor([[24.0, 32.0, 32.0, 32.0]]) / 64,
        }
        expected, _ = v8DetectionLoss(theirs).loss(predicted, batch)
        losses = detector.train()([film], [target])
    torch.testing.assert_close(torch.stack(list(losses.values())), expected, rtol=1e-3, atol=1e-3)


def test_other_findings_start_only_the_last_convolutions_anew(published, caplog):
    caplog.set_level(logging.WARNING)
    theirs, path = published
    detector = yolov8(4, weights=str(path))
    (record,) = caplog.records
    assert "head.cv3.0.2.weight [80, 80, 1, 1] → [3, 80, 1, 1]" in record.message
    state, published_state = detector.state_dict(), theirs.state_dict()
    assert torch.equal(state["head.cv3.2.1.conv.weight"], published_state["model.22.cv3.2.1.conv.weight"])
    assert torch.equal(state["backbone.body.4.cv1.conv.weight"], published_state["model.4.cv1.conv.weight"])


def test_a_checkpoint_of_weights_builds_the_same_detector(published, tmp_path):
    detector = yolov8(4, weights=str(published[1]))
    path = tmp_path / "best.ckpt"
    torch.save({"state_dict": {f"detector.{k}": v for k, v in detector.state_dict().items()}}, path)
    again = yolov8(4, weights=str(path))
    torch.testing.assert_close(again.state_dict(), detector.state_dict(), rtol=0, atol=0)


def test_weights_of_another_size_are_an_error(published):
    with pytest.raises(WeightsError, match=r"yolov8n.pt: made for another network"):
        yolov8(81, size="s", weights=str(published[1]))


class RunsCode:
    """What a hostile file holds: a call that is made when the file is unpickled."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def test_a_file_that_would_run_code_runs_none(published, tmp_path):
    theirs, _ = published
    trap, path = tmp_path / "trap", tmp_path / "hostile.pt"
    torch.save({"model": theirs, "ema": None, "date": RunsCode(str(trap))}, path)
    yolov8(81, weights=str(path))
    assert not trap.exists()
    torch.save({"model": RunsCode(str(trap))}, path)
    with pytest.raises(WeightsError, match=r"hostile.pt: holds no module"):
        yolov8(81, weights=str(path))
    assert not trap.exists()


def test_a_file_of_ultralytics_that_is_not_finite_or_too_large_is_refused(published, tmp_path, monkeypatch):
    theirs, path = published
    bad = copy.deepcopy(theirs)
    next(bad.parameters()).data.view(-1)[0] = torch.nan
    torch.save({"model": bad, "ema": None}, tmp_path / "bad.pt")
    with pytest.raises(WeightsError, match=r"bad.pt: .* 1 of \d+ values of model\.0\.conv\.weight are not finite"):
        yolov8(81, weights=str(tmp_path / "bad.pt"))
    monkeypatch.setenv("CXR_MAX_CHECKPOINT_BYTES", "1000000")
    with pytest.raises(WeightsError, match=r"unpacks to .* bytes, allowed are 1,000,000"):
        yolov8(81, weights=str(path))


def test_a_torchscript_program_and_a_missing_file_are_errors(tmp_path):
    import zipfile

    path = tmp_path / "program.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("program/constants.pkl", b"")
    with pytest.raises(WeightsError, match=r"program.pt: not a .pt of ultralytics that can be read safely"):
        yolov8(4, weights=str(path))
    with pytest.raises(WeightsError, match=r"no such file; expected null, a .pt"):
        yolov8(4, weights=str(tmp_path / "none.pt"))


def test_building_leaves_its_surroundings_as_they_were(capfd):
    save, threads, environment = torch.save, cv2.getNumThreads(), dict(os.environ)
    filters, picture = warnings.filters[:], str(torch.tensor(1 / 3))
    torch.manual_seed(0)
    yolov8(4)
    assert (torch.save, cv2.getNumThreads(), dict(os.environ)) == (save, threads, environment)
    assert warnings.filters == filters
    assert str(torch.tensor(1 / 3)) == picture
    assert "".join(capfd.readouterr()) == ""


PROGRAM = """
import os, sys
from pathlib import Path
import cv2, torch
from cxr.detect import yolo
assert "ultralytics" not in sys.modules
before = torch.save, cv2.getNumThreads(), dict(os.environ), str(torch.tensor(1 / 3))
yolo.yolov8(4)
assert (torch.save, cv2.getNumThreads(), dict(os.environ), str(torch.tensor(1 / 3))) == before
from ultralytics.utils import ONLINE
assert not ONLINE
assert not any(Path.home().rglob("*"))
"""


def test_the_first_import_is_silent_offline_and_writes_no_settings(tmp_path):
    """In a process of its own: ultralytics does it all on its first import."""
    environment = {**os.environ, "HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
    environment |= {"PYTHONPATH": os.pathsep.join(sys.path), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path.parent)}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_without_ultralytics_the_error_says_what_to_type_and_the_licence(monkeypatch):
    monkeypatch.setitem(sys.modules, "ultralytics.nn.tasks", None)
    with pytest.raises(ImportError, match=r"pip install 'cxr\[yolo\]'.*AGPL-3.0.*source"):
        yolov8(4)


def test_an_unknown_size_is_refused():
    with pytest.raises(ValueError, match=r"model.size is 'xl', expected one of n, s, m, l, x"):
        yolov8(4, size="xl")


def test_it_finds_the_one_thing_it_was_shown(film):
    torch.manual_seed(0)
    detector = yolov8(4)
    image, target = film(0, (64, 64))
    optimizer = torch.optim.AdamW(detector.parameters(), 2e-3)
    for _ in range(30):
        optimizer.zero_grad()
        sum(detector.train()([image], [target]).values()).backward()
        optimizer.step()
    with torch.no_grad():
        (answer,) = detector.eval()([image])
    assert answer["labels"][0] == 1
    torch.testing.assert_close(answer["boxes"][0], target["boxes"][0], rtol=0, atol=3)
