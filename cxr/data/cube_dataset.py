"""Studies → samples of a network: a cube, turned a little in training, and its findings."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample
from torch.utils.data import Dataset

from cxr.data.cubes import VolumeCache
from cxr.data.study import Study
from cxr.findings import FindingVocabulary

Sample = Mapping[str, Tensor]


class VolumeDataset(Dataset[Sample]):
    """Studies as a network takes them; ``dataset[epoch, i]`` is study i as turned for an epoch, ``dataset[i]`` for 0.

    A sample is a dict of

    - ``volume``: float32 [C, size, size, size] in 0..1 to head, back and left, air dark
    - ``labels``: float32 [K], 1 for each finding of the study
    - ``item``: int64, index into ``studies``
    """

    def __init__(
        self,
        studies: Sequence[Study],
        findings: FindingVocabulary,
        cache: VolumeCache,
        rotate_degrees: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.studies = list(studies)
        self.labels = torch.zeros(len(self.studies), len(findings.names))
        for row, study in zip(self.labels, self.studies, strict=True):
            for name in study.findings:
                row[findings.index(name) - 1] = 1
        self.cache = cache
        self.rotate_degrees = rotate_degrees
        self.seed = seed

    def __len__(self) -> int:
        return len(self.studies)

    def __getitem__(self, key: int | tuple[int, int]) -> Sample:
        epoch, index = key if isinstance(key, tuple) else (0, key)
        volume = torch.from_numpy(self.cache.get(self.studies[index]).voxels.astype(np.float32) / 65535)
        if self.rotate_degrees:
            turned = rotate(volume, *_turn(self.rotate_degrees, [self.seed, epoch, index]))
            volume = turned.clamp(0, 1)  # sums of weights leave it by a rounding
        return {"volume": volume, "labels": self.labels[index], "item": torch.tensor(index)}


def rotate(volume: Tensor, axis: Sequence[float], degrees: float) -> Tensor:
    """Return a cube [C, D, H, W] turned about its middle, trilinear; what comes in from outside is its minimum, air.

    Args:
        volume: float32; D = H = W.
        axis: (z, y, x), of any length above 0.
        degrees: from y to x about z, and so on round: what lies at the back goes to the left.
    """
    z, y, x = np.asarray(axis, float) / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])  # of (x, y, z), the order of affine_grid
    angle = np.radians(degrees)
    # Rodrigues; from where each voxel takes its value, which is the turn itself: x to y is what y to x undoes
    turn = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    theta = torch.from_numpy(np.hstack([turn, np.zeros((3, 1))]).astype(np.float32))[None]
    air = volume.amin(dim=(1, 2, 3), keepdim=True)
    grid = affine_grid(theta, [1, *volume.shape], align_corners=False)
    return grid_sample((volume - air)[None], grid, align_corners=False)[0] + air


def _turn(most: float, seed: Sequence[int]) -> tuple[list[float], float]:
    """Return an axis of any direction, all alike, and degrees within ±``most``; both follow from the seed."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal(3).tolist(), float(rng.uniform(-most, most))
