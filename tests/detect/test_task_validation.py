"""Validation and detection: losses without a trace, boxes and figures in original pixels."""

from functools import partial

import pytest
import torch
from torch import nn

from cxr.config.models import build, builder
from cxr.data.dataset import collate
from cxr.detect.inference import film_results

pytestmark = [  # Lightning advises workers for films in memory, and sees last.ckpt
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty"),
]


def with_batch_norm(num_classes):
    detector = build("fasterrcnn_tiny", num_classes)
    detector.backbone.body.stem[1] = nn.BatchNorm2d(32)
    return detector


def test_validation_losses_leave_no_trace_and_repeat(make_task, films):
    task = make_task(with_batch_norm)
    task.detector.eval()
    task.detector.rpn.train()  # an odd state, to see that it is restored
    batch = collate(films)
    weights = {k: v.clone() for k, v in task.state_dict().items()}
    modes = [m.training for m in task.modules()]
    random_numbers = torch.get_rng_state()
    first, second = task.validation_losses(batch, 0), task.validation_losses(batch, 0)
    assert first == second
    assert not any(loss.requires_grad for loss in first.values())
    assert [m.training for m in task.modules()] == modes
    assert torch.equal(torch.get_rng_state(), random_numbers)
    torch.testing.assert_close(dict(task.state_dict()), weights, rtol=0, atol=0)


def test_validation_losses_are_those_of_training(make_task, films):
    task = make_task(builder("fasterrcnn_tiny", regions__batch_size=10**4, proposals__batch_size=10**5))
    batch = collate(films)  # so many samples that all are taken: no randomness is left
    validation = task.validation_losses(batch, 0)
    training = task.detector.train()(*batch)
    assert {k: v.item() for k, v in validation.items()} == pytest.approx(
        {k: v.item() for k, v in training.items()}, rel=1e-4
    )


def test_the_backbone_runs_once_a_validation_batch(make_task, films, tmp_path, trainer, loader):
    task = make_task()
    batches = []
    task.detector.backbone.body.register_forward_hook(lambda module, inputs, output: batches.append(len(inputs[0])))
    trainer(tmp_path).validate(task, loader(films, 4), verbose=False)
    assert batches == [4, 3]
    with torch.no_grad():
        task.detector.eval()([torch.rand(1, 32, 32)])
    assert batches == [4, 3, 1]


def test_validation_flips_no_mode_and_patches_no_forward(make_task, films, tmp_path, trainer, loader):
    task = make_task(builder("fasterrcnn_tiny", image_head=True))
    modes, patched = [], []
    for module in task.detector.modules():
        module.register_forward_pre_hook(lambda module, inputs: modes.append(module.training))
    pyramids = []
    task.detector.backbone.register_forward_hook(lambda module, inputs, maps: pyramids.append(len(inputs[0])))
    task.detector.rpn.register_forward_hook(
        lambda *_: patched.extend(name for name, module in task.named_modules() if "forward" in vars(module))
    )
    trainer(tmp_path).validate(task, loader(films, 4), verbose=False)
    assert modes
    assert not any(modes)
    assert patched == []
    assert pyramids == [4, 3]  # one of each batch, for its losses, its boxes and the image head


def test_what_is_frozen_after_training_is_chosen_in_eval_mode(make_task, films, loader, monkeypatch):
    task = make_task().train()
    modes = []
    monkeypatch.setattr(task, "detect", lambda images, targets: modes.append(task.detector.training) or [None])
    monkeypatch.setattr(
        "cxr.detect.inference.detect_finite", lambda task, images, targets: task.detect(images, targets)
    )
    monkeypatch.setattr("cxr.detect.inference._result", lambda film, target, answer: answer)
    list(film_results(task, loader(films[:1], 1).dataset))
    assert modes == [False]


