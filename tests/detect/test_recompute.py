from functools import partial

import lightning as L  # noqa: N812
import pytest
import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.data import DataLoader
from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_fpn, ssdlite320_mobilenet_v3_large
from torchvision.ops import FrozenBatchNorm2d

from cxr.config.models import build, builder
from cxr.detect.task import DetectionTask
from cxr.explain.reading import FilmReading

BUILDERS = [
    "fasterrcnn",
    "fasterrcnn_v2",
    "fasterrcnn_mobilenet",
    "fasterrcnn_tiny",
    "retinanet",
    "fcos",
    "ssdlite",
]
TORCHVISIONS = {"fasterrcnn_mobilenet": fasterrcnn_mobilenet_v3_large_fpn, "ssdlite": ssdlite320_mobilenet_v3_large}


def pair(name, **settings):
    """Return two detectors of the same weights: one that keeps everything, one that recomputes."""
    kept, recomputed = build(name, 4, **settings), build(name, 4, checkpoint_backbone=True, **settings)
    recomputed.load_state_dict(kept.state_dict())
    return kept, recomputed


def trained(detector, films):
    """Return the losses and the gradients of one step."""
    torch.manual_seed(1)  # of the anchors and regions the losses are computed on
    losses = detector.train()([image for image, _ in films], [target for _, target in films])
    torch.stack(list(losses.values())).sum().backward()
    return losses, {name: parameter.grad for name, parameter in detector.named_parameters()}


def assert_equal_steps(kept, recomputed, films):
    (losses, gradients), (other_losses, other_gradients) = trained(kept, films), trained(recomputed, films)
    torch.testing.assert_close(other_losses, losses, rtol=1e-6, atol=1e-6)
    assert {n for n, g in other_gradients.items() if g is None} == {n for n, g in gradients.items() if g is None}
    for name, gradient in gradients.items():
        if gradient is not None:
            torch.testing.assert_close(other_gradients[name], gradient, rtol=1e-6, atol=1e-6, msg=name)


@pytest.fixture
def films(film):
    return [film(0, (64, 64)), film(1, (48, 64), [])]


@pytest.mark.parametrize("name", BUILDERS)
def test_weights_have_the_same_names_and_a_step_the_same_losses_and_gradients(name, films):
    torch.manual_seed(0)
    few = {"regions__batch_size": 32} if name.startswith("fasterrcnn") else {}  # what follows the backbone costs most
    kept, recomputed = pair(name, **few)
    assert list(kept.state_dict()) == list(recomputed.state_dict())
    assert_equal_steps(kept, recomputed, films)
    assert all(parameter.grad is not None for parameter in recomputed.backbone.parameters())
    # What gradient checkpointing stands on here: no layer's second run differs, or leaves a trace in its statistics
    changing = (nn.modules.batchnorm._NormBase, nn.modules.dropout._DropoutNd)
    assert not any(isinstance(module, changing) for module in recomputed.backbone.modules())
    assert not issubclass(FrozenBatchNorm2d, changing)  # it holds constants


@pytest.mark.parametrize("name", TORCHVISIONS)
def test_a_backbone_half_frozen_learns_the_same_and_its_statistics_stand_still(name, films, tmp_path):
    torch.manual_seed(0)
    state = TORCHVISIONS[name](weights=None, weights_backbone=None, num_classes=4).state_dict()
    for key in [key for key in state if key.endswith("running_var")]:
        state[key] = torch.rand_like(state[key]) + 0.1
    torch.save(state, tmp_path / "coco.pth")
    learning = "trainable_layers" if name == "ssdlite" else "backbone__trainable_layers"
    kept, recomputed = pair(name, weights=str(tmp_path / "coco.pth"), **{learning: 2})
    before = {key: value.clone() for key, value in recomputed.state_dict().items() if "running" in key}
    assert_equal_steps(kept, recomputed, films)
    assert before
    assert all(torch.equal(recomputed.state_dict()[key], value) for key, value in before.items())
    learns = [parameter.requires_grad for parameter in recomputed.backbone.parameters()]
    assert any(learns)
    assert not all(learns)


