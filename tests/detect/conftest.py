"""Films of noise with boxes, small enough to train on within a test."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from cxr.findings import FindingVocabulary

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
