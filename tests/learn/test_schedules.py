import math
from functools import partial

import pytest
import torch
from torch.optim.lr_scheduler import OneCycleLR

from cxr.learn import schedules


def optimizer():
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)


def rates(schedule, steps, total_steps=10, steps_per_epoch=2):
    chosen = optimizer()
    scheduler = schedule(chosen, total_steps=total_steps, steps_per_epoch=steps_per_epoch)
    seen = []
    for _ in range(steps):
        seen.append(chosen.param_groups[0]["lr"])
        chosen.step()
        scheduler.step()
    return seen


def test_constant_rises_and_stays():
    assert rates(partial(schedules.constant, warmup_steps=3), 6) == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


def test_multistep_falls_at_the_start_of_an_epoch():
    assert rates(partial(schedules.multistep, milestones=[1, 3], gamma=0.5), 8) == [
        1,
        1,
        0.5,
        0.5,
        0.5,
        0.5,
        0.25,
        0.25,
    ]


def test_multistep_does_not_depend_on_the_length_of_the_run():
    schedule = partial(schedules.multistep, milestones=[2])
    assert rates(schedule, 8, total_steps=8) == rates(schedule, 8, total_steps=80)


def test_cosine_is_half_way_down_half_way_through():
    seen = rates(partial(schedules.cosine, warmup_steps=2, final=0.2), 10)
    assert seen[:3] == pytest.approx([1 / 3, 2 / 3, 1.0])
    assert seen[6] == pytest.approx(0.6)  # step 6 is half of the way from 2 to 10
    assert rates(partial(schedules.cosine, final=0.2), 11)[10] == pytest.approx(0.2)


def test_cosine_wants_to_know_the_end():
    with pytest.raises(ValueError, match=r"max_epochs or trainer.max_steps"):
        schedules.cosine(optimizer(), total_steps=math.inf, steps_per_epoch=2)


def test_one_cycle_of_torch_takes_the_same_arguments():
    seen = rates(partial(OneCycleLR, max_lr=2.0), 10)
    assert max(seen) == pytest.approx(2.0)