def test_detections_come_in_original_pixels_inside_the_film(make_task, stub):
    detections = {
        "boxes": torch.tensor([[10.0, 10.0, 20.0, 40.0], [-1.0, 0.0, 50.0, 70.0], [0.0, 0.0, 9.0, 9.0]]),
        "labels": torch.tensor([2, 1, 0]),
        "scores": torch.tensor([0.9, 0.8, 0.7], dtype=torch.bfloat16),
    }
    task = make_task(partial(stub, detections=detections))
    target = {"scale": torch.tensor([0.5, 0.25]), "size": torch.tensor([240, 90])}
    (detection,) = task.detect([torch.zeros(1, 60, 45)], [target])
    # x ÷ 0.5, y ÷ 0.25, clipped to 90 × 240; what a single-stage detector calls background (0) is no finding
    assert detection["boxes"].tolist() == [[20.0, 40.0, 40.0, 160.0], [0.0, 0.0, 90.0, 240.0]]
    assert detection["labels"].tolist() == [2, 1]
    assert detection["scores"].dtype == torch.float32
    assert task.detector.training


def test_figures_are_measured_in_original_pixels(make_task, film, tmp_path, trainer, loader, stub):
    image, target = film(0, (64, 64), [[8.0, 8.0, 40.0, 48.0]])
    target["scale"] = torch.tensor([0.5, 0.25])
    target["size"] = torch.tensor([256, 128])
    target["original_boxes"] = torch.tensor([[16.0, 32.0, 80.0, 192.0]])
    answer = {"boxes": target["boxes"], "labels": target["labels"], "scores": torch.tensor([0.9])}
    task = make_task(partial(stub, detections=answer))
    seen = []
    update = task._metrics.update
    task._metrics.update = lambda detections, targets: (seen.append((detections, targets)), update(detections, targets))
    task.validation_losses = lambda batch, i: {"loss_box": torch.tensor(1.0)}
    tested = trainer(tmp_path)
    tested.validate(task, loader([(image, target)], 1), verbose=False)
    ((detections, targets),) = seen
    assert detections[0]["boxes"].tolist() == targets[0]["boxes"].tolist() == [[16.0, 32.0, 80.0, 192.0]]
    assert tested.callback_metrics["val/map"] == pytest.approx(1.0)


def test_a_finding_too_small_for_the_image_counts_as_missed(make_task, film, tmp_path, trainer, loader, stub):
    # 6 px of a film of 2500 px are 0.6 px of an image of 256: no box is left there to train or to score with
    image, target = film(0, (256, 256), boxes=[])
    target |= {"scale": torch.tensor([256 / 2500] * 2), "size": torch.tensor([2500, 2500])}
    target |= {"original_boxes": torch.tensor([[900.0, 900.0, 906.0, 1300.0]]), "original_labels": torch.tensor([1])}
    large = film(1, (256, 256), [[8.0, 8.0, 40.0, 48.0]])
    detections = {"boxes": large[1]["boxes"], "labels": large[1]["labels"], "scores": torch.tensor([0.9])}
    task = make_task(partial(stub, detections=detections))
    task.validation_losses = lambda batch, i: {"loss_box": torch.tensor(1.0)}
    tested = trainer(tmp_path)
    tested.validate(task, loader([large, (image, target)], 1), verbose=False)
    assert tested.callback_metrics["val/ar/heart"] == pytest.approx(0.5)  # one of two; alone, the large one gave 1
    assert "val/false_positives_per_normal_film" not in tested.callback_metrics  # none of them is normal


def test_what_is_said_of_a_film_does_not_depend_on_its_neighbours(make_task, film):
    upright, broad = film(1, (64, 32), [[8, 8, 24, 40]]), film(2, (32, 64), [[8, 8, 40, 24]])
    task = make_task(builder("fasterrcnn_tiny", score_thresh=0.0)).eval()
    alone = task.detect(*collate([upright]))[0]
    beside = task.detect(*collate([broad, upright]))[1]
    assert len(alone["scores"]) > 0
    torch.testing.assert_close(alone, beside)


def test_tests_under_names_of_its_own(make_task, films, tmp_path, trainer, loader):
    tested = trainer(tmp_path)
    tested.test(make_task(), loader(films, 4), verbose=False)
    assert {"test/map_50", "test/ap/heart", "test/loss"} <= set(tested.callback_metrics)
