"""Films of noise with boxes, small enough to train on within a test."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from cxr.findings import FindingVocabulary
from cxr.measure.results import FilmResult

Film = tuple[Tensor, dict[str, Tensor]]


@pytest.fixture
def vocabulary() -> FindingVocabulary:
    return FindingVocabulary([{"name": "heart"}, {"name": "spine"}, {"name": "cap"}])


@pytest.fixture
def film() -> Callable[..., Film]:
    """Make a film: noise, a bright rectangle in every box, and a target as the data set gives it (2 × downscaled)."""

    def make(seed: int, size: tuple[int, int] = (64, 64), boxes: list[list[float]] | None = None) -> Film:
        generator = torch.Generator().manual_seed(seed)
        image = 0.3 * torch.rand((1, *size), generator=generator)
        corners = torch.tensor([[8.0, 8.0, 40.0, 48.0]] if boxes is None else boxes).reshape(-1, 4)
        for x1, y1, x2, y2 in corners.int().tolist():
            image[:, y1:y2, x1:x2] += 0.6
        target = {
            "boxes": corners,
            "labels": torch.arange(len(corners)) % 3 + 1,
            "original_boxes": 2 * corners,
            "original_labels": torch.arange(len(corners)) % 3 + 1,
            "scale": torch.tensor([0.5, 0.5]),
            "size": torch.tensor([2 * size[0], 2 * size[1]]),
            "film": torch.tensor(seed),
        }
        return image, target

    return make


@pytest.fixture
def result() -> Callable[..., FilmResult]:
    """Make what is said of one film: (box, label) of the reader, (box, label, score) of the detector, three findings.

    Without ``abnormal`` and ``finding_scores`` the strongest boxes count. Every film is of another patient by default.
    """
    count = iter(range(10**6))

    def make(marked=(), found=(), patient=None, abnormal=None, finding_scores=None, size=(1000, 1000)) -> FilmResult:
        number = next(count)
        labels = np.array([label for _, label, _ in found], np.int64)
        scores = np.array([score for *_, score in found], np.float32)
        strongest = [scores[labels == label].max(initial=0) for label in (1, 2, 3)]
        return FilmResult(
            study=f"study-{number}",
            patient=f"patient-{number}" if patient is None else patient,
            size=size,
            truth_boxes=np.array([box for box, _ in marked], np.float32).reshape(-1, 4),
            truth_labels=np.array([label for _, label in marked], np.int64),
            boxes=np.array([box for box, *_ in found], np.float32).reshape(-1, 4),
            labels=labels,
            scores=scores,
            finding_scores=np.array(strongest if finding_scores is None else finding_scores, np.float32),
            abnormal=float(scores.max(initial=0)) if abnormal is None else abnormal,
        )

    return make
