"""D-RISE: a map made of the detections on films that are partly covered, without a look into the detector."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn.functional import interpolate
from torchvision.ops import box_iou

from cxr.detect.candidates import Candidate
from cxr.explain.cam import Cam
from cxr.explain.reading import FilmReading


class DRise(Cam):
    """D-RISE (Petsiuk 2021): the mean of random masks, each weighted by what the detector still finds through it.

    A mask's weight is the highest IoU × score among the detections of the finding on the masked film. Nothing inside
    the detector is touched, so any detector will do; what is masked turns to air. The mean over all masks is taken off,
    else the map would mostly show how often a pixel was uncovered.

    Args:
        masks: the more, the less grain; the error falls with their root.
        cells: of the coarse grid a mask is made of, along the longer side.
        uncovered: share of cells left open.
        batch_size: films at once.
        seed: of the masks.
    """

    def __init__(
        self, masks: int = 1000, cells: int = 12, uncovered: float = 0.5, batch_size: int = 16, seed: int = 0
    ) -> None:
        self.masks = masks
        self.cells = cells
        self.uncovered = uncovered
        self.batch_size = batch_size
        self.seed = seed

    @torch.no_grad()
    def evidence(self, film: FilmReading, candidates: Sequence[Candidate]) -> Tensor:
        """Return the maps of all candidates from one set of masks."""
        sums = film.image.new_zeros(len(candidates), *film.size)
        total, everything = sums.new_zeros(len(candidates)), sums.new_zeros(film.size)
        for masks in self._masks(film.size):
            masks = masks.to(film.image.device)
            detections = film.detector(list(film.image * masks[:, None]))
            weights = torch.stack(
                [torch.stack([_likeness(one, c) for c in candidates]) for one in detections]
            )  # [B, M]
            sums += torch.einsum("bm,bhw->mhw", weights, masks)
            total += weights.sum(0)
            everything += masks.sum(0)
        return (sums - total[:, None, None] * everything / self.masks) / self.masks

    def _masks(self, size: tuple[int, int]) -> Iterator[Tensor]:
        """Yield masks [B, h, w] of 0..1: random cells, enlarged smoothly and shifted by part of a cell (RISE, 3.2)."""
        generator = torch.Generator().manual_seed(self.seed)
        cell = -(-max(size) // self.cells)
        rows, columns = (-(-side // cell) for side in size)
        for start in range(0, self.masks, self.batch_size):
            count = min(self.batch_size, self.masks - start)
            coarse = (torch.rand(count, 1, rows + 1, columns + 1, generator=generator) < self.uncovered).float()
            fine = interpolate(coarse, scale_factor=cell, mode="bilinear")[:, 0]
            y, x = (int(torch.randint(cell, (), generator=generator)) for _ in range(2))
            yield fine[:, y : y + size[0], x : x + size[1]]


def _likeness(detections: dict[str, Tensor], candidate: Candidate) -> Tensor:
    """Return the highest IoU × score of a masked film's detections of the candidate's finding, 0 without any."""
    same = detections["labels"] == candidate.label
    likeness = box_iou(candidate.box[None], detections["boxes"][same])[0] * detections["scores"][same]
    return likeness.max() if len(likeness) else likeness.new_zeros(())
