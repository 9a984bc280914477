"""Maps of what a detection was read from: the abstract maps, and two that the library grad-cam does not have.

A box of a detector is read from one of several pyramid levels, through a head that pools a region. Maps of a level are
made between that level and the box's score. ``cxr.explain.library`` runs grad-cam's methods there.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from cxr.detect.candidates import Candidate
from cxr.detect.finite import NotFiniteError
from cxr.explain.reading import FilmReading


class Cam(ABC):
    """One method of explanation. ``knows_the_finding`` says whether two findings at one place can get two maps."""

    knows_the_finding = True

    @abstractmethod
    def evidence(self, film: FilmReading, candidates: Sequence[Candidate]) -> Tensor:
        """Return a map for each candidate, [M, h, w] in the frame of the film; what is not positive is no evidence."""

    def __call__(self, film: FilmReading, candidates: Sequence[Candidate]) -> Tensor:
        """Return a map for each candidate, [M, h, w] float32 in 0..1 with maximum 1, or all zero: nothing was found.

        Raises ``NotFiniteError`` where the evidence holds NaN or infinity: as a zero it would say that there is none.
        """
        evidence = self.evidence(film, candidates).detach().float()
        if not bool(torch.isfinite(evidence).all()):
            raise NotFiniteError(f"a map of {type(self).__name__} is not finite: NaN or infinity in its evidence")
        maps = evidence.clamp(min=0)
        peak = maps.amax((1, 2), keepdim=True)
        return torch.where(peak > 0, maps / peak.clamp(min=torch.finfo(maps.dtype).tiny), maps)


class LevelCam(Cam):
    """A map of the cells of the level a candidate was read from.

    Each cell is weighted by how much of it the head read for this box (``Heads.reach``), unless ``grounded`` is False.
    Without that weight the classical maps point beside the finding two times of three: they paint wherever a channel is
    strong, also where the score of this box could not see it. docs/explanations.md has the figures.
    """

    grounded = True

    @abstractmethod
    def cells(self, film: FilmReading, candidate: Candidate) -> Tensor:
        """Return the evidence of each cell, [h', w'], before it is weighted."""

    def evidence(self, film: FilmReading, candidates: Sequence[Candidate]) -> Tensor:
        """Return the cells' maps, interpolated between the cells' own places on the film."""
        return torch.stack([self._on_film(film, candidate) for candidate in candidates])

    def _on_film(self, film: FilmReading, candidate: Candidate) -> Tensor:
        heads = film.heads  # TypeError for a detector without a level to look at
        cells = self.cells(film, candidate).clamp(min=0)
        return film.on_film(cells * heads.reach(film.level(candidate), candidate) if self.grounded else cells)


class BoxCam(LevelCam):
    """The box-level map: gradient × activation of each cell, through the head that scored this very box.

    HiResCAM (Draelos 2020) on a detector, except that an activation counts from its channel's mean over the film: a
    pyramid's channels have any offset, and an offset says nothing about a place.
    """

    def cells(self, film: FilmReading, candidate: Candidate) -> Tensor:
        """Return the sum over the channels of gradient × activation."""
        level = film.level(candidate)
        gradient = film.heads.gradient(level, candidate)
        return (gradient * (level - level.mean((2, 3), keepdim=True))[0]).sum(0)


class EigenCam(LevelCam):
    """EigenCAM (Muhammad 2020): the first principal component of the cells the head read for this box.

    It cannot tell findings apart: two findings at the same place get the same map. Over all cells of a level, as
    grad-cam takes it, the first component is the edge of the film or of the body and never a finding (hit rate 0 on the
    demo), so cells count by their reach.
    """

    knows_the_finding = False

    def cells(self, film: FilmReading, candidate: Candidate) -> Tensor:
        """Return the cells' values along the component."""
        level = film.level(candidate)[0]
        reach = film.heads.reach(level[None], candidate)
        around = level - torch.einsum("chw,hw->c", level, reach)[:, None, None] / reach.sum()
        flat = (around * reach).flatten(1)  # [C, cells]; the C × C matrix below is small on a level of any size
        direction = torch.linalg.eigh(flat @ flat.T).eigenvectors[:, -1]
        return turned(torch.einsum("c,chw->hw", direction, around), reach)


def turned(component: Tensor, reach: Tensor) -> Tensor:
    """Return a principal component [h, w], which has no sign, with the one that makes its largest value positive.

    Values count by their ``reach`` [h, w].
    """
    read = component * reach
    return component if read.max() >= -read.min() else -component