def bytes_kept(backbone, batch):
    """Return how many bytes autograd holds for the backward pass after a forward one, each storage once."""
    storages = {}

    def pack(tensor):
        storages[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    weights = {parameter.untyped_storage().data_ptr() for parameter in backbone.parameters()}
    with saved_tensors_hooks(pack, lambda tensor: tensor):
        backbone(batch)
    return sum(t.untyped_storage().nbytes() for pointer, t in storages.items() if pointer not in weights)


@pytest.mark.parametrize("name", ["fasterrcnn", "fasterrcnn_mobilenet", "retinanet", "ssdlite"])
def test_less_than_half_is_kept_for_the_backward_pass(name):
    kept, recomputed = (detector.train() for detector in pair(name))
    batch = torch.rand(1, 3, 128, 128)
    assert bytes_kept(recomputed.backbone, batch) < 0.5 * bytes_kept(kept.backbone, batch)


def runs_of_the_first_layer(detector, batch):
    runs = []
    layer = next(module for module in detector.backbone.modules() if isinstance(module, nn.Conv2d))
    hook = layer.register_forward_hook(lambda *_: runs.append(1))
    maps = detector.backbone(batch)
    if torch.is_grad_enabled():
        sum(level.sum() for level in maps.values()).backward()
    hook.remove()
    return len(runs)


@pytest.mark.parametrize("name", ["fasterrcnn", "fasterrcnn_tiny", "ssdlite"])
def test_only_training_runs_a_layer_twice(name):
    _, detector = pair(name)
    batch = torch.rand(1, 1 if name == "fasterrcnn_tiny" else 3, 64, 64, requires_grad=True)
    assert runs_of_the_first_layer(detector.train(), batch) == 2
    assert runs_of_the_first_layer(detector.eval(), batch) == 1
    with torch.no_grad():
        assert runs_of_the_first_layer(detector.train(), batch) == 1


def test_a_task_trains_and_measures_the_same_with_an_image_head_beside_the_boxes(film, vocabulary, tmp_path):
    films = [film(i, boxes=[] if i % 3 == 2 else None) for i in range(6)]
    loader = DataLoader(films, 3, collate_fn=lambda batch: tuple(map(list, zip(*batch, strict=True))))
    figures, weights = [], []
    for recompute in (False, True):
        torch.manual_seed(0)
        model = builder("fasterrcnn_tiny", image_head=True, checkpoint_backbone=recompute)
        task = DetectionTask(vocabulary, model, partial(torch.optim.SGD, lr=0.01))
        trainer = L.Trainer(
            max_epochs=2, accelerator="cpu", logger=False, default_root_dir=tmp_path, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
        )  # fmt: skip
        trainer.fit(task, loader, loader)
        figures.append({name: float(value) for name, value in trainer.callback_metrics.items()})
        weights.append(task.state_dict())
    assert figures[1] == pytest.approx(figures[0], abs=1e-6, nan_ok=True)
    assert "val/loss_image" in figures[1]
    torch.testing.assert_close(weights[1], weights[0], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["fasterrcnn", "ssdlite"])
def test_an_explanation_reads_the_same_film(name):
    torch.manual_seed(0)
    image, pixels_gradients = torch.rand(1, 96, 70), []
    for detector in pair(name, score_thresh=0.0):
        film = FilmReading(detector, image)
        pixels = film.batch.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(film.log_odds_of(film.candidates.strongest(), pixels).sum(), pixels)
        pixels_gradients.append(gradient)
    assert pixels_gradients[0].abs().sum() > 0
    torch.testing.assert_close(pixels_gradients[1], pixels_gradients[0], rtol=1e-6, atol=1e-6)
