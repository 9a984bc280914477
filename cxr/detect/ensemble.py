"""Several detectors, each with several views of a film, that answer as one detector.

Every member looks at every view. What they detect is mapped back to the film and fused finding by finding by weighted
boxes fusion (Solovyev, Wang and Gabruseva 2021, arXiv:1910.13302). The scores of the whole film are the means over
members and views.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.ops import clip_boxes_to_image

from cxr.data.weighted_boxes import box_iou, fuse_boxes
from cxr.detect.detector import Boxes, Detector, Images
from cxr.detect.image_head import ImageHead
from cxr.detect.task import in_original
from cxr.detect.views import View
from cxr.findings import FindingVocabulary
from cxr.measure.box_scores import ScoreCurve

SAME_IOU = 0.55
"""Boxes of one finding that overlap by more are one: the value of the paper."""
MOST = 100
"""The best so many boxes of a film are kept, as detectors do by default."""


class Ensemble(nn.Module):
    """Detectors of the same findings that answer as one, in the frame of the images.

    The score of a fused box is the sum of the scores of its boxes, divided by the number of looks (members × views), or
    by the number of its boxes where these are more: a box that half of the looks have lost half of its score, and no
    score is over 1. With ``curves`` it then becomes a probability (``ScoreCurve``).

    The disagreement of a fused box is 1 minus the mean over the members of their overlap (IoU) with it, 0 for a member
    that has no box there. 0: all have drawn this very box. 0.8: one of five has drawn it. It is there where several
    members are.

    Args:
        members: detectors; their findings, and the films that they read, are the same.
        findings: K.
        views: of each film.
        curves: of the fused scores, by class 1..K; a class that is missing keeps its scores.
    """

    def __init__(
        self,
        members: Sequence[Detector],
        findings: int,
        views: Sequence[View] = (View(),),
        curves: Mapping[int, ScoreCurve] | None = None,
    ) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.findings = findings
        self.views = tuple(views)
        self.curves = dict(curves or {})

    @property
    def detectors(self) -> list[Detector]:
        """The members."""
        return cast(list[Detector], list(self.members))

    @torch.no_grad()
    def detect(self, images: Images) -> list[Boxes]:
        """Return what the members say together of each film: that of ``Detector.detect``, and ``disagreement`` [M]."""
        looks: list[list[_Look]] = [[] for _ in images]
        for number, member in enumerate(self.detectors):
            for view in self.views:
                answers = member.detect([view.of_film(image) for image in images])
                for of_film, image, answer in zip(looks, images, answers, strict=True):
                    of_film.append(_looked(number, view, answer, (image.shape[-2], image.shape[-1])))
        return [self._together(of_film, image.device) for of_film, image in zip(looks, images, strict=True)]

    def forward(self, images: Images) -> list[Boxes]:
        """Return the fused boxes of each film, with labels and scores: torchvision's contract."""
        return [{name: answer[name] for name in ("boxes", "labels", "scores")} for answer in self.detect(images)]

    def _together(self, looks: Sequence["_Look"], device: torch.device) -> Boxes:
        members = np.concatenate([np.full(len(look.scores), look.member) for look in looks])
        boxes, labels, scores = (
            np.concatenate([getattr(look, name) for look in looks]) for name in ("boxes", "labels", "scores")
        )
        fused = [
            self._fused(label, *(column[labels == label] for column in (boxes, scores, members)))
            for label in np.unique(labels).tolist()
        ]
        columns = [np.concatenate(column) for column in zip(_NOTHING, *fused, strict=True)]
        order = np.argsort(-columns[2], kind="stable")[:MOST]
        names = ("boxes", "labels", "scores", "disagreement")
        answer = {name: torch.from_numpy(column[order]) for name, column in zip(names, columns, strict=True)}
        if len(self.members) == 1:
            del answer["disagreement"]
        answer["finding_scores"] = torch.stack([look.finding_scores for look in looks]).mean(0)
        answer["abnormal"] = torch.stack([look.abnormal for look in looks]).mean(0)
        return {name: value.to(device) for name, value in answer.items()}

    def _fused(
        self, label: int, boxes: NDArray[np.float32], scores: NDArray[np.float32], members: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]:
        """Return the fused boxes of one finding, their labels, scores and disagreement."""
        fused, cluster = fuse_boxes(boxes, scores, SAME_IOU)
        looks = np.maximum(np.bincount(cluster), len(self.members) * len(self.views))
        together = (np.bincount(cluster, weights=scores) / looks).astype(np.float32)
        overlap = np.zeros((len(fused), len(self.members)), np.float32)
        np.maximum.at(overlap, (cluster, members), box_iou(boxes, fused)[np.arange(len(boxes)), cluster])
        curve = self.curves.get(label)
        scored = together if curve is None else curve(together)
        return fused, np.full(len(fused), label, np.int64), scored, 1 - overlap.mean(1)


@dataclass(frozen=True)
class EnsembleDetector:
    """An ensemble where a trained detector is held: a ``FilmDetector``.

    Args:
        findings: the vocabulary behind the class indices.
        detector: the members and their views.
    """

    findings: FindingVocabulary
    detector: Ensemble

    @property
    def device(self) -> torch.device:
        """Where the members are."""
        return next(self.detector.parameters()).device

    @property
    def image_head(self) -> ImageHead | None:
        """None: each member has chosen for itself how it counts the whole film."""
        return None

    def detect(self, images: list[Tensor], targets: list[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
        """Return what is said of each film, as ``DetectionTask.detect``, and the disagreement [M] of the members."""
        answers = self.detector.detect(images)
        return [in_original(answer, target) for answer, target in zip(answers, targets, strict=True)]


@dataclass(frozen=True, eq=False)
class _Look:
    """What one member says of one view of a film: boxes in the frame of the film, and scores of the whole film."""

    member: int
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    scores: NDArray[np.float32]
    finding_scores: Tensor
    abnormal: Tensor


_NOTHING = (np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.float32), np.zeros(0, np.float32))


def _looked(member: int, view: View, answer: Boxes, size: tuple[int, int]) -> _Look:
    boxes = clip_boxes_to_image(view.boxes_on_film(answer["boxes"].float(), size), size)
    # of a turned film a box may lie outside; one with NaN stays, so that the film is known to have failed
    inside = ~(boxes[:, 2:] <= boxes[:, :2]).any(1)
    return _Look(
        member,
        boxes[inside].cpu().numpy(),
        answer["labels"][inside].cpu().numpy(),
        answer["scores"][inside].float().cpu().numpy(),
        answer["finding_scores"].float().cpu(),
        answer["abnormal"].float().cpu(),
    )
