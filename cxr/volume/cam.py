"""Grad-CAM in three dimensions: where in a volume a network sees a finding (Selvaraju 2017, equations 1 and 2)."""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  the name its documentation uses

from cxr.volume.task import StudyTask

Volume = NDArray[np.float32]


def grad_cam(task: StudyTask, batch: Mapping[str, Tensor], label: int) -> Tensor:
    """Return maps float32 [B, D, H, W] in 0..1 of a finding's logit, at the size of the volumes.

    Each channel of the trunk's last maps is weighted by how much the logit rises with the mean of that channel. Places
    that lower the logit are 0. A map is zero everywhere if nothing raises the logit, or if the network does not use the
    volume; every other map has its maximum at 1.

    ``label`` is 1..K. The weights and the mode of ``task`` do not change; ``batch`` may come from Lightning's inference
    mode.
    """
    was_training = task.training
    task.eval()
    try:
        # Lightning tests in inference mode; copies made outside of it can be differentiated
        with torch.inference_mode(False), torch.enable_grad():
            inputs = {name: values.clone() for name, values in batch.items()}
            maps, logits = _maps_and_logits(task, inputs)
            if maps is None:
                return torch.zeros_like(inputs["volume"][:, 0], dtype=torch.float32)
            (gradient,) = torch.autograd.grad(logits[:, label - 1].sum(), maps)
    finally:
        task.train(was_training)
    weights = gradient.float().mean((2, 3, 4), keepdim=True)
    cam = F.relu((weights * maps.detach().float()).sum(1, keepdim=True))
    cam = F.interpolate(cam, inputs["volume"].shape[2:], mode="trilinear", align_corners=False)[:, 0]
    peak = cam.amax((1, 2, 3), keepdim=True)
    return torch.where(peak > 0, cam / peak.clamp_min(torch.finfo(cam.dtype).tiny), cam)


def energy_inside(heat: Volume, lesion: NDArray[np.bool_]) -> float:
    """Return the share of a map's sum that lies in the lesion, both [D, H, W]; NaN for a map that is zero everywhere.

    For a uniform map this is the lesion's share of the volume (Wang 2020, energy-based pointing game).
    """
    total = float(heat.sum())
    return float(heat[lesion].sum()) / total if total > 0 else float("nan")


def _maps_and_logits(task: StudyTask, inputs: Mapping[str, Tensor]) -> tuple[Tensor | None, Tensor]:
    kept: list[Tensor] = []

    def keep(module: torch.nn.Module, arguments: object, output: Tensor) -> Tensor:
        # A new leaf, so that there is a gradient also behind a frozen trunk, whose maps have none
        kept.append(output.detach().requires_grad_())
        return kept[-1]

    trunk = task.network.get_submodule("trunk")
    hook = trunk.register_forward_hook(keep)
    try:
        logits: Tensor = task.network(inputs)["study"]
    finally:
        hook.remove()
    return kept[0] if kept else None, logits
