import logging
import math
from functools import partial

import lightning as L  # noqa: N812
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader, Dataset

from cxr.config.models import build, builder
from cxr.detect.detector import Detector, finish
from cxr.detect.inference import film_results
from cxr.detect.task import DetectionTask, class_weights
from cxr.learn import schedules
from cxr.learn.parameter_groups import by_depth
from cxr.learn.training import NonFiniteLossError

SGD = partial(torch.optim.SGD, lr=0.01, momentum=0.9)
LOSSES = ["loss_classifier", "loss_box_reg", "loss_objectness", "loss_rpn_box_reg", "loss"]


class Films(Dataset):
    """Films in an order, and with noise, that follow from the epoch, as the data module has them."""

    def __init__(self, films, task=None):
        self.films, self.task = films, task

    def __len__(self):
        return len(self.films)

    def __getitem__(self, i):
        image, target = self.films[i]
        epoch = self.task.current_epoch if self.task else 0
        generator = torch.Generator().manual_seed(1000 * epoch + i)
        return image + 0.05 * torch.rand(image.shape, generator=generator), target


def collate(batch):
    return tuple(map(list, zip(*batch, strict=True)))


@pytest.fixture
def films(film):
    """Seven films of two sizes, two of them normal."""
    return [film(i, (64, 64 if i % 2 else 48), [] if i % 3 == 2 else None) for i in range(7)]


@pytest.fixture
def make_task(vocabulary):
    def make(model=None, optimizer=SGD, **settings):
        torch.manual_seed(7)
        return DetectionTask(vocabulary, model or builder("fasterrcnn_tiny"), optimizer, **settings)

    return make


def trainer(folder, epochs=1, callbacks=(), **settings):
    return L.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        default_root_dir=folder,
        enable_checkpointing=bool(callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=list(callbacks),
        **settings,
    )


def fit(task, films, folder, resume=None, **settings):
    trained = trainer(folder, **settings)
    loaders = [DataLoader(Films(films, task), 3, collate_fn=collate), DataLoader(Films(films), 4, collate_fn=collate)]
    trained.fit(task, *loaders, ckpt_path=resume, weights_only=True)
    return trained.callback_metrics


class Stub(Detector):
    """A detector that answers what it is told to."""

    def __init__(self, num_classes, losses=None, found=None):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.given, self.found = losses, found
        self.backbone = nn.Identity()
        finish(self, num_classes, [0.0], [1.0], False, False, None, None)

    def losses_of(self, pyramid, targets):
        return {name: value * self.weight for name, value in self.given.items()}

    def boxes_of(self, pyramid):
        return [self.found for _ in pyramid.films]


pytestmark = [  # Lightning's own: it lags behind torch, advises workers for films in memory, and sees last.ckpt
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty"),
]


def test_logs_every_loss_of_training_and_validation_and_the_figures_by_name(make_task, films, tmp_path):
    logged = fit(make_task(), films, tmp_path, log_every_n_steps=1)
    expected = {f"{stage}/{loss}" for stage in ("train", "val") for loss in LOSSES}
    expected |= {"train/gradient_norm", "train/learning_rate", "val/false_positives_per_normal_film"}
    expected |= {"val/sensitivity@1fp", "val/image_auc"}
    expected |= {"val/only_detected/spine", "val/only_detected/cap"}  # nobody marked them
    expected |= {
        f"val/{figure}" for figure in ("map", "map_50", "map_75", "mar_100", "ap/heart", "ap50/heart", "ar/heart")
    }
    assert set(logged) == expected
    assert logged["train/learning_rate"] == pytest.approx(0.01)
    assert logged["train/gradient_norm"] > 0
    assert logged["val/loss"].item() == pytest.approx(sum(logged[f"val/{name}"].item() for name in LOSSES[:-1]))


