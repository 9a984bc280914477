"""Does a map follow the detector? What the score does as the film is taken apart, and the map as the weights are."""

import copy
from collections.abc import Callable, Iterator, Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata  # type: ignore[import-untyped]
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

FRACTIONS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0)
"""Of the film's pixels, removed or shown. Each step is a forward pass, so they are few, and stand where the curve of a
small finding falls: for curves that fall (as a line, exponential or sigmoid) over any part from 1 to 40 % of the film
the area is at most 0.02 off. Eight even steps turn an area of 0.01 into 0.07."""

# Standard deviation as a part of the longer side; RISE's is 5 of 224 px. Findings are large: on drawn films blurred by
# a tenth the detector still gave hearts, scoliosis and infiltrates 0.8 to 1.1 of their score, so that nothing could be
# taken away. Blurred by a half it gave them 0.02, and only infiltrates of both lungs 0.33.
_BLUR = 0.5
_CELLS = 64  # on the longer side, where no detail matters


@torch.no_grad()
def deletion_insertion(
    film: Tensor, maps: Tensor, score: Callable[[Tensor], Tensor], fractions: Sequence[float] = FRACTIONS
) -> list[dict[str, float]]:
    """Return for each map ``deletion`` (low is good) and ``insertion`` (high is good), areas in 0..1 (RISE, 2018).

    Deletion takes pixels from the film in the order of the map, highest first; insertion starts without any and puts
    them back in the same order; the area is that under the score over the fraction of pixels, by trapezoids. What is
    taken is replaced by the film blurred until only its broad light is left: black, RISE's choice for deletion, is air
    on a film, and a hole of air in a body is a structure of its own. Pixels of equal value come in random order, the
    same for every map, so that a map that is constant or mostly zero is not read from top to bottom.

    Scores are divided by that of the whole film, so that a box of score 0.3 and one of 0.9 can be averaged; more than
    the whole film gives counts as 1, or a few boxes of low score would make up the mean.

    Args:
        film: [1, h, w], float 0..1.
        maps: [n, h, w], of the same pixels.
        score: of films [B, 1, h, w] gives the explained score [B], not negative. Called once for the film and the
            blurred one, and once a map for all its steps.
        fractions: ascending from 0 to 1.

    Returns:
        n mappings, empty ones where the whole film scores 0: there is nothing to follow.
    """
    blurred = _blurred(film)
    whole, nothing = score(torch.stack([film, blurred])).reshape(2).tolist()
    if whole <= 0:
        return [{} for _ in maps]
    at = torch.tensor(fractions)
    counts = (at[1:-1] * film.numel()).round().to(film.device)
    figures = []
    for heatmap in maps:
        taken = _rank(heatmap) < counts[:, None, None, None]  # [steps, 1, h, w]
        steps = torch.cat([torch.where(taken, blurred, film), torch.where(taken, film, blurred)])
        deleted, inserted = score(steps).reshape(2, -1).tolist()
        curves = torch.tensor([[whole, *deleted, nothing], [nothing, *inserted, whole]])
        areas = torch.trapezoid((curves / whole).clamp(0, 1), at)
        figures.append({"deletion": areas[0].item(), "insertion": areas[1].item()})
    return figures


def randomised(detector: nn.Module, seed: int = 0) -> Iterator[tuple[str, nn.Module]]:
    """Yield a copy of a detector that forgets part after part, from the output to the input (Adebayo 2018).

    A map that stays the same as the weights go shows the film, not the detector. Yields the name of the part that went
    last, and the copy, the *same* module each time: use it before asking for the next. ``detector`` is not touched.

    The parts go by torchvision's contract, in which a detector registers its modules from input to output: those two
    levels deep (``roi_heads.box_predictor``, ``roi_heads.box_head``, ``rpn.head``, ``backbone.fpn``); the backbone's
    lists and dicts of stages are opened once more (``backbone.body.layer4``, …, ``backbone.body.layer1``); ``head``
    of a single-stage detector is one part, for its branches stand side by side and a class score sees only one.

    Layers are set back by their own ``reset_parameters``, norms included; frozen norms become the identity; parameters
    that no layer can set back are shuffled.
    """
    copied = copy.deepcopy(detector)
    devices = {p.device for p in copied.parameters() if p.device.type == "cuda"}
    for step, name in enumerate(reversed(_parts(copied))):
        with torch.random.fork_rng(list(devices)):
            torch.manual_seed(int(np.random.SeedSequence((seed, step)).generate_state(1)[0]))
            for module in copied.get_submodule(name).modules():
                _forget(module)
        yield name, copied


