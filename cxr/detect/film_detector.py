"""The interface that calibration, evaluation and prediction use: something that finds boxes on films."""

from typing import Protocol

import torch
from torch import Tensor, nn

from cxr.detect.image_head import ImageHead
from cxr.findings import FindingVocabulary

Boxes = list[dict[str, Tensor]]


class FilmDetector(Protocol):
    """Finds boxes on films in their original pixels: a trained task, or an exported network in its place."""

    @property
    def findings(self) -> FindingVocabulary:
        """The vocabulary behind the class indices."""

    @property
    def device(self) -> torch.device:
        """The device that images must be on."""

    @property
    def detector(self) -> nn.Module:
        """The layers, for code that checks what they compute; None where they are not accessible."""

    @property
    def image_head(self) -> ImageHead | None:
        """The classifier of whole films whose share in the scores is chosen after training, where there is one."""

    def detect(self, images: list[Tensor], targets: Boxes) -> Boxes:
        """Return the detections of each film; see ``DetectionTask.detect``."""
