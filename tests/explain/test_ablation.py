"""AblationCAM: the closed form, the loop, and a case known by hand."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from cxr.config.models import build
from cxr.detect.heads import PooledHeads
from cxr.explain.ablation import AblationCam, by_loop, constants, in_closed_form, two_linear_layers
from cxr.explain.reading import FilmReading

Make = Callable[[list[list[float]]], nn.Module]


def test_taking_the_bright_channel_away_costs_what_it_gave(detector_of: Make, two_lesions: Tensor) -> None:
    """Region of exactly the bright lesion: its mean is 0.5, so the class's logit is 40 · 0.5 against 0 and 0."""
    film = FilmReading(detector_of([[18.0, 18.0, 38.0, 38.0]]), two_lesions)
    candidate = film.candidates.at(0, 1)
    odds = film.heads.log_odds(film.level(candidate), candidate).item()
    assert odds == pytest.approx(20 - torch.tensor(2.0).log().item(), abs=1e-4)
    without = AblationCam("zero").ablated(film, candidate)
    assert without.tolist() == pytest.approx([-torch.tensor(2.0).log().item(), odds], abs=1e-4)


@pytest.mark.parametrize("value", ["mean", "zero", "low"])
@pytest.mark.parametrize("name", ["fasterrcnn_tiny", "fasterrcnn_mobilenet"])
def test_closed_form_and_loop_are_equal(name: str, value: str) -> None:
    torch.manual_seed(1)
    detector = build(name, 8, anchors__image_size=96).double()
    detector.roi_heads.box_predictor.cls_score.weight.data.mul_(50)  # untrained scores hardly move
    film = FilmReading(detector, torch.rand(1, 96, 80, dtype=torch.float64))
    assert isinstance(film.heads, PooledHeads)
    assert two_linear_layers(film.heads)
    for row in (0, 1, 2):
        candidate = film.candidates.at(row, 3)
        level = film.level(candidate)
        values = constants(level[0], value)
        closed = in_closed_form(film.heads, level, values, candidate)
        looped = by_loop(film, level, values, candidate, batch_size=7)
        assert closed.shape == (level.shape[1],)
        assert closed.std() > 0
        torch.testing.assert_close(closed, looped, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["fasterrcnn_v2", "retinanet", "fcos", "ssdlite"])
def test_other_heads_are_looped_over_every_channel(name: str) -> None:
    torch.manual_seed(0)
    detector = build(name, 3)
    film = FilmReading(detector, torch.rand(1, 64, 64))
    candidate = film.candidates.strongest()
    odds = AblationCam(batch_size=100).ablated(film, candidate)
    assert odds.shape == (film.level(candidate).shape[1],)
    level = film.level(candidate).clone()
    level[:, 5] = level[:, 5].mean()
    assert odds[5].item() == pytest.approx(film.heads.log_odds(level, candidate).item(), abs=1e-4)


def test_an_unknown_value_is_told() -> None:
    with pytest.raises(ValueError, match="value is 'median', expected one of mean, zero, low"):
        AblationCam("median")
