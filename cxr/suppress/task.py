"""Training of the network that removes bones and vessels from a film and outlines bone, lung and heart."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from rich.table import Column, Table
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torchmetrics import MeanMetric
from torchmetrics.functional.image import structural_similarity_index_measure

from cxr.learn.parameter_groups import NamedParameters
from cxr.learn.training import Training
from cxr.phantom.layers import PARTS
from cxr.suppress.unet import UNet

_OF_MASKS = 0.1  # weight of the losses of masks, which are about 1, while that of the residual is a few hundredths
_RISING = ("psnr", "ssim", "removed", *(f"dice/{part}" for part in PARTS))

Batch = Mapping[str, Tensor]


class SuppressionTask(Training):
    """Trains a ``UNet`` on films whose layers are known, and measures how well it removes them.

    A batch is one of ``cxr.data.layers.LayeredDataset``: film, residual, valid [B, 1, h, w] and masks [B, 3, h, w].

    The losses are ``loss_l1``, the mean of |residual - truth| on the film; ``loss_gradient``, the same for differences
    between neighbouring pixels, which keeps edges in their place; ``loss_bce`` and ``loss_dice`` of the masks.

    The figures are means over films. ``psnr`` (dB, full scale 1) and ``ssim`` compare the suppressed film with the one
    drawn without bones and vessels; ``psnr_untouched`` compares the original film with it. ``removed`` is the share of
    the residual's energy that is gone, 1 - sum (r - truth)^2 / sum truth^2. There is ``dice/<part>`` for each part.
    If several processes share the films, the few films that two of them get count twice.

    Args:
        model: the network.
        optimizer, scheduler, seed, card, lr_scaling, reference_batch: see ``Training``.
    """

    def __init__(
        self,
        model: UNet,
        optimizer: Callable[[NamedParameters], Optimizer],
        scheduler: Callable[..., LRScheduler] | None = None,
        seed: int = 0,
        card: Mapping[str, Any] | None = None,
        lr_scaling: Literal["linear", "sqrt"] | None = None,
        reference_batch: int | None = None,
    ) -> None:
        super().__init__(optimizer, scheduler, seed, card, lr_scaling, reference_batch)
        self.network = model
        self._means: Any = nn.ModuleDict({name: MeanMetric() for name in (*_RISING, "psnr_untouched")})

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return the losses of a batch by name."""
        residual, logits = self.network(batch["film"])
        error = (residual.float() - batch["residual"]) * batch["valid"]
        pixels = batch["valid"].sum()
        edges = error.diff(dim=-1).abs().sum() + error.diff(dim=-2).abs().sum()
        logits = logits.float()
        return {
            "loss_l1": error.abs().sum() / pixels,
            "loss_gradient": edges / pixels,
            "loss_bce": _OF_MASKS * binary_cross_entropy_with_logits(logits, batch["masks"]),
            "loss_dice": _OF_MASKS * (1 - dice(logits.sigmoid(), batch["masks"]).mean()),
        }

    @torch.no_grad()
    def measure(self, batch: Batch) -> dict[str, Tensor]:
        """Add a batch to the figures; return ``suppressed``, ``residual`` [B, 1, h, w], ``masks`` [B, 3, h, w]."""
        residual, logits = (maps.float() for maps in self.network(batch["film"]))
        suppressed = (batch["film"] - residual).clamp(0, 1)
        truth, masks = batch["film"] - batch["residual"], logits > 0
        for film, made, wanted, valid in zip(batch["film"], suppressed, truth, batch["valid"], strict=True):
            height, width = int(valid[0, :, 0].sum()), int(valid[0, 0].sum())
            self._take(*(one[None, :, :height, :width] for one in (film, made, wanted)))
        for part, values in zip(PARTS, dice(masks.float(), batch["masks"]).T, strict=True):
            self._means[f"dice/{part}"].update(values)
        return {"suppressed": suppressed, "residual": residual, "masks": masks}

    def figures(self) -> dict[str, float]:
        """Return the figures of the films that were measured since the last call, and reset them."""
        figures = {name: float(mean.compute()) for name, mean in self._means.items()}
        for mean in self._means.values():
            mean.reset()
        return figures

    def monitors(self) -> tuple[str, ...]:
        """Return the names of the figures that rise as the network gets better."""
        return _RISING

    def table(self, metrics: Mapping[str, float], items: Sequence[Any]) -> Table:
        """Return the test figures for the terminal."""
        table = Table("without bones and vessels", Column("", justify="right"), title=f"{len(items)} test films")
        rows = (
            ("PSNR, dB", "psnr", ".1f"),
            ("PSNR of the film as it was, dB", "psnr_untouched", ".1f"),
            ("SSIM", "ssim", ".3f"),
            ("energy removed", "removed", ".3f"),
            *((f"Dice of {part}", f"dice/{part}", ".3f") for part in PARTS),
        )
        for label, name, digits in rows:
            table.add_row(label, format(metrics[f"test/{name}"], digits))
        return table

    def _take(self, film: Tensor, made: Tensor, wanted: Tensor) -> None:
        """Add one film [1, 1, h, w], with its padding cut off, to the figures."""
        left, there = (made - wanted).square(), (film - wanted).square()
        # In float32, because the variances in SSIM are differences of nearly equal numbers
        with torch.autocast(made.device.type, enabled=False):
            ssim = structural_similarity_index_measure(made, wanted, data_range=1.0)
        self._means["psnr"].update(-10 * left.mean().clamp(min=1e-10).log10())
        self._means["psnr_untouched"].update(-10 * there.mean().clamp(min=1e-10).log10())
        self._means["ssim"].update(ssim[0] if isinstance(ssim, tuple) else ssim)
        self._means["removed"].update(1 - left.sum() / there.sum().clamp(min=1e-10))


def dice(masks: Tensor, truth: Tensor) -> Tensor:
    """Return the Dice coefficients [B, K] of masks [B, K, h, w] in 0..1; 1 if mask and truth are empty."""
    shared, both = (masks * truth).sum((2, 3)), (masks + truth).sum((2, 3))
    return (2 * shared + 1e-6) / (both + 1e-6)
