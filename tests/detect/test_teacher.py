"""Unmarked films: what a teacher is sure of, what of it a detector learns, and when."""

from functools import partial
from types import SimpleNamespace

import albumentations
import lightning as L  # noqa: N812
import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging
from torch.utils.data import DataLoader

from cxr.config.models import builder
from cxr.data.augment import Augment
from cxr.data.dataset import collate
from cxr.detect.teacher import TeacherTask, confident_scores, sure_marks

ADAMW = partial(torch.optim.AdamW, lr=1e-3)
BOX = [10.0, 10, 30, 30]


def detections(*rows: tuple[int, float]) -> dict[str, torch.Tensor]:
    return {
        "boxes": torch.tensor([BOX] * len(rows)).reshape(-1, 4),
        "labels": torch.tensor([label for label, _ in rows], dtype=torch.int64),
        "scores": torch.tensor([score for _, score in rows]),
    }


SURE = torch.tensor([0.8, 0.8, 0.8])


def test_a_finding_is_present_absent_or_unknown():
    mark = sure_marks(detections((1, 0.9), (1, 0.85), (1, 0.3), (2, 0.5)), SURE, absent=0.1)
    assert mark["labels"].tolist() == [1, 1]  # the third box is not sure
    assert mark["labelled"].tolist() == [
        True,
        False,
        True,
        False,
    ]  # present, between, absent; and the film is not normal


def test_a_film_where_every_finding_is_absent_is_normal():
    mark = sure_marks(detections((1, 0.05)), SURE, absent=0.1)
    assert (mark["boxes"].shape, mark["labelled"].tolist()) == ((0, 4), [True] * 4)
    assert sure_marks(detections(), SURE, absent=0.1)["labelled"].all()


def test_a_film_in_doubt_teaches_nothing():
    assert sure_marks(detections((1, 0.5)), SURE, absent=0.1) is None


def test_a_finding_that_a_source_may_hide_is_never_learnt(vocabulary):
    scores = confident_scores({"heart": 0.7, "cap": None}, 0.1, vocabulary)
    assert scores.tolist() == [pytest.approx(0.7), torch.inf, torch.inf]  # spine is not named
    mark = sure_marks(detections((1, 0.75), (2, 0.99), (3, 0.99)), scores, absent=0.1)
    assert mark["labels"].tolist() == [1]
    assert mark["labelled"].tolist() == [True, False, False, False]
    assert sure_marks(detections((2, 0.99)), scores, absent=0.1) is None  # heart is absent, the others are unknown


@pytest.mark.parametrize("confident", [0.05, 1.2, {"heart": 0.1}])
def test_scores_that_leave_nothing_between_are_refused(vocabulary, confident):
    with pytest.raises(ValueError, match=r"task.confident is .* expected 0 <= absent < confident <= 1"):
        confident_scores(confident, 0.1, vocabulary)


def unmarked(film):
    image, target = film
    nothing = torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(4, dtype=torch.bool)
    return image, {**target, **dict(zip(("boxes", "labels", "labelled"), nothing, strict=True))}


def marked(film):
    image, target = film
    return image, {**target, "labelled": torch.ones(4, dtype=torch.bool)}


@pytest.fixture
def make_task(vocabulary):
    def make(student=None, **settings):
        torch.manual_seed(7)
        return TeacherTask(vocabulary, builder("fasterrcnn_tiny"), ADAMW, student or Augment(), **settings)

    return make


def train(task, films, epochs, callbacks):
    trainer = L.Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=callbacks,
    )  # fmt: skip
    items = [SimpleNamespace(unmarked=not target["labelled"].any(), findings=()) for _, target in films]
    data = L.LightningDataModule.from_datasets(films, batch_size=4, num_workers=0)
    data.train_dataloader = lambda: DataLoader(films, 4, collate_fn=collate)
    data.films = {"train": items}
    trainer.fit(task, datamodule=data)
    return trainer.callback_metrics


pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:.*but have no `val_dataloader`"),
]


def test_unmarked_films_teach_from_their_epoch_on_what_the_average_is_sure_of(make_task, film, monkeypatch):
    films = [marked(film(0)), unmarked(film(1)), marked(film(2)), unmarked(film(3))]
    task = make_task(begins_at=1)
    teachers = []

    def sure(detector, images, pyramid=None):
        teachers.append(detector)
        return [detections((1, 0.9))] * len(images)

    monkeypatch.setattr(type(task.detector), "detect", sure)
    first = train(task, films, 1, [EMAWeightAveraging(decay=0.9)])
    assert first["train/loss_classifier_unmarked"] == 0
    assert first["train/loss_classifier"] > 0
    assert not teachers
    task = make_task(begins_at=1)
    second = train(task, films, 2, [EMAWeightAveraging(decay=0.9)])
    assert second["train/loss_classifier_unmarked"] > 0
    assert second["train/sure_boxes"] == 1  # of each unmarked film
    assert all(teacher is not task.detector for teacher in teachers)


def test_nothing_is_learnt_from_an_average_that_has_not_begun(make_task, film, monkeypatch):
    films = [marked(film(0)), unmarked(film(1)), marked(film(2)), unmarked(film(3))]
    task = make_task(begins_at=0)
    monkeypatch.setattr(type(task.detector), "detect", lambda *_: pytest.fail("the network as it began has marked"))
    figures = train(task, films, 2, [EMAWeightAveraging(decay=0.9, update_starting_at_step=50)])
    assert figures["train/loss_classifier_unmarked"] == 0


def test_the_student_sees_the_box_where_its_view_has_it(make_task, film):
    shift = albumentations.Affine(translate_px={"x": (5, 5), "y": (0, 0)}, p=1.0, border_mode=0)
    task = make_task(Augment([shift]))
    image, _ = film(0)
    mark = sure_marks(detections((1, 0.9)), SURE, 0.1)
    view, moved = task._view(image, mark, seed=3)
    assert torch.allclose(moved["boxes"], torch.tensor([[15.0, 10, 35, 30]]), atol=0.01)
    assert torch.allclose(view[..., 5:], image[..., :-5], atol=1e-4)


def test_without_an_average_or_unmarked_films_it_says_what_to_type(make_task, film):
    films = [marked(film(0)), marked(film(2)), marked(film(4)), unmarked(film(1))]
    with pytest.raises(ValueError, match=r"type callbacks=\[default,ema\]"):
        train(make_task(), films, 1, [])
    with pytest.raises(ValueError, match=r"type data.unmarked=FOLDER"):
        train(make_task(), films[:3], 1, [EMAWeightAveraging(decay=0.9)])
