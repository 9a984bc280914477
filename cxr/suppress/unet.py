"""The network of ``cxr.suppress.step``: it computes what bones and vessels add to a film, and where organs are."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from cxr.phantom.layers import PARTS

_LEAST_SPREAD = 0.02  # used for an empty film, whose values have no spread


class UNet(nn.Module):
    """A small U-Net (Ronneberger et al., MICCAI 2015) with GroupNorm, for a few hundred films and no GPU.

    It returns the residual, by which the film would be darker without bones and vessels, and not the film without them.
    So where there is nothing to remove the answer is 0, and the film keeps its noise and fine detail. All films are
    first scaled to the same contrast; the residual is scaled back.

    Args:
        widths: channels of each level, multiples of 8. The first level has full resolution, each next one half of it.
    """

    def __init__(self, widths: Sequence[int] = (16, 32, 64, 96, 128)) -> None:
        super().__init__()
        if len(widths) < 2 or any(width < 8 or width % 8 for width in widths):
            raise ValueError(f"model.widths is {list(widths)}, expected two multiples of 8 or more, one a level")
        self.stride = 2 ** (len(widths) - 1)
        self.down = nn.ModuleList(
            nn.Sequential(_layer(before, width, stride), _layer(width, width))
            for before, width, stride in zip((1, *widths), widths, (1, *[2] * len(widths)), strict=False)
        )
        self.up = nn.ModuleList(
            nn.Sequential(_layer(below + width, width), _layer(width, width))
            for width, below in zip(widths[-2::-1], widths[:0:-1], strict=True)
        )
        self.head = nn.Conv2d(widths[0], 1 + len(PARTS), 1)
        # With weights of 0 for the residual, an untrained network leaves every film as it is. The maps of PARTS do not
        # begin with 0: they would first learn only how large a part is, and for a small one, the heart, that is
        # "nowhere", where Dice has almost no gradient
        nn.init.zeros_(self.head.weight[0])
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]

    def forward(self, films: Tensor) -> tuple[Tensor, Tensor]:
        """Return the residual [B, 1, h, w] and the logits [B, 3, h, w] of ``PARTS``.

        Args:
            films: [B, 1, h, w] float in 0..1, air dark; h and w are multiples of ``stride``.

        Raises ``ValueError`` if h or w is no multiple.
        """
        if films.shape[-1] % self.stride or films.shape[-2] % self.stride:
            raise ValueError(
                f"films are {films.shape[-2]} × {films.shape[-1]} pixels, expected multiples of {self.stride} for"
                f" {len(self.down)} levels. Type another data.size, or model.widths of fewer levels"
            )
        dark, spread = _contrast(films)
        features, skipped = (films - dark) / spread, []
        for level in self.down:
            features = level(features)
            skipped.append(features)
        for level, skip in zip(self.up, skipped[-2::-1], strict=True):
            features = level(torch.cat([interpolate(features, scale_factor=2.0), skip], dim=1))
        maps = self.head(features)
        return maps[:, :1] * spread, maps[:, 1:]


def _contrast(films: Tensor) -> tuple[Tensor, Tensor]:
    """Return offset and spread of the values of each film, [B, 1, 1, 1], from quantiles .05 and .95 of those above 0.

    With these the network depends on anatomy and not on exposure: a film of half the contrast has half the residual.
    """
    values = films[..., ::4, ::4].flatten(1).float()
    ends = values.where(values > 0, torch.nan).nanquantile(values.new_tensor([0.05, 0.95]), dim=1).nan_to_num()
    dark, bright = ends[:, :, None, None, None]
    return dark, (bright - dark).clamp(min=_LEAST_SPREAD)


def _layer(before: int, after: int, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
    return nn.Sequential(convolution, nn.GroupNorm(after // 8, after), nn.ReLU(inplace=True))
