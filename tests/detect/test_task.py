"""Training a detector: what is logged, what a checkpoint holds, and how a run goes on."""

import math
from functools import partial

import lightning as L  # noqa: N812
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from cxr.config.models import build
from cxr.learn import schedules
from cxr.learn.training import NonFiniteLossError

LOSSES = ["loss_classifier", "loss_box_reg", "loss_objectness", "loss_rpn_box_reg", "loss"]


pytestmark = [  # Lightning advises workers for films in memory, and sees last.ckpt
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty"),
]


def test_logs_every_loss_of_training_and_validation_and_the_figures_by_name(make_task, films, tmp_path, fit):
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
def test_training_losses_are_means_of_their_epoch(make_task, films, tmp_path, trainer, loader, stub):
    class Counting(stub):
        def losses_of(self, pyramid, targets):
            self.calls = getattr(self, "calls", 0) + 1
            return {"loss_a": 0 * self.weight + self.calls, "loss_b": 0 * self.weight + 1.0}

    seen = []

    class Read(L.Callback):
        def on_train_epoch_end(self, trainer, task):
            seen.append({key: value.item() for key, value in trainer.callback_metrics.items() if "loss" in key})

    trained = trainer(tmp_path, epochs=2, callbacks=[Read()])
    trained.fit(make_task(Counting), loader(films, 3))
    # three steps an epoch: 1, 2, 3 and 4, 5, 6
    assert seen == [{"train/loss_a": mean, "train/loss_b": 1.0, "train/loss": mean + 1.0} for mean in (2.0, 5.0)]


def test_normal_films_alone_train_and_validate(make_task, film, tmp_path, fit):
    logged = fit(make_task(), [film(i, boxes=[]) for i in range(3)], tmp_path)
    assert math.isnan(logged["val/map_50"])
    assert logged["train/loss_box_reg"] == logged["train/loss_rpn_box_reg"] == 0  # there is no box to be near
    assert logged["train/loss_classifier"] > 0
    assert logged["train/loss_objectness"] > 0


def test_bfloat16_computes_the_maps_and_leaves_the_weights_in_float32(make_task, films, tmp_path, fit):
    task, dtypes = make_task(), set()
    before = {name: value.clone() for name, value in task.named_parameters()}
    task.detector.backbone.register_forward_hook(lambda _, __, maps: dtypes.update(m.dtype for m in maps.values()))
    fit(task, films, tmp_path, precision="bf16-mixed")
    assert dtypes == {torch.bfloat16}
    assert {value.dtype for value in task.parameters()} == {torch.float32}
    assert all(not torch.equal(value, before[name]) for name, value in task.named_parameters() if value.requires_grad)


def test_a_run_cut_in_two_ends_with_the_weights_of_an_undisturbed_one(make_task, films, tmp_path, fit):
    settings = {"scheduler": partial(schedules.multistep, milestones=[1, 2], gamma=0.3, warmup_steps=2), "seed": 5}

    def run(folder, epochs, resume=None):
        last = ModelCheckpoint(folder, "last", save_on_train_epoch_end=True, enable_version_counter=False)
        fit(make_task(**settings), films, folder, resume, epochs=epochs, callbacks=[last], gradient_clip_val=10.0)
        return torch.load(folder / "last.ckpt", weights_only=True)

    whole = run(tmp_path / "whole", 3)
    run(tmp_path / "cut", 1)
    torch.rand(5)  # another process: its random numbers stand elsewhere
    cut = run(tmp_path / "cut", 3, resume=tmp_path / "cut" / "last.ckpt")
    assert whole["epoch"] == cut["epoch"]
    assert whole["global_step"] == cut["global_step"] == 9
    names = [run["optimizer_states"][0]["param_groups"][0].pop("param_names") for run in (whole, cut)]
    assert names[0] == names[1] == [name for name, _ in make_task().named_parameters()]
    for part in ("state_dict", "optimizer_states", "lr_schedulers"):
        torch.testing.assert_close(cut[part], whole[part], rtol=0, atol=0)
    start = make_task(**settings).state_dict()
    assert not torch.equal(
        whole["state_dict"]["detector.rpn.head.cls_logits.weight"], start["detector.rpn.head.cls_logits.weight"]
    )


def test_another_seed_samples_other_regions(make_task, films, tmp_path, fit):
    one, other = (fit(make_task(seed=seed), films, tmp_path)["train/loss"] for seed in (0, 1))
    assert one != other


def test_the_card_stands_in_the_checkpoint_as_plain_data(make_task, films, tmp_path, vocabulary, fit):
    card = {"config": {"lr": 0.01}, "findings": vocabulary.as_dict()}
    fit(make_task(card=card), films, tmp_path, callbacks=[ModelCheckpoint(tmp_path, "last")])
    content = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert content["cxr"] == card
    assert all(key.startswith("detector.") for key in content["state_dict"])


def test_a_checkpoint_is_a_file_of_weights(make_task, films, tmp_path, fit):
    task = make_task()
    fit(task, films, tmp_path, callbacks=[ModelCheckpoint(tmp_path, "last")])
    loaded = build("fasterrcnn_tiny", 4, weights=str(tmp_path / "last.ckpt"))
    torch.testing.assert_close(loaded.state_dict(), task.detector.state_dict(), rtol=0, atol=0)


def test_a_loss_that_is_not_finite_names_step_and_losses(make_task, films, tmp_path, fit, stub):
    losses = {"loss_box_reg": torch.tensor(float("nan")), "loss_objectness": torch.tensor(0.5)}
    with pytest.raises(NonFiniteLossError, match=r"step 0 \(epoch 1\): loss_box_reg nan, loss_objectness 0.5"):
        fit(make_task(partial(stub, losses=losses)), films, tmp_path)
