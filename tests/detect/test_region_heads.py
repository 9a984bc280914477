"""The class loss of regions: by hand, and blind to what a film does not tell of."""

import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from cxr.config.models import build
from cxr.detect.labelled import UNLABELLED, labelled_logits

ALL = torch.tensor([True, True, True, True])
NO_SECOND = torch.tensor([True, False, True, False])


def heads(**settings):
    torch.manual_seed(0)
    return build("fasterrcnn_tiny", 4, **settings).roi_heads


def test_without_settings_it_is_cross_entropy() -> None:
    logits, labels = torch.randn(6, 4), torch.tensor([0, 1, 2, 3, 0, 1])
    assert heads()._class_loss(logits, labels).item() == cross_entropy(logits, labels).item()


def test_a_focal_loss_by_hand() -> None:
    # p of the true class: .5 (a finding) and .9 (background); two classes, one region bears a finding
    logits = torch.tensor([[0.0, 0.0, UNLABELLED, UNLABELLED], [math.log(9), 0.0, UNLABELLED, UNLABELLED]])
    loss = heads(regions__focal_gamma=2)._class_loss(logits, torch.tensor([1, 0]))
    assert loss.item() == pytest.approx(0.5**2 * math.log(2) + 0.1**2 * -math.log(0.9), rel=1e-5)


def test_a_weight_counts_a_region_so_many_times() -> None:
    weighted = heads()
    weighted.class_weights[2] = 3
    logits, labels = torch.randn(2, 4), torch.tensor([0, 2])
    apart = cross_entropy(logits, labels, reduction="none")
    assert weighted._class_loss(logits, labels).item() == pytest.approx(((apart[0] + 3 * apart[1]) / 4).item())


def test_no_film_teaches_a_class_it_does_not_tell_of() -> None:
    logits = torch.zeros(2, 5, 4, requires_grad=True)
    none = torch.tensor([], dtype=torch.int64)
    masked = labelled_logits(logits, [{"labelled": ALL, "labels": none}, {"labelled": NO_SECOND, "labels": none}])
    assert (masked[1, :, 2] == UNLABELLED).all()
    masked.sum().backward()
    untaught = torch.zeros(2, 5, 4)
    untaught[1, :, 2] = 1
    torch.testing.assert_close(logits.grad, 1 - untaught)


def test_a_mark_teaches_whatever_else_was_looked_for() -> None:
    masked = labelled_logits(torch.zeros(1, 5, 4), [{"labelled": NO_SECOND, "labels": torch.tensor([2])}])
    assert (masked == 0).all()
    assert (
        labelled_logits(torch.zeros(1, 5, 3), [{"labelled": NO_SECOND, "labels": torch.tensor([1])}], False)
        == UNLABELLED
    ).sum() == 5
