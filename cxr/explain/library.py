"""The methods of the library grad-cam, on the way from the level a box was read from to the box's score.

grad-cam's classes explain the output of a network at one of its layers. Here the network is the part of a detector
behind one pyramid level, its output is the log-odds of one box, and the layer is the level itself.
"""

import contextlib
import io
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from pytorch_grad_cam.base_cam import BaseCAM
from torch import Tensor, nn
from typing_extensions import override

from cxr.detect.candidates import Candidate
from cxr.explain.cam import LevelCam, turned
from cxr.explain.reading import FilmReading


class LibraryCam(LevelCam):
    """A map of one of grad-cam's methods.

    Args:
        method: a subclass of ``pytorch_grad_cam.base_cam.BaseCAM``, or a partial of one.
        grounded: whether cells are weighted by how much of them the head read for the box. False gives the formula of
            the method's paper, which is made for classifiers.
        knows_the_finding: False for a method that leaves its target unused, as EigenCAM does.
        signed: False for a method whose map is a principal component. It has no sign: its largest value among the cells
            that were read is made positive.

    Raises:
        ValueError: ``method`` is something else.
    """

    def __init__(
        self,
        method: Callable[..., BaseCAM],
        grounded: bool = True,
        knows_the_finding: bool = True,
        signed: bool = True,
    ) -> None:
        kind: Any = method.func if isinstance(method, partial) else method
        if not (isinstance(kind, type) and issubclass(kind, BaseCAM)):
            raise ValueError(f"method is {kind!r}, expected a subclass of pytorch_grad_cam.base_cam.BaseCAM")
        self.method = method
        self.grounded = grounded
        self.knows_the_finding = knows_the_finding
        self.signed = signed

    @override
    def cells(self, film: FilmReading, candidate: Candidate) -> Tensor:
        level = film.level(candidate)
        cells = unscaled(self.method, LevelScore(film, candidate), level)
        if self.signed:
            return cells
        return turned(cells, film.heads.reach(level, candidate) if self.grounded else torch.ones_like(cells))


class LevelScore(nn.Module):
    """The part of a detector behind one pyramid level, as a network of its own.

    It takes maps [B, C, h, w] in place of the level that a candidate was read from, and returns the candidate's
    log-odds [B]. ``level`` passes its input on: it is the layer that grad-cam looks at.
    """

    def __init__(self, film: FilmReading, candidate: Candidate) -> None:
        super().__init__()
        self.level = nn.Identity()
        self.detector: nn.Module = film.detector  # grad-cam asks the parameters for their device
        self.heads, self.candidate = film.heads, candidate

    @override
    def forward(self, level: Tensor) -> Tensor:
        level = self.level(level)
        log_odds = self.heads.even_log_odds if level.requires_grad else self.heads.log_odds
        return log_odds(level, self.candidate)


def unscaled(method: Callable[..., BaseCAM], network: LevelScore, level: Tensor) -> Tensor:
    """Return the map [h, w] of one of grad-cam's methods for ``level`` [1, C, h, w].

    ``BaseCAM.forward`` takes these steps too, and then shifts the map so that its lowest cell is 0 and divides it by
    its maximum. The shift would turn a map that is positive everywhere, as those of small levels are, into another one,
    and that of a level of one cell into nothing. ``forward`` also leaves gradients in the detector's parameters.
    """
    cam: Any = method(network, [network.level])  # its annotations promise tensors where it hands over numpy's arrays
    level = level.detach().clone().requires_grad_(cam.uses_gradients)
    with torch.set_grad_enabled(cam.uses_gradients):
        log_odds = cam.activations_and_grads(level)
        if cam.uses_gradients:
            torch.autograd.grad(log_odds.sum(), level, create_graph=not cam.detach)
    kept = cam.activations_and_grads.activations, cam.activations_and_grads.gradients
    activations, gradients = ((one[0].numpy() if cam.detach else one[0]) if one else None for one in kept)
    with contextlib.redirect_stderr(io.StringIO()):  # its progress bars
        image = cam.get_cam_image(level, network.level, [nn.Identity()], activations, gradients, False)
    return torch.as_tensor(image[0]).to(level)
