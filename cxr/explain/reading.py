"""One film as a detector reads it, opened between the feature pyramid and the heads."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import grid_sample
from torchvision.ops import box_iou

from cxr.detect.candidates import Candidate, detections_as_candidates
from cxr.detect.detector import Detector
from cxr.detect.heads import Heads
from cxr.findings import BACKGROUND


class FilmReading:
    """One film, and the detector's way through it.

    Args:
        detector: is put into eval mode.
        image: [1, h, w] float32 in 0..1, the film in the network frame.

    Attributes, the first two only of a detector whose heads are known:
        batch: [1, C, H, W], padded and normalised; the film lies in its upper left corner.
        pyramid: the backbone's maps by name, [1, C, h', w'] each, without gradient.
        detections: {boxes [N, 4] xyxy in the network frame, labels int64 [N], scores [N]} of this film.
    """

    def __init__(self, detector: Detector, image: Tensor) -> None:
        self.detector = detector.eval()
        self.image = image
        self.size = (image.shape[-2], image.shape[-1])
        self._heads = detector.heads()
        with torch.no_grad():
            read = detector.pyramid([image])
            self.detections: dict[str, Tensor] = detector.boxes([image], read)[0]
            if self._heads is None:
                self.candidates = detections_as_candidates(self.detections)
                return
            self.batch: Tensor = read.images.tensors
            self.pyramid: dict[str, Tensor] = read.maps
            self.candidates = self._heads.candidates(read.images, self.pyramid)

    @property
    def heads(self) -> Heads:
        """What stands behind the pyramid; TypeError for a detector that can only be asked from outside."""
        if self._heads is None:
            name = type(self.detector).__name__
            raise TypeError(f"{name} does not say what stands behind its pyramid; type cam=drise, which need not know")
        return self._heads

    def level(self, candidate: Candidate) -> Tensor:
        """Return the map [1, C, h', w'] a candidate was read from."""
        return list(self.pyramid.values())[candidate.level]

    def chosen(self, threshold: float | Mapping[int, float], most: int = 3) -> list[Candidate]:
        """Return what is to be explained.

        For each finding its strongest detection of at least ``threshold`` (one for all, or one for each class), the
        ``most`` strongest of these; where there is none, the strongest candidate of all, below the threshold; nothing
        where there is no candidate either.
        """
        found = [
            self.candidates.behind(self.detections["boxes"][row], *scored)
            for row, scored in strongest(self.detections, threshold).items()
        ]
        ranked = sorted(found, key=lambda candidate: -candidate.score)
        return ranked[:most] or ([self.candidates.strongest()] if len(self.candidates.scores) else [])

    def maps(self, cam: Callable[["FilmReading", Sequence[Candidate]], Tensor], chosen: Sequence[Candidate]) -> Tensor:
        """Return the map of each candidate by a method, [M, h, w] of 0..1 (``cxr.explain.cam.Cam``)."""
        return cam(self, chosen)

    def log_odds_of(self, candidate: Candidate, batch: Tensor) -> Tensor:
        """Return the candidate's log-odds [B] were ``batch`` [B, C, H, W] (normalised, padded) the film.

        Differentiable through the whole network, with the box's region or anchor held fixed.
        """
        heads = self.heads
        pyramid: dict[str, Tensor] = self.detector.backbone(batch)
        return heads.log_odds_of(pyramid, candidate)

    def on_film(self, cells: Tensor) -> Tensor:
        """Return a map [h', w'] of a pyramid level as [h, w] in the frame of the film, padding cropped.

        Cell i stands over pixel i · stride: there lies the centre of its receptive field (each halving is a
        convolution with padding 1 that starts on pixel 0), and there RoIAlign and the anchors of torchvision take it
        from. Resizing a map as a picture would put it half a stride down and to the right, 16 px at stride 32.
        """
        rows, columns = cells.shape
        stride = 2 ** math.ceil(math.log2(self.batch.shape[-2] / rows))  # a level rounds its number of rows up
        y = torch.arange(self.size[0], device=cells.device) / stride
        x = torch.arange(self.size[1], device=cells.device) / stride
        y, x = (2 * y / max(rows - 1, 1) - 1).clamp(max=1), (2 * x / max(columns - 1, 1) - 1).clamp(max=1)
        grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)[None].to(cells.dtype)
        return grid_sample(cells[None, None], grid, align_corners=True, padding_mode="border")[0, 0]


def strongest(detections: Mapping[str, Tensor], threshold: float | Mapping[int, float]) -> dict[int, tuple[int, float]]:
    """Return for each finding its strongest detection from ``threshold`` up: its row, with its class and its score."""
    labels, scores = (detections[name].tolist() for name in ("labels", "scores"))
    best: dict[int, int] = {}  # class → row
    for row, (label, score) in enumerate(zip(labels, scores, strict=True)):
        if label == BACKGROUND:
            continue
        least = threshold[label] if isinstance(threshold, Mapping) else threshold
        if score >= least and (label not in best or score > scores[best[label]]):
            best[label] = row
    return {row: (label, scores[row]) for label, row in best.items()}


def detector_score(detector: nn.Module, box: Tensor, label: int) -> Callable[[Tensor], Tensor]:
    """Return a function from films [B, 1, h, w] to what the whole detector says of a finding at a box, [B] in 0..1.

    The highest IoU × score among the detections of class ``label`` (D-RISE, Petsiuk 2021, without its class vector);
    ``box`` [4] is in the network frame. Any detector in torchvision's contract will do.
    """
    return partial(_detector_scores, detector, box, label)


@torch.no_grad()
def _detector_scores(detector: nn.Module, box: Tensor, label: int, films: Tensor) -> Tensor:
    detections: Sequence[dict[str, Tensor]] = detector.eval()(list(films))
    scores = [
        (box_iou(box[None], some["boxes"])[0] * some["scores"] * (some["labels"] == label)) for some in detections
    ]
    return torch.stack([some.max() if len(some) else some.new_zeros(()) for some in scores])
