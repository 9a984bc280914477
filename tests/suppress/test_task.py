"""Losses and figures of suppression, with values known by hand."""

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from cxr.suppress.task import SuppressionTask, dice
from cxr.suppress.unet import UNet

Adam = partial(torch.optim.Adam, lr=0.01)


def task() -> SuppressionTask:
    torch.manual_seed(0)
    return SuppressionTask(UNet((8, 8)), Adam)


def batch(residual: float = 0.1, side: int = 16) -> dict[str, Tensor]:
    """One film, 12 high on a square, 0.3 on its left half, 0.7 on its right, the same residual everywhere on it."""
    valid = torch.zeros(1, 1, side, side)
    valid[..., :12, :] = 1
    masks = torch.zeros(1, 3, side, side)
    masks[:, 0, :4] = 1
    film = 0.3 * valid
    film[..., side // 2 :] *= 7 / 3
    return {"film": film, "residual": residual * valid, "masks": masks, "valid": valid}


def test_an_untrained_network_leaves_the_film_as_it_is() -> None:
    fresh = task().eval()
    measured = fresh.measure(batch())
    assert torch.equal(measured["suppressed"], batch()["film"])
    figures = fresh.figures()
    assert figures["psnr"] == figures["psnr_untouched"] == pytest.approx(20)  # 10 log10(1 / 0.1^2)
    assert figures["removed"] == pytest.approx(0)


def test_the_padding_counts_in_no_loss() -> None:
    losses = task().losses(batch())
    assert losses["loss_l1"].item() == pytest.approx(0.1)  # not 0.1 × 12 / 16
    assert losses["loss_gradient"].item() == pytest.approx(0.1 * 16 / (12 * 16))  # the lower border, 16 steps of 0.1


def test_a_residual_half_right_removes_three_quarters_of_the_energy() -> None:
    half = task().eval()
    nn.init.constant_(half.network.head.bias, 0.05 / 0.4)  # in units of the film's spread, 0.7 - 0.3
    half.measure(batch())
    figures = half.figures()
    assert figures["removed"] == pytest.approx(0.75, abs=1e-5)
    assert figures["psnr"] == pytest.approx(20 + 20 * torch.log10(torch.tensor(2.0)).item(), abs=1e-4)


def test_dice_of_overlapping_halves_and_of_nothing() -> None:
    made, truth = torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 4, 4)
    made[0, 0, :2], truth[0, 0, 1:3] = 1, 1
    assert dice(made, truth)[0].tolist() == pytest.approx([0.5, 1.0])


def test_a_network_learns_to_take_off_a_constant() -> None:
    learner = task()
    optimizer = Adam(learner.parameters())
    for _ in range(60):
        loss = learner.losses(batch())["loss_l1"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    learner.eval().measure(batch())
    assert learner.figures()["removed"] > 0.9


def test_the_table_names_what_was_measured() -> None:
    done = task().eval()
    done.measure(batch())
    metrics = {f"test/{name}": value for name, value in done.figures().items()}
    assert done.table(metrics, [None]).row_count == 7
    assert set(done.monitors()) < {name.removeprefix("test/") for name in metrics}


def test_levels_must_have_whole_groups() -> None:
    with pytest.raises(ValueError, match="multiples of 8"):
        UNet((16, 20))


def test_an_untrained_network_takes_nothing_off_and_each_of_its_masks_teaches_the_first_layer() -> None:
    torch.manual_seed(0)
    network = UNet((8, 8))
    residual, logits = network(torch.rand(1, 1, 16, 16))
    assert residual.abs().max() == 0
    for mask in logits[0]:  # from weights of 0 no gradient comes, and the heart was never learnt
        (gradient,) = torch.autograd.grad(mask[:8].sum(), network.down[0][0][0].weight, retain_graph=True)  # type: ignore[index, arg-type]
        assert gradient.any()


def test_a_film_of_half_the_contrast_has_half_the_residual_and_the_same_masks() -> None:
    torch.manual_seed(0)
    network = UNet((8, 8))
    nn.init.ones_(network.head.weight)
    film = torch.rand(1, 1, 32, 32)
    residual, logits = network(film)
    halved, same = network(0.2 + 0.5 * film)
    assert torch.allclose(halved, 0.5 * residual, atol=1e-4)
    assert torch.allclose(same, logits, atol=1e-3)


def test_the_empty_part_of_a_square_does_not_change_the_contrast() -> None:
    torch.manual_seed(0)
    network = UNet((8, 8))
    nn.init.constant_(network.head.bias, 0.1)
    film = torch.full((1, 1, 16, 32), 0.3)
    film[..., 16:] = 0.7
    padded = torch.cat([film, torch.zeros(1, 1, 64, 32)], dim=2)
    assert network(padded)[0].unique().item() == pytest.approx(0.04)  # 0.1 × (0.7 - 0.3)


def test_ssim_is_worked_out_in_float32_under_autocast() -> None:
    torch.manual_seed(0)
    fresh, films = task().eval(), batch()
    films["film"] = films["film"] + 0.2 * torch.rand(1, 1, 16, 16) * films["valid"]
    fresh.measure(films)
    expected = fresh.figures()["ssim"]
    with torch.autocast("cpu", torch.bfloat16):
        fresh.measure(films)
    assert fresh.figures()["ssim"] == pytest.approx(expected, abs=1e-6)


def test_a_side_that_does_not_halve_is_refused() -> None:
    with pytest.raises(ValueError, match=r"24 × 20 pixels, expected multiples of 8 .* 4 levels.*data\.size"):
        UNet((8, 8, 8, 8))(torch.zeros(1, 1, 24, 20))
