"""Learning rates by depth: which stage of a backbone a parameter belongs to, and what it learns at."""

from functools import partial

import pytest
import torch
from torch import nn

from cxr.learn import schedules
from cxr.learn.parameter_groups import by_depth, stages

SGD = partial(torch.optim.SGD, momentum=0.9)
RESNET = ["conv1.weight", "layer1.0.conv1.weight", "layer1.1.bn2.bias", "layer2.0.conv1.weight", "layer4.0.bn1.weight"]
LITE0 = [
    f"network.{name}" for name in ("conv_stem.weight", "bn1.bias", "blocks.0.0.bn1.weight", "blocks.1.0.conv.bias")
]


def task(names: list[str]) -> list[tuple[str, nn.Parameter]]:
    """Return parameters as a detector's, whose heads stand around its backbone of these names."""
    named = ["detector.rpn.bias", *(f"detector.backbone.body.{name}" for name in names), "detector.backbone.fpn.weight"]
    return [(name, nn.Parameter(torch.zeros(1))) for name in named]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (RESNET, [RESNET[:1], RESNET[1:3], RESNET[3:4], RESNET[4:]]),
        (LITE0, [LITE0[:2], LITE0[2:3], LITE0[3:]]),
        # MobileNet's layers stand in a row, a last single layer goes with the stage before it, and ConvNeXt's begin so
        (["0.0.weight", "1.block.0.0.weight", "head.weight"], [["0.0.weight"], ["1.block.0.0.weight", "head.weight"]]),
        (["stem_0.weight", "stages_0.blocks.0.gamma"], [["stem_0.weight"], ["stages_0.blocks.0.gamma"]]),
        (["weight", "bias"], [["weight", "bias"]]),
    ],
)
def test_the_first_number_of_a_name_says_its_stage(names: list[str], expected: list[list[str]]) -> None:
    assert stages(names) == expected


def test_the_last_stage_learns_at_a_share_and_those_before_it_at_less_and_less() -> None:
    parameters = task(RESNET)
    optimizer = by_depth(parameters, optimizer=SGD, lr=1.0, backbone=0.5, decay=0.1)
    name_of = {id(parameter): name for name, parameter in parameters}
    rates = {name_of[id(p)]: group["lr"] for group in optimizer.param_groups for p in group["params"]}
    body = "detector.backbone.body."
    heads = {"detector.rpn.bias": 1.0, "detector.backbone.fpn.weight": 1.0}
    expected = dict(zip((body + name for name in RESNET), (0.0005, 0.005, 0.005, 0.05, 0.5), strict=True))
    assert rates == pytest.approx(heads | expected)
    assert optimizer.param_groups[0]["lr"] == 1.0  # what is logged as the learning rate is that of the heads
    assert {group["momentum"] for group in optimizer.param_groups} == {0.9}


def test_a_schedule_multiplies_every_groups_rate() -> None:
    optimizer = by_depth(task(LITE0), optimizer=SGD, lr=1.0, backbone=0.5, decay=0.5)
    scheduler = schedules.cosine(optimizer, total_steps=4, steps_per_epoch=2)
    for _ in range(2):
        optimizer.step()
        scheduler.step()
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.5, 0.25, 0.125, 0.0625])


def test_a_share_of_one_makes_the_steps_of_the_plain_optimizer() -> None:
    grouped, plain = task(RESNET), task(RESNET)
    optimizers = by_depth(grouped, optimizer=SGD, lr=0.1, backbone=1.0), SGD(plain, lr=0.1)
    for parameters, optimizer in zip((grouped, plain), optimizers, strict=True):
        for number, (_, parameter) in enumerate(parameters):
            parameter.grad = torch.full_like(parameter, number + 1.0)
        optimizer.step()
        optimizer.step()
    assert [p.item() for _, p in grouped] == [p.item() for _, p in plain]


def test_a_backbone_that_is_not_there_is_refused_with_what_there_is() -> None:
    with pytest.raises(
        ValueError, match=r"part is detector\.neck, .* one of detector\.rpn, detector\.backbone\.body, .*\.fpn$"
    ):
        by_depth(task(["conv.weight"]), optimizer=SGD, lr=1.0, part="detector.neck")


@pytest.mark.parametrize("share", ["backbone", "decay"])
def test_a_share_of_nothing_is_refused(share: str) -> None:
    with pytest.raises(ValueError, match=rf"{share} is 0, expected a number above 0; task\.frozen"):
        by_depth(task(RESNET), optimizer=SGD, lr=1.0, **{share: 0})
