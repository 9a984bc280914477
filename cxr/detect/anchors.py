"""Anchors: the boxes that a detector begins with, their places and sizes."""
# torchvision types only a part of itself
# mypy: disable-error-code="no-untyped-call"

from collections.abc import Sequence
from dataclasses import dataclass

from torchvision.models.detection.anchor_utils import AnchorGenerator

from cxr.detect.backbones import Level


@dataclass(frozen=True)
class Anchors:
    """The anchors of each cell of a pyramid.

    Args:
        image_size: longest side in pixels of the data set's films, at least 32. It scales the anchors and nothing else.
        sizes: sides (square root of the area) as fractions of ``image_size``, in (0, 2]: a list for each level of the
            pyramid. They are fractions because a finding fills the same part of a film at any size.
        ratios: height / width. Findings go from flat apical caps (0.2) to tall spines (5).

    Raises ``ValueError`` for invalid sizes, and for a film that is too small.
    """

    image_size: int
    sizes: Sequence[Sequence[float]]
    ratios: Sequence[float]

    def __post_init__(self) -> None:
        if self.image_size < 32:
            raise ValueError(f"image_size is {self.image_size}, allowed are 32 pixels and more")
        if len({len(level) for level in self.sizes}) != 1:
            raise ValueError(
                f"anchors.sizes has lists of several lengths ({self.sizes}), expected as many sizes a level"
            )
        if wrong := [size for level in self.sizes for size in level if not 0 < size <= 2]:
            raise ValueError(f"anchors.sizes holds {wrong}, allowed are fractions of image_size in (0, 2], not pixels")

    @property
    def per_cell(self) -> int:
        """How many anchors each cell has."""
        return len(self.sizes[0]) * len(self.ratios)

    def generator(self, levels: Sequence[Level]) -> AnchorGenerator:
        """Return torchvision's generator for a pyramid. Raises ``ValueError`` where ``sizes`` do not fit it."""
        if len(self.sizes) != len(levels):
            strides = ", ".join(str(level.stride) for level in levels)
            raise ValueError(
                f"anchors.sizes has {len(self.sizes)} lists, and the pyramid has {len(levels)} levels (strides"
                f" {strides}): type one list of fractions a level, model.anchors.sizes=[[…],…]"
            )
        pixels = tuple(tuple(size * self.image_size for size in level) for level in self.sizes)
        return AnchorGenerator(pixels, (tuple(self.ratios),) * len(self.sizes))