@pytest.mark.filterwarnings("ignore:.*but have no `val_dataloader`")
def test_training_losses_are_means_of_their_epoch(make_task, films, tmp_path):
    class Counting(Stub):
        def losses_of(self, pyramid, targets):
            self.calls = getattr(self, "calls", 0) + 1
            return {"loss_a": 0 * self.weight + self.calls, "loss_b": 0 * self.weight + 1.0}

    seen = []

    class Read(L.Callback):
        def on_train_epoch_end(self, trainer, task):
            seen.append({key: value.item() for key, value in trainer.callback_metrics.items() if "loss" in key})

    trained = trainer(tmp_path, epochs=2, callbacks=[Read()])
    trained.fit(make_task(Counting), DataLoader(Films(films), 3, collate_fn=collate))
    # three steps an epoch: 1, 2, 3 and 4, 5, 6
    assert seen == [{"train/loss_a": mean, "train/loss_b": 1.0, "train/loss": mean + 1.0} for mean in (2.0, 5.0)]


def test_tests_under_names_of_its_own(make_task, films, tmp_path):
    tested = trainer(tmp_path)
    tested.test(make_task(), DataLoader(Films(films), 4, collate_fn=collate), verbose=False)
    assert {"test/map_50", "test/ap/heart", "test/loss"} <= set(tested.callback_metrics)


def test_normal_films_alone_train_and_validate(make_task, film, tmp_path):
    logged = fit(make_task(), [film(i, boxes=[]) for i in range(3)], tmp_path)
    assert math.isnan(logged["val/map_50"])
    assert logged["train/loss_box_reg"] == logged["train/loss_rpn_box_reg"] == 0  # there is no box to be near
    assert logged["train/loss_classifier"] > 0
    assert logged["train/loss_objectness"] > 0


def test_bfloat16_computes_the_maps_and_leaves_the_weights_in_float32(make_task, films, tmp_path):
    task, dtypes = make_task(), set()
    before = {name: value.clone() for name, value in task.named_parameters()}
    task.detector.backbone.register_forward_hook(lambda _, __, maps: dtypes.update(m.dtype for m in maps.values()))
    fit(task, films, tmp_path, precision="bf16-mixed")
    assert dtypes == {torch.bfloat16}
    assert {value.dtype for value in task.parameters()} == {torch.float32}
    assert all(not torch.equal(value, before[name]) for name, value in task.named_parameters() if value.requires_grad)


def test_a_run_cut_in_two_ends_with_the_weights_of_an_undisturbed_one(make_task, films, tmp_path):
    settings = {"scheduler": partial(schedules.multistep, milestones=[1, 3], gamma=0.3, warmup_steps=2), "seed": 5}

    def run(folder, epochs, resume=None):
        last = ModelCheckpoint(folder, "last", save_on_train_epoch_end=True, enable_version_counter=False)
        fit(make_task(**settings), films, folder, resume, epochs=epochs, callbacks=[last], gradient_clip_val=10.0)
        return torch.load(folder / "last.ckpt", weights_only=True)

    whole = run(tmp_path / "whole", 4)
    run(tmp_path / "cut", 2)
    torch.rand(5)  # another process: its random numbers stand elsewhere
    cut = run(tmp_path / "cut", 4, resume=tmp_path / "cut" / "last.ckpt")
    assert whole["epoch"] == cut["epoch"]
    assert whole["global_step"] == cut["global_step"] == 12
    names = [run["optimizer_states"][0]["param_groups"][0].pop("param_names") for run in (whole, cut)]
    assert names[0] == names[1] == [name for name, _ in make_task().named_parameters()]
    for part in ("state_dict", "optimizer_states", "lr_schedulers"):
        torch.testing.assert_close(cut[part], whole[part], rtol=0, atol=0)
    start = make_task(**settings).state_dict()
    assert not torch.equal(
        whole["state_dict"]["detector.rpn.head.cls_logits.weight"], start["detector.rpn.head.cls_logits.weight"]
    )


def test_another_seed_samples_other_regions(make_task, films, tmp_path):
    one, other = (fit(make_task(seed=seed), films, tmp_path)["train/loss"] for seed in (0, 1))
    assert one != other


def test_the_card_stands_in_the_checkpoint_as_plain_data(make_task, films, tmp_path, vocabulary):
    card = {"config": {"lr": 0.01}, "findings": vocabulary.as_dict()}
    fit(make_task(card=card), films, tmp_path, callbacks=[ModelCheckpoint(tmp_path, "last")])
    content = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert content["cxr"] == card
    assert all(key.startswith("detector.") for key in content["state_dict"])


