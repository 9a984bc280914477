"""A step of an intensity that removes bones and vessels from a film with a trained U-Net.

The network (``python train.py experiment=suppress``) sees the whole film at the size at which it was trained. Its
residual is enlarged and subtracted, so noise and fine detail of the film stay. torch is imported only when the first
such step is made; without one, films are read without torch.
"""

from dataclasses import dataclass, field
from functools import cache
from hashlib import blake2b
from multiprocessing import parent_process
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cxr.installation import command
from cxr.learn.torch_archive import refuse_size
from cxr.phantom.layers import PARTS
from cxr.read.frame import to_square
from cxr.read.intensity import Step, Values
from cxr.read.radiograph import Radiograph

if TYPE_CHECKING:
    from cxr.suppress.unet import UNet

_NETWORK = "cxr.suppress.unet.UNet"
# Limits of the network that a file may ask for: a larger one could take all memory before its weights are checked
_LEAST_SIZE, _MOST_SIZE = 16, 4096
_MOST_WIDTH, _MOST_LEVELS = 512, 8
_HOW = (
    f"Train one with `{command('train')} experiment=suppress`, then type"
    " intensity=suppressed intensity.steps.1.weights=outputs/suppress/…/checkpoints/best.ckpt"
)


@dataclass(frozen=True)
class Suppressed(Step):
    """Removes ribs, clavicles and vessels from a film. It takes the picture that the log window makes.

    Args:
        weights: a checkpoint of ``python train.py experiment=suppress``. It is read as plain data. Of its config only
            the widths and the size of the network are used.
        strength: share of bones and vessels that is removed, 0..1; 0.5 leaves bones with half their contrast.

    Raises ``ValueError`` if there is no such checkpoint, or it is of another task.
    """

    weights: str | None = field(default=None, repr=False)
    strength: float = 1.0
    digest: str = field(init=False)  # digest of the checkpoint: the cache key contains it in place of its name

    def __post_init__(self) -> None:
        if not 0 < self.strength <= 1:
            raise ValueError(f"strength is {self.strength}, expected above 0, at most 1")
        if self.weights is None or not Path(self.weights).is_file():
            raise ValueError(f"intensity.steps: Suppressed has weights {self.weights}: there is no such file. {_HOW}")
        refuse_size(Path(self.weights).stat().st_size)
        content = Path(self.weights).read_bytes()
        object.__setattr__(self, "digest", blake2b(content, digest_size=8).hexdigest())
        read_suppressor(self.weights, self.digest)  # so that a wrong file is refused now, not at the first film

    def __call__(self, values: Values, radiograph: Radiograph) -> Values:
        """Return ``values`` [..., H, W], 0..1 and air dark, without bones and vessels, again in 0..1."""
        suppressor = read_suppressor(str(self.weights), self.digest)
        slices = [self._without(one, suppressor(one).residual) for one in values.reshape(-1, *values.shape[-2:])]
        return np.stack(slices).reshape(values.shape)

    def _without(self, picture: Values, residual: Values) -> Values:
        return np.asarray(np.clip(picture - np.float32(self.strength) * residual, 0, 1), np.float32)


@dataclass(frozen=True, eq=False)
class Layers:
    """The output of the network for a film [H, W].

    Args:
        residual: float32 [H, W], what ribs, clavicles and vessels add to the picture.
        masks: name of a part (``cxr.phantom.layers.PARTS``) → bool [H, W].
    """

    residual: Values
    masks: dict[str, NDArray[np.bool_]]


@dataclass(frozen=True, eq=False)
class Suppressor:
    """A trained network for films of any size.

    Args:
        network: the network, in eval mode and on the CPU.
        size: side in pixels of the square films on which it was trained.
    """

    network: "UNet"
    size: int

    def __call__(self, picture: Values) -> Layers:
        """Return the layers of a picture [H, W] float32 in 0..1, air dark."""
        import torch

        square, (height, width) = to_square(picture, self.size)
        with torch.inference_mode():
            residual, logits = self.network(torch.from_numpy(square)[None, None])
        maps = torch.cat([residual, logits], dim=1)[0, :, :height, :width].numpy()
        shape = picture.shape[::-1]
        large = [np.asarray(cv2.resize(one, shape, interpolation=cv2.INTER_LINEAR), np.float32) for one in maps]
        return Layers(large[0], {part: logit > 0 for part, logit in zip(PARTS, large[1:], strict=True)})


@cache
def read_suppressor(path: str, digest: str) -> Suppressor:
    """Return the network of a checkpoint. Each process reads it once, and again if ``digest`` has changed.

    Raises ``ValueError`` for a file that is no checkpoint of such a network.
    """
    import torch

    from cxr.learn.torch_file import read_torch_file, refuse_not_finite
    from cxr.suppress.unet import UNet

    if parent_process() is not None:  # each of several processes that read films has one core
        torch.set_num_threads(1)
    try:
        content = read_torch_file(path)
        config = content["cxr"]["config"]
        if config["model"]["_target_"] != _NETWORK:
            raise ValueError(f"it holds {str(config['model']['_target_'])[:100]}")
        network, size = UNet(_widths(config["model"]["widths"])), config["data"]["size"]
        _refuse_size(size, network.stride)
        state = _of_network(content["state_dict"])
        refuse_not_finite(state)
        network.load_state_dict(state)
    except Exception as error:  # torch has no special error for files that are not its own
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path}: no checkpoint of a network that suppresses bones: {reason}. {_HOW}") from error
    return Suppressor(network.eval(), size)


def _widths(widths: Any) -> list[int]:
    plain = isinstance(widths, list) and all(type(width) is int and width <= _MOST_WIDTH for width in widths)
    if not plain or len(widths) > _MOST_LEVELS:
        raise ValueError(f"model.widths is {str(widths)[:100]}, expected at most {_MOST_LEVELS} up to {_MOST_WIDTH}")
    return list(widths)


def _refuse_size(size: Any, stride: int) -> None:
    if type(size) is not int or not _LEAST_SIZE <= size <= _MOST_SIZE or size % stride:
        expected = f"{_LEAST_SIZE} to {_MOST_SIZE} pixels in multiples of {stride}"
        raise ValueError(f"data.size is {str(size)[:100]}, expected {expected}")


def _of_network(state: dict[str, Any]) -> dict[str, Any]:
    """Return the weights of the network, taken from those of ``SuppressionTask``."""
    return {name.removeprefix("network."): value for name, value in state.items() if name.startswith("network.")}
