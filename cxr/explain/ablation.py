"""AblationCAM for detectors: all channels of a level at once where the heads allow it.

grad-cam's AblationCAM runs the network once for each channel. cam=ablationcam takes this one.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from typing_extensions import override

from cxr.detect.candidates import Candidate
from cxr.detect.heads import PooledHeads, softmax_log_odds
from cxr.explain.cam import LevelCam
from cxr.explain.reading import FilmReading

# Value a channel is set to: its own mean over the film, 0, or grad-cam's, far below everything the level holds.
VALUES = ("mean", "zero", "low")
LOW = 1e7  # below the level's minimum, as in grad-cam


class AblationCam(LevelCam):
    """AblationCAM (Desai 2020): each channel weighted by the score it costs when it is taken away.

    A channel k of the box's level is set to a constant c_k, all others and the box's region stay, and the heads run
    again: weight y - y_k, y the log-odds of the finding. (The paper divides by y, which for log-odds may be 0 or
    negative and would only scale the map.) A cell gets its channels' weights in proportion to what was taken from it,
    ``|A_k - c_k|``. Behind a ReLU with c_k = 0 that is the paper's A_k; in a pyramid, whose channels have any sign, A_k
    itself would credit the cells that the ablation left as they were.

    Where the heads begin with two linear layers (TwoMLPHead) an ablated channel takes its share off the first layer's
    sum and nothing else changes there, so all channels together are three matrix products; other heads run on batches
    of ablated levels. Every channel is ablated.

    Args:
        value: what an ablated channel is set to. "mean", of the channel over the film: it then says nothing about the
            place. "zero" is what the paper does behind a ReLU; in a pyramid, whose channels have any offset, zero is a
            statement like any other. "low" is grad-cam's (1e7 below the minimum): the head never saw anything like it.
        batch_size: ablated levels at once, where the heads must run again.
    """

    def __init__(self, value: str = "mean", batch_size: int = 32) -> None:
        if value not in VALUES:
            raise ValueError(f"value is {value!r}, expected one of {', '.join(VALUES)}")
        self.value = value
        self.batch_size = batch_size

    @torch.no_grad()
    @override
    def cells(self, film: FilmReading, candidate: Candidate) -> Tensor:
        level = film.level(candidate)
        weights = film.heads.log_odds(level, candidate) - self.ablated(film, candidate)
        taken = (level[0] - constants(level[0], self.value)[:, None, None]).abs()
        return torch.einsum("c,chw->hw", weights, taken)

    @torch.no_grad()
    def ablated(self, film: FilmReading, candidate: Candidate) -> Tensor:
        """Return the candidate's log-odds without each channel of its level, [C]."""
        level = film.level(candidate)
        values = constants(level[0], self.value)
        heads = film.heads
        if isinstance(heads, PooledHeads) and two_linear_layers(heads):
            return in_closed_form(heads, level, values, candidate)
        return by_loop(film, level, values, candidate, self.batch_size)


def constants(level: Tensor, value: str) -> Tensor:
    """Return what each channel of a level [C, h, w] is set to, [C]."""
    if value == "mean":
        return level.mean((1, 2))
    return level.new_full((len(level),), 0.0 if value == "zero" else float(level.min()) - LOW)


def two_linear_layers(heads: PooledHeads) -> bool:
    """Whether a region's score follows from its pooled cells through fc6, ReLU, fc7, ReLU and a linear layer."""
    return isinstance(heads.heads.box_head, TwoMLPHead) and isinstance(heads.heads.box_predictor, FastRCNNPredictor)


def in_closed_form(heads: PooledHeads, level: Tensor, values: Tensor, candidate: Candidate) -> Tensor:
    """Return the log-odds without each channel, [C], of a box head of two linear layers.

    Pooling is linear, and so is fc6: with p_k the pooled channel k, c_k its constant (pooled as well: samples outside
    the level are 0) and W_k the columns of fc6 behind it, ablation turns the sum z into z - W_k (p_k - c_k).
    """
    head: Any = heads.heads.box_head
    channels = level.shape[1]
    pooled = heads.pool(level, candidate)[0].flatten(1)  # [C, 49]
    constant = heads.pool(torch.ones_like(level[:, :1]), candidate)[0].flatten(1) * values[:, None]
    columns = head.fc6.weight.view(-1, channels, pooled.shape[1])  # [hidden, C, 49]
    shares = torch.einsum("hcp,cp->ch", columns, pooled - constant)
    whole = linear(pooled.flatten()[None], head.fc6.weight, head.fc6.bias)
    hidden = head.fc7((whole - shares).relu()).relu()
    return softmax_log_odds(heads.logits(hidden), candidate.label)


def by_loop(film: FilmReading, level: Tensor, values: Tensor, candidate: Candidate, batch_size: int) -> Tensor:
    """Return the log-odds without each channel, [C], by running the heads on batches of ablated levels."""
    odds = []
    for channels in torch.split(torch.arange(level.shape[1], device=level.device), batch_size):
        ablated = level.repeat(len(channels), 1, 1, 1)
        ablated[torch.arange(len(channels)), channels] = values[channels, None, None]
        odds.append(film.heads.log_odds(ablated, candidate))
    return torch.cat(odds)