def test_a_checkpoint_is_a_file_of_weights(make_task, films, tmp_path):
    task = make_task()
    fit(task, films, tmp_path, callbacks=[ModelCheckpoint(tmp_path, "last")])
    loaded = build("fasterrcnn_tiny", 4, weights=str(tmp_path / "last.ckpt"))
    torch.testing.assert_close(loaded.state_dict(), task.detector.state_dict(), rtol=0, atol=0)


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


def test_the_backbone_runs_once_a_validation_batch(make_task, films, tmp_path):
    task = make_task()
    batches = []
    task.detector.backbone.body.register_forward_hook(lambda module, inputs, output: batches.append(len(inputs[0])))
    trainer(tmp_path).validate(task, DataLoader(Films(films), 4, collate_fn=collate), verbose=False)
    assert batches == [4, 3]
    with torch.no_grad():
        task.detector.eval()([torch.rand(1, 32, 32)])
    assert batches == [4, 3, 1]


def test_validation_flips_no_mode_and_patches_no_forward(make_task, films, tmp_path):
    task = make_task(builder("fasterrcnn_tiny", image_head=True))
    modes, patched = [], []
    for module in task.detector.modules():
        module.register_forward_pre_hook(lambda module, inputs: modes.append(module.training))
    pyramids = []
    task.detector.backbone.register_forward_hook(lambda module, inputs, maps: pyramids.append(len(inputs[0])))
    task.detector.rpn.register_forward_hook(
        lambda *_: patched.extend(name for name, module in task.named_modules() if "forward" in vars(module))
    )
    trainer(tmp_path).validate(task, DataLoader(Films(films), 4, collate_fn=collate), verbose=False)
    assert modes
    assert not any(modes)
    assert patched == []
    assert pyramids == [4, 3]  # one of each batch, for its losses, its boxes and the image head


def test_what_is_frozen_after_training_is_chosen_in_eval_mode(make_task, films, monkeypatch):
    task = make_task().train()
    modes = []
    monkeypatch.setattr(task, "detect", lambda images, targets: modes.append(task.detector.training) or [None])
    monkeypatch.setattr(
        "cxr.detect.inference.detect_finite", lambda task, images, targets: task.detect(images, targets)
    )
    monkeypatch.setattr("cxr.detect.inference._result", lambda film, target, answer: answer)
    dataset = Films(films[:1])
    dataset.films = films[:1]
    list(film_results(task, dataset))
    assert modes == [False]


def test_detections_come_in_original_pixels_inside_the_film(make_task):
    found = {
        "boxes": torch.tensor([[10.0, 10.0, 20.0, 40.0], [-1.0, 0.0, 50.0, 70.0], [0.0, 0.0, 9.0, 9.0]]),
        "labels": torch.tensor([2, 1, 0]),
        "scores": torch.tensor([0.9, 0.8, 0.7], dtype=torch.bfloat16),
    }
    task = make_task(partial(Stub, found=found))
    target = {"scale": torch.tensor([0.5, 0.25]), "size": torch.tensor([240, 90])}
    (detection,) = task.detect([torch.zeros(1, 60, 45)], [target])
    # x ÷ 0.5, y ÷ 0.25, clipped to 90 × 240; what a single-stage detector calls background (0) is no finding
    assert detection["boxes"].tolist() == [[20.0, 40.0, 40.0, 160.0], [0.0, 0.0, 90.0, 240.0]]
    assert detection["labels"].tolist() == [2, 1]
    assert detection["scores"].dtype == torch.float32
    assert task.detector.training


def test_figures_are_measured_in_original_pixels(make_task, film, tmp_path):
    image, target = film(0, (64, 64), [[8.0, 8.0, 40.0, 48.0]])
    target["scale"] = torch.tensor([0.5, 0.25])
    target["size"] = torch.tensor([256, 128])
    target["original_boxes"] = torch.tensor([[16.0, 32.0, 80.0, 192.0]])
    found = {"boxes": target["boxes"], "labels": target["labels"], "scores": torch.tensor([0.9])}
    task = make_task(partial(Stub, found=found))
    seen = []
    update = task._metrics.update
    task._metrics.update = lambda detections, targets: (seen.append((detections, targets)), update(detections, targets))
    task.validation_losses = lambda batch, i: {"loss_box": torch.tensor(1.0)}
    tested = trainer(tmp_path)
    tested.validate(task, DataLoader(Films([(image, target)]), 1, collate_fn=collate), verbose=False)
    ((detections, targets),) = seen
    assert detections[0]["boxes"].tolist() == targets[0]["boxes"].tolist() == [[16.0, 32.0, 80.0, 192.0]]
    assert tested.callback_metrics["val/map"] == pytest.approx(1.0)