def similarity(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Return Spearman's rank correlation, -1..1, of two maps [H, W], as Adebayo 2018 compares them.

    Taken on averages over at most 64 × 64 cells: neighbouring pixels of an enlarged map tell the same thing again.
    NaN where one of them is all zero (or constant): there is no map to compare.

    Raises:
        ValueError: maps of different shapes.
    """
    if one.shape != other.shape:
        raise ValueError(f"maps of shapes {one.shape} and {other.shape} cannot be compared")
    ranks = [rankdata(_shrunk(heatmap)) for heatmap in (one, other)]  # equal values have the mean of their ranks
    a, b = (rank - rank.mean() for rank in ranks)
    spread = float((a @ a) * (b @ b)) ** 0.5
    return float(a @ b) / spread if spread > 0 else float("nan")


def _blurred(film: Tensor) -> Tensor:
    """Return the film blurred, with its own mean; on few cells, as a kernel as wide as the film is dear."""
    cells = _shrunk(film[0].float().cpu().numpy())
    light = cv2.GaussianBlur(cells, (0, 0), _BLUR * max(cells.shape), borderType=cv2.BORDER_REFLECT)
    blurred = cv2.resize(light, (film.shape[2], film.shape[1]), interpolation=cv2.INTER_LINEAR)
    return torch.from_numpy(blurred)[None].to(film)


def _rank(heatmap: Tensor) -> Tensor:
    """Return [h, w]: 0 for the highest pixel, h·w - 1 for the lowest, equal ones in random order."""
    values = heatmap.flatten()
    shuffled = torch.randperm(len(values), generator=torch.Generator().manual_seed(0)).to(values.device)
    order = shuffled[values[shuffled].argsort(descending=True, stable=True)]
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=order.device)
    return rank.view_as(heatmap)


def _parts(detector: nn.Module) -> list[str]:
    """Return the names of the parts with something learned in them, as they are registered."""
    names = []
    for name, child in detector.named_children():
        opened = [(name, child)] if name == "head" or not list(child.children()) else _opened(name, child)
        for part, module in opened:
            stages = isinstance(module, nn.Sequential | nn.ModuleList | nn.ModuleDict) and name == "backbone"
            names += [inner for inner, _ in (_opened(part, module) if stages else [(part, module)])]
    return [name for name in names if any(_learned(module) for module in detector.get_submodule(name).modules())]


def _opened(name: str, module: nn.Module) -> list[tuple[str, nn.Module]]:
    return [(f"{name}.{inner}", child) for inner, child in module.named_children()]


def _learned(module: nn.Module) -> bool:
    return isinstance(module, FrozenBatchNorm2d) or next(module.parameters(recurse=False), None) is not None


@torch.no_grad()
def _forget(module: nn.Module) -> None:
    reset = getattr(module, "reset_parameters", None)
    if isinstance(module, FrozenBatchNorm2d):
        for name, value in (("weight", 1), ("bias", 0), ("running_mean", 0), ("running_var", 1)):
            module.get_buffer(name).fill_(value)
    elif callable(reset):
        reset()
    else:
        for parameter in module.parameters(recurse=False):
            order = torch.randperm(parameter.numel(), device=parameter.device)
            parameter.copy_(parameter.flatten()[order].view_as(parameter))


def _shrunk(picture: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the means over at most 64 × 64 cells."""
    scale = min(1.0, _CELLS / max(picture.shape))
    height, width = (max(1, round(side * scale)) for side in picture.shape)
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32, copy=False)
