"""What a training is told: learning rates, weights of classes and what stays frozen."""

import logging

import lightning as L  # noqa: N812
import pytest
import torch

from cxr.config.models import build
from cxr.detect.task import class_weights
from cxr.learn import schedules
from cxr.learn.parameter_groups import by_depth

pytestmark = [  # Lightning advises workers for films in memory, and sees last.ckpt
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty"),
]


def test_frozen_parameters_are_not_optimised(make_task, films, tmp_path, fit):
    def frozen(num_classes):
        detector = build("fasterrcnn_tiny", num_classes)
        detector.backbone.requires_grad_(False)
        return detector

    given = []
    task = make_task(frozen, lambda parameters: given.extend(parameters) or torch.optim.SGD(parameters, 0.01))
    fit(task, films, tmp_path)
    assert len(given) == sum(p.requires_grad for p in task.detector.parameters())
    assert len(given) < len(list(task.detector.parameters()))


def test_frozen_parts_keep_their_weights_and_the_rest_learns(make_task, films, tmp_path, fit):
    task = make_task(frozen=["backbone", "rpn"])
    before = {name: value.clone() for name, value in task.state_dict().items()}
    fit(task, films, tmp_path)
    moved = {name.split(".")[1] for name, value in task.state_dict().items() if not value.equal(before[name])}
    assert moved == {"roi_heads"}
    assert not task.detector.backbone.training


def test_a_part_that_is_not_there_cannot_be_frozen(make_task):
    with pytest.raises(ValueError, match=r"task\.frozen names 'neck', expected parts of the detector: .*backbone, rpn"):
        make_task(frozen=["neck"])


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
    make_task, films, tmp_path, caplog, settings, accumulated, rate, fit
):
    caplog.set_level(logging.INFO, "cxr")
    logged = fit(make_task(**settings), films, tmp_path, accumulate_grad_batches=accumulated, log_every_n_steps=1)
    assert logged["train/learning_rate"] == pytest.approx(rate)
    (record,) = [record for record in caplog.records if record.name == "cxr.learn.training"]
    assert f"a step takes {3 * accumulated} films" in record.message
    assert f"the learning rate is {rate:g}" in record.message
    assert (record.levelname == "WARNING") == (not settings)


def test_the_rates_of_a_backbone_and_its_heads_grow_alike(make_task, films, tmp_path, fit):
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


def test_one_batch_a_step_needs_no_word(make_task, films, tmp_path, caplog, fit):
    fit(make_task(), films, tmp_path)
    assert not [record for record in caplog.records if record.name == "cxr.learn.training"]


@pytest.mark.parametrize("settings", [{"lr_scaling": "cubic"}, {"lr_scaling": "sqrt", "reference_batch": 0}])
def test_a_scaling_that_cannot_be_is_refused(make_task, settings):
    with pytest.raises(
        ValueError, match=r"task\.(lr_scaling is 'cubic', expected linear|reference_batch is 0, expected)"
    ):
        make_task(**settings)


def test_the_schedule_knows_steps_and_epochs(make_task, films, tmp_path, fit):
    known = []

    def schedule(optimizer, total_steps, steps_per_epoch):
        known.append((total_steps, steps_per_epoch))
        return schedules.constant(optimizer, total_steps, steps_per_epoch)

    fit(make_task(scheduler=schedule), films, tmp_path, epochs=3, accumulate_grad_batches=2)
    fit(make_task(scheduler=schedule), films, tmp_path, epochs=-1, max_steps=4)
    assert known == [(6, 2), (4, 3)]  # 7 films in batches of 3, and two batches a step in the first run


class CountedFilms(L.LightningDataModule):
    """A data module that holds the films' findings, which weights of classes follow from."""

    def __init__(self, loaded, counted):
        super().__init__()
        self.loaded, self.films = loaded, {"train": counted}

    def train_dataloader(self):
        return self.loaded

    val_dataloader = train_dataloader


class Counted:
    def __init__(self, *findings):
        self.findings = findings


def test_balanced_weights_are_the_root_of_how_much_rarer_a_finding_is(vocabulary):
    first, second, _ = vocabulary.names
    films = [Counted(first) for _ in range(16)] + [Counted(second, second), Counted(second, second)]
    assert class_weights(films, vocabulary, "balanced") == [1, 1, 2, 1]  # nothing follows for one that is not there
    assert class_weights(films, vocabulary, {second: 5}) == [1, 1, 5, 1]


def test_weights_of_classes_reach_the_box_head(make_task, films, tmp_path, vocabulary, trainer, loader):
    first, second, _ = vocabulary.names
    task = make_task(class_weights="balanced")
    trainer(tmp_path).fit(task, datamodule=CountedFilms(loader(films, 3), [Counted(first)] * 9 + [Counted(second)]))
    assert task.detector.roi_heads.class_weights.tolist() == [1, 1, 3, 1]


def test_only_faster_rcnn_takes_weights_of_classes(make_task):
    with pytest.raises(ValueError, match=r"only the box head of Faster R-CNN takes them; type model=fasterrcnn"):
        make_task(lambda num_classes: build("ssdlite", num_classes), class_weights="balanced")
