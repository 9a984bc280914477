"""GroupNorm as graphs take it fastest, and parameters as ONNX's exporter takes them."""

import torch
from torch import Tensor, nn


class ChannelsLastNorm(nn.Module):
    """The numbers of a GroupNorm from means over rows and columns alone.

    ONNX writes GroupNorm as a reshape to [B, groups, …] and back. OpenVINO keeps maps with their channels last, and
    turns each of them around twice for it: more than a quarter of a MobileNet's time at 256 px.
    """

    def __init__(self, norm: nn.GroupNorm) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, batch: Tensor) -> Tensor:
        """Return the maps [B, C, H, W], normalised."""
        centred = batch - self._of_group(batch.mean((2, 3)))[:, :, None, None]
        variance = self._of_group((centred * centred).mean((2, 3)))
        scale = torch.rsqrt(variance + self.norm.eps) * self.norm.weight
        return centred * scale[:, :, None, None] + self.norm.bias[:, None, None]

    def _of_group(self, means: Tensor) -> Tensor:
        """Return for each channel [B, C] the mean of its group."""
        size = self.norm.num_channels // self.norm.num_groups
        groups = means.reshape(means.shape[0], self.norm.num_groups, size).mean(2, keepdim=True)
        return groups.expand(-1, -1, size).reshape(means.shape[0], -1)


def with_channels_last_norms(module: nn.Module) -> None:
    """Put a ``ChannelsLastNorm`` in place of every GroupNorm inside ``module``."""
    for name, child in module.named_children():
        if isinstance(child, nn.GroupNorm):
            setattr(module, name, ChannelsLastNorm(child))
        elif not isinstance(child, ChannelsLastNorm):  # a part that stands in two places is met twice
            with_channels_last_norms(child)


def with_equal_parameters_shared(module: nn.Module) -> None:
    """Make parameters with the same numbers one and the same, as those of layers that have learnt nothing yet are.

    The exporter of torch 2.15 leaves out all but one of them and loses the way to it.
    """
    seen: dict[tuple[int, ...], list[nn.Parameter]] = {}
    for owner in module.modules():
        for name, parameter in list(owner.named_parameters(recurse=False)):
            alike = seen.setdefault(tuple(parameter.shape), [])
            same = next((other for other in alike if torch.equal(other, parameter)), None)
            if same is None:
                alike.append(parameter)
            else:
                setattr(owner, name, same)
