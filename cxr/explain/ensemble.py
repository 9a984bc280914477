"""One film as the members of an ensemble read it: the fused boxes, and for each the mean of the members' maps.

Each member explains, on the film as it is, its own detection of the finding that overlaps the fused box most. The map
of the fused box is the mean of these maps, 0..1 each, over the members that have such a detection. It is not stretched
to the maximum 1 again, so it is bright where the members looked at the same place, and pale where each looked
elsewhere. A box that no member has on the film as it is, but in another view only, has a map of zeros.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import box_iou

from cxr.detect.candidates import Candidate, Candidates, detections_as_candidates
from cxr.detect.detector import Detector
from cxr.detect.ensemble import Ensemble
from cxr.explain.reading import FilmReading, strongest

Method = Callable[[FilmReading, Sequence[Candidate]], Tensor]


@dataclass(frozen=True)
class FusedBox(Candidate):
    """A box of an ensemble, which no level was read for, and how far the members disagree about it (``Ensemble``)."""

    disagreement: float | None = None


class EnsembleReading:
    """One film, and the way of each member through it.

    Args:
        ensemble: is put into eval mode.
        image: [1, h, w] float32 in 0..1, the film in the network frame.

    Attributes:
        detections: the fused ones, see ``Ensemble.detect``.
        candidates: the same, for who looks a box up.
        members: the film as each member reads it.
    """

    def __init__(self, ensemble: Ensemble, image: Tensor) -> None:
        self.image = image
        self.size = (image.shape[-2], image.shape[-1])
        self.detections = ensemble.eval().detect([image])[0]
        self.candidates: Candidates = detections_as_candidates(self.detections)
        self.members = [FilmReading(member, image) for member in ensemble.detectors]

    def chosen(self, threshold: float | Mapping[int, float], most: int = 3) -> list[Candidate]:
        """Return what is to be explained, as ``FilmReading.chosen`` does, of the fused boxes."""
        rows = list(strongest(self.detections, threshold))
        if not rows and len(self.detections["scores"]):
            rows = [int(self.detections["scores"].argmax())]
        boxes: list[Candidate] = [self._fused(row) for row in rows]
        return sorted(boxes, key=lambda box: -box.score)[:most]

    def maps(self, cam: Method, chosen: Sequence[Candidate]) -> Tensor:
        """Return the map of each fused box by a method, [M, h, w] of 0..1: the mean of the members' maps."""
        return torch.stack([self._map(cam, box) for box in chosen])

    def _map(self, cam: Method, box: Candidate) -> Tensor:
        nearest = [(reading, _nearest(reading, box)) for reading in self.members]
        maps = [cam(reading, [candidate])[0] for reading, candidate in nearest if candidate is not None]
        return torch.stack(maps).mean(0) if maps else self.image.new_zeros(self.size)

    def _fused(self, row: int) -> FusedBox:
        boxes, labels, scores = (self.detections[name][row] for name in ("boxes", "labels", "scores"))
        apart = self.detections.get("disagreement")
        return FusedBox(
            int(labels), float(scores), boxes, 0, torch.tensor(row), None if apart is None else float(apart[row])
        )


Reading = FilmReading | EnsembleReading


def as_read(detector: Detector | Ensemble, image: Tensor) -> Reading:
    """Return a film as a detector or an ensemble reads it: ``image`` [1, h, w] float32 in 0..1 in the network frame."""
    return EnsembleReading(detector, image) if isinstance(detector, Ensemble) else FilmReading(detector, image)


def members_of(detector: Detector | Ensemble) -> list[Detector]:
    """Return the detectors that answer together; a detector by itself is the only one."""
    return detector.detectors if isinstance(detector, Ensemble) else [detector]


def _nearest(reading: FilmReading, box: Candidate) -> Candidate | None:
    """Return what a member's detection was read from that overlaps a fused box most; None where none does."""
    of_finding = reading.detections["labels"] == box.label
    boxes, scores = reading.detections["boxes"][of_finding], reading.detections["scores"][of_finding]
    overlaps = box_iou(box.box[None].to(boxes), boxes)[0]
    if not len(overlaps) or not overlaps.max() > 0:
        return None
    row = int(overlaps.argmax())
    return reading.candidates.behind(boxes[row], box.label, float(scores[row]))
