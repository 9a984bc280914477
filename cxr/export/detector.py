"""An exported detector in the place of a ``DetectionTask`` that only detects."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cxr.detect.image_head import with_image_scores
from cxr.detect.task import in_original
from cxr.export.card import Card
from cxr.export.graph import IMAGE_OUTPUT, OUTPUTS
from cxr.export.runtimes import RUNNERS, Runtime
from cxr.findings import BACKGROUND, FindingVocabulary


class ExportedDetector:
    """Says of films what ``DetectionTask.detect`` says of them, and says it from several threads at once.

    Args:
        card: of the network.
        runtime: the network, opened.
    """

    device = torch.device("cpu")
    image_head = None  # what its network says of whole films is fused here
    detector = nn.Module()  # who looks for its layers finds none: what they compute is not to be seen from here

    def __init__(self, card: Card, runtime: Runtime) -> None:
        self.card = card
        self.findings = FindingVocabulary(**card.findings)
        self.runtime = runtime

    def detect(self, images: list[Tensor], targets: list[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
        """Return what ``DetectionTask.detect`` returns, on the CPU.

        Of a film of which the network computed NaN or infinity there are no boxes, and all its scores are NaN.
        """
        films, sizes = self._canvas(images)
        found = {name: torch.from_numpy(value) for name, value in self.runtime(films, sizes).items()}
        return [self._of_film({k: v[n] for k, v in found.items()}, target) for n, target in enumerate(targets)]

    def _of_film(self, found: dict[str, Tensor], target: dict[str, Tensor]) -> dict[str, Tensor]:
        if not torch.isfinite(found["scores"]).all():
            nothing = {"boxes": found["boxes"][:0], "labels": found["labels"][:0], "scores": found["scores"][:0]}
            unknown = torch.full((len(self.findings.names) + 1,), torch.nan)
            return {**nothing, "finding_scores": unknown[1:], "abnormal": unknown[0]}
        there = found["labels"] != BACKGROUND  # what is absent has the label of the background
        boxes = in_original({name: found[name][there] for name in OUTPUTS}, target)
        image = found.get(IMAGE_OUTPUT)
        logits = None if image is None else image.double().logit()  # of 0 and 1 too: their sigmoid is 0 and 1 again
        weights = self.card.box_weight, self.card.film_weight
        return with_image_scores(boxes, len(self.findings.names), logits, *weights)

    def _canvas(self, images: list[Tensor]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return the films on square canvases, as ``PadAndNormalize`` lays them in eval mode, and their sizes."""
        sizes = np.array([image.shape[-2:] for image in images], np.int64)
        side = -(-int(sizes.max()) // self.card.stride) * self.card.stride
        films = np.zeros((len(images), images[0].shape[0], side, side), np.float32)
        for canvas, image, (height, width) in zip(films, images, sizes, strict=True):
            if image.shape[0] != self.card.channels:
                raise ValueError(
                    f"a film has shape {tuple(image.shape)}, and this network takes {self.card.channels} channels"
                )
            canvas[:, :height, :width] = image.numpy()
        return films, sizes


def open_exported(folder: Path, card: Card, callers: int, threads: int, batch: int | None = None) -> ExportedDetector:
    """Return the network of ``folder``, for so many ``callers`` side by side on ``threads`` cores.

    ``batch`` is how many films, of the size that the detector was trained on, come at once; None: that varies.
    """
    side = -(-card.size // card.stride) * card.stride
    shape = None if batch is None else (batch, card.channels, side, side)
    runner = RUNNERS[card.runtime]
    return ExportedDetector(card, runner(folder / next(iter(card.files)), callers, threads, shape))