def test_a_finding_too_small_for_the_image_counts_as_missed(make_task, film, tmp_path):
    # 6 px of a film of 2500 px are 0.6 px of an image of 256: no box is left there to train or to score with
    image, target = film(0, (256, 256), boxes=[])
    target |= {"scale": torch.tensor([256 / 2500] * 2), "size": torch.tensor([2500, 2500])}
    target |= {"original_boxes": torch.tensor([[900.0, 900.0, 906.0, 1300.0]]), "original_labels": torch.tensor([1])}
    large = film(1, (256, 256), [[8.0, 8.0, 40.0, 48.0]])
    found = {"boxes": large[1]["boxes"], "labels": large[1]["labels"], "scores": torch.tensor([0.9])}
    task = make_task(partial(Stub, found=found))
    task.validation_losses = lambda batch, i: {"loss_box": torch.tensor(1.0)}
    tested = trainer(tmp_path)
    tested.validate(task, DataLoader(Films([large, (image, target)]), 1, collate_fn=collate), verbose=False)
    assert tested.callback_metrics["val/ar/heart"] == pytest.approx(0.5)  # one of two; alone, the large one gave 1
    assert "val/false_positives_per_normal_film" not in tested.callback_metrics  # none of them is normal


def test_a_loss_that_is_not_finite_names_step_and_losses(make_task, films, tmp_path):
    losses = {"loss_box_reg": torch.tensor(float("nan")), "loss_objectness": torch.tensor(0.5)}
    with pytest.raises(NonFiniteLossError, match=r"step 0 \(epoch 1\): loss_box_reg nan, loss_objectness 0.5"):
        fit(make_task(partial(Stub, losses=losses)), films, tmp_path)


def test_frozen_parameters_are_not_optimised(make_task, films, tmp_path):
    def frozen(num_classes):
        detector = build("fasterrcnn_tiny", num_classes)
        detector.backbone.requires_grad_(False)
        return detector

    given = []
    task = make_task(frozen, lambda parameters: given.extend(parameters) or SGD(parameters))
    fit(task, films, tmp_path)
    assert len(given) == sum(p.requires_grad for p in task.detector.parameters())
    assert len(given) < len(list(task.detector.parameters()))


@pytest.mark.parametrize(
    ("settings", "accumulated", "rate"),
    [
        ({}, 2, 0.01),
        ({"lr_scaling": "linear"}, 1, 0.01),
        ({"lr_scaling": "linear"}, 4, 0.04),
        ({"lr_scaling": "sqrt"}, 4, 0.02),
        ({"lr_scaling": "linear", "reference_batch": 24}, 4, 0.005),  # 4 batches of 3 are half of 24
    ],
)
def test_the_learning_rate_grows_with_the_films_of_a_step_where_that_is_asked_for(
    make_task, films, tmp_path, caplog, settings, accumulated, rate
):
    caplog.set_level(logging.INFO, "cxr")
    logged = fit(make_task(**settings), films, tmp_path, accumulate_grad_batches=accumulated, log_every_n_steps=1)
    assert logged["train/learning_rate"] == pytest.approx(rate)
    (record,) = [record for record in caplog.records if record.name == "cxr.learn.training"]
    assert f"a step takes {3 * accumulated} films" in record.message
    assert f"the learning rate is {rate:g}" in record.message
    assert (record.levelname == "WARNING") == (not settings)


def test_the_rates_of_a_backbone_and_its_heads_grow_alike(make_task, films, tmp_path):
    rates = {}

    def optimizer(parameters):
        chosen = by_depth(parameters, optimizer=torch.optim.SGD, lr=0.01, backbone=0.5)
        rates.update(chosen=chosen)
        return chosen

    task = make_task(optimizer=optimizer, lr_scaling="linear")
    logged = fit(task, films, tmp_path, accumulate_grad_batches=2, log_every_n_steps=1)
    assert logged["train/learning_rate"] == pytest.approx(0.02)  # of the heads
    assert [group["lr"] for group in rates["chosen"].param_groups] == pytest.approx([0.02, *[0.01] * 5])
    (heads, *body) = (len(group["params"]) for group in rates["chosen"].param_groups)
    assert heads + sum(body) == len(list(task.parameters()))
    assert sum(body) == len(list(task.detector.backbone.body.parameters()))


