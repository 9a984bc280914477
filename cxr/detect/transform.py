"""Prepares the images of a detector: pads and normalises them, and nothing else."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import box_convert

Targets = list[dict[str, Tensor]]

STRIDE = 32  # the coarsest stride a backbone here halves its way down to


class PadAndNormalize(nn.Module):
    """Replaces torchvision's transform, which resizes films to 800 px unseen; this one resizes nothing.

    Films of one batch share a canvas. It is filled with 0, which is air in our films, *before* normalisation, so that
    the padding looks like the air around a patient. In training it is as small as the batch allows: the largest height
    and width, each rounded up to a multiple of 32. In eval mode it is square. All films have the same longest side, so
    each lies on the same canvas whatever films are beside it. That matters because the distance from a film's border to
    the canvas's border changes the network's output there. Training batches are mostly square too, as any with an
    upright and a broad film is.

    Args:
        mean, std: one number for each channel of the network's stem. A film of one channel is repeated for a stem of
            three (pretrained on colour photographs). A CT in C windows needs a stem of C channels.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        if len(mean) != len(std):
            raise ValueError(f"mean has {len(mean)} channels and std {len(std)}; they must agree")
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)

    def forward(self, images: list[Tensor], targets: Targets | None = None) -> tuple[ImageList, Targets | None]:
        """Return the batch [B, C, H, W] with the sizes of the films, and the targets unchanged.

        Args:
            images: B tensors [1 or C, h, w] float in 0..1, of any sizes.
            targets: their boxes are in the frame of the images, which is also the frame of the batch.
        """
        channels = len(self.mean)
        for image in images:
            if image.ndim != 3 or image.shape[0] not in (1, channels):
                raise ValueError(_misfit(image, channels))
        sizes = [(image.shape[-2], image.shape[-1]) for image in images]
        height, width = (-(-max(side) // STRIDE) * STRIDE for side in zip(*sizes, strict=True))
        if not self.training:
            height = width = max(height, width)
        batch = images[0].new_zeros((len(images), channels, height, width))
        for canvas, image, (h, w) in zip(batch, images, sizes, strict=True):
            canvas[:, :h, :w] = image
        batch.sub_(self.mean).div_(self.std)
        return ImageList(batch.contiguous(memory_format=torch.channels_last), sizes), targets

    def postprocess(self, detections: Targets, image_sizes: object, original_sizes: object) -> Targets:
        """Return the detections unchanged: nothing was resized, so the boxes are in the input frame already."""
        return detections


def _misfit(image: Tensor, channels: int) -> str:
    """Return what is wrong with an image, and what to type."""
    expected = f"an image has shape {tuple(image.shape)}, expected [{'1 or ' if channels > 1 else ''}{channels}, h, w]"
    if image.ndim != 3:
        return expected
    return (
        f"{expected}: the intensity gives {image.shape[0]} channels, and the network takes {channels}, as its mean has "
        f"numbers. Take a model whose mean and std have {image.shape[0]}, or an intensity of one channel"
    )


def on_canvas(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Return boxes [..., 4] cxcywh in shares of a canvas of ``size`` (height, width) as xyxy in its pixels."""
    height, width = size
    return box_convert(boxes, "cxcywh", "xyxy") * boxes.new_tensor([width, height, width, height])


def in_shares(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Return boxes [N, 4] xyxy in pixels of a canvas of ``size`` (height, width) as cxcywh in shares of it."""
    height, width = size
    return box_convert(boxes / boxes.new_tensor([width, height, width, height]), "xyxy", "cxcywh")