def test_one_batch_a_step_needs_no_word(make_task, films, tmp_path, caplog):
    fit(make_task(), films, tmp_path)
    assert not [record for record in caplog.records if record.name == "cxr.learn.training"]


@pytest.mark.parametrize("settings", [{"lr_scaling": "cubic"}, {"lr_scaling": "sqrt", "reference_batch": 0}])
def test_a_scaling_that_cannot_be_is_refused(make_task, settings):
    with pytest.raises(
        ValueError, match=r"task\.(lr_scaling is 'cubic', expected linear|reference_batch is 0, expected)"
    ):
        make_task(**settings)


def test_what_is_said_of_a_film_does_not_depend_on_its_neighbours(make_task, film):
    upright, broad = film(1, (64, 32), [[8, 8, 24, 40]]), film(2, (32, 64), [[8, 8, 40, 24]])
    task = make_task(builder("fasterrcnn_tiny", score_thresh=0.0)).eval()
    alone = task.detect(*collate([upright]))[0]
    beside = task.detect(*collate([broad, upright]))[1]
    assert len(alone["scores"]) > 0
    torch.testing.assert_close(alone, beside)


def test_the_schedule_knows_steps_and_epochs(make_task, films, tmp_path):
    known = []

    def schedule(optimizer, total_steps, steps_per_epoch):
        known.append((total_steps, steps_per_epoch))
        return schedules.constant(optimizer, total_steps, steps_per_epoch)

    fit(make_task(scheduler=schedule), films, tmp_path, epochs=3, accumulate_grad_batches=2)
    fit(make_task(scheduler=schedule), films, tmp_path, epochs=-1, max_steps=4)
    assert known == [(6, 2), (4, 3)]  # 7 films in batches of 3, and two batches a step in the first run


class CountedFilms(L.LightningDataModule):
    """A data module that holds the films' findings, which weights of classes follow from."""

    def __init__(self, films, counted):
        super().__init__()
        self.drawn, self.films = films, {"train": counted}

    def train_dataloader(self):
        return DataLoader(Films(self.drawn), batch_size=3, collate_fn=collate)

    val_dataloader = train_dataloader


class Counted:
    def __init__(self, *findings):
        self.findings = findings


def test_balanced_weights_are_the_root_of_how_much_rarer_a_finding_is(vocabulary):
    first, second, _ = vocabulary.names
    films = [Counted(first) for _ in range(16)] + [Counted(second, second), Counted(second, second)]
    assert class_weights(films, vocabulary, "balanced") == [1, 1, 2, 1]  # nothing follows for one that is not there
    assert class_weights(films, vocabulary, {second: 5}) == [1, 1, 5, 1]


def test_weights_of_classes_reach_the_box_head(make_task, films, tmp_path, vocabulary):
    first, second, _ = vocabulary.names
    task = make_task(class_weights="balanced")
    trainer(tmp_path).fit(task, datamodule=CountedFilms(films, [Counted(first)] * 9 + [Counted(second)]))
    assert task.detector.roi_heads.class_weights.tolist() == [1, 1, 3, 1]


def test_only_faster_rcnn_takes_weights_of_classes(make_task):
    with pytest.raises(ValueError, match=r"only the box head of Faster R-CNN takes them; type model=fasterrcnn"):
        make_task(lambda num_classes: build("ssdlite", num_classes), class_weights="balanced")


def test_frozen_parts_keep_their_weights_and_the_rest_learns(make_task, films, tmp_path):
    task = make_task(frozen=["backbone", "rpn"])
    before = {name: value.clone() for name, value in task.state_dict().items()}
    fit(task, films, tmp_path)
    moved = {name.split(".")[1] for name, value in task.state_dict().items() if not value.equal(before[name])}
    assert moved == {"roi_heads"}
    assert not task.detector.backbone.training


def test_a_part_that_is_not_there_cannot_be_frozen(make_task):
    with pytest.raises(ValueError, match=r"task\.frozen names 'neck', expected parts of the detector: .*backbone, rpn"):
        make_task(frozen=["neck"])
