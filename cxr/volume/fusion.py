"""Film and volume of one patient, read together: features of both, joined, and what to do where one is missing."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from cxr.detect import backbones
from cxr.detect.backbones import FeaturePyramid
from cxr.learn.weights import State, read_weights
from cxr.volume.networks import Cnn3d, load_part, pool, read_state

MODALITIES = ("film", "volume")
"""In the order of the columns of ``present``."""

_FILM_MEAN, _FILM_STD = 0.5, 0.25  # what fasterrcnn_tiny gives its backbone films by


class Fusion(nn.Module):
    """A backbone for films and a trunk for volumes, each pooled to one vector, joined by two layers (late fusion).

    A vector learnt for the purpose takes the place of a modality that a patient lacks. So that it is learnt where
    patients lack none, ``modality_dropout`` takes the film or the volume from some patients in training, never both.
    Beside ``study``, the joined logits, each modality has logits of its own to learn from: without them the one that is
    learnt faster leaves the other little to be learnt for.

    Args:
        film: takes films [B, 1, h, w], gives a pyramid of maps of ``film.out_channels`` each.
        volume: takes volumes [B, C, D, H, W], gives maps of ``volume.out_channels``.
        num_findings: logits.
        modalities: that are looked at; the other counts as missing always.
        modality_dropout: share of the patients with both, that one is taken from in training.
        freeze: parts that do not learn.
        hidden: length of a modality's vector.
        dropout: share of the joined vector left out in training.
    """

    def __init__(
        self,
        film: FeaturePyramid,
        volume: Cnn3d,
        num_findings: int,
        modalities: Sequence[str] = MODALITIES,
        modality_dropout: float = 0.3,
        freeze: Sequence[str] = (),
        hidden: int = 64,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.film = film
        self.trunk = volume  # by the name it has where it stands alone: Grad-CAM and weights look for it
        self.modalities = tuple(modalities)
        self.modality_dropout = modality_dropout
        self.frozen = [self.film if name == "film" else self.trunk for name in freeze]
        for part in self.frozen:
            part.requires_grad_(False)
        pooled = {"film": 3 * 2 * film.out_channels, "volume": 2 * volume.out_channels}
        self.embed = nn.ModuleDict({name: nn.Sequential(nn.Linear(pooled[name], hidden), nn.ReLU()) for name in pooled})
        self.missing = nn.Parameter(0.1 * torch.randn(len(MODALITIES), hidden))
        self.heads = nn.ModuleDict({name: nn.Linear(hidden, num_findings) for name in pooled})
        joined = (nn.Linear(len(MODALITIES) * hidden, hidden), nn.ReLU(), nn.Dropout(dropout))
        self.joint = nn.Sequential(*joined, nn.Linear(hidden, num_findings))

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return logits [B, K]: ``study`` of both modalities, and of each alone by its name.

        Args:
            batch: film float32 [B, 1, h, w] and volume float32 [B, C, D, H, W], both in 0..1 and of any content where
                missing; present bool [B, 2], whether a patient has a film and a volume.
        """
        present = batch["present"].clone()
        for column, name in enumerate(MODALITIES):
            if name not in self.modalities:
                present[:, column] = False
        vectors = {name: self._vector(name, batch, present) for name in self.modalities}
        logits = {name: self.heads[name](vector) for name, vector in vectors.items()} if len(vectors) > 1 else {}
        kept = self._dropped(present) if self.training else present
        parts = [
            torch.where(kept[:, [column]], vectors[name].float(), self.missing[column])
            if name in vectors
            else self.missing[column].expand(len(present), -1)
            for column, name in enumerate(MODALITIES)
        ]
        return {"study": self.joint(torch.cat(parts, 1)), **logits}

    def train(self, mode: bool = True) -> "Fusion":
        """Set the mode of all parts but the frozen ones, which stay as they are in eval mode."""
        super().train(mode)
        for part in self.frozen:
            part.eval()
        return self

    def _vector(self, name: str, batch: Mapping[str, Tensor], present: Tensor) -> Tensor:
        """Return a modality's vector [B, hidden]; that of a missing one where a patient lacks it."""
        if name == "film":
            maps = self.film((batch["film"] - _FILM_MEAN) / _FILM_STD).values()
            pooled = torch.cat([pool(level) for level in maps], 1)
        else:
            pooled = pool(self.trunk(batch["volume"]))
        column = MODALITIES.index(name)
        return torch.where(present[:, [column]], self.embed[name](pooled).float(), self.missing[column])

    def _dropped(self, present: Tensor) -> Tensor:
        """Return ``present`` with one modality of some patients who have both taken away."""
        rows = len(present)
        drop = present.all(1) & (torch.rand(rows, device=present.device) < self.modality_dropout)
        which = torch.randint(len(MODALITIES), (rows,), device=present.device)
        taken = torch.nn.functional.one_hot(which, len(MODALITIES)).bool() & drop[:, None]
        return present & ~taken


def fusion(
    num_classes: int,
    *,
    in_channels: int = 1,
    channels: Sequence[int] = (16, 32, 64, 96),
    strides: Sequence[int] = (2, 2, 1),
    modalities: Sequence[str] = MODALITIES,
    modality_dropout: float = 0.3,
    freeze: Sequence[str] = (),
    hidden: int = 64,
    dropout: float = 0.0,
    film_weights: str | None = None,
    volume_weights: str | None = None,
    weights: str | None = None,
) -> Fusion:
    """Return the network for K = ``num_classes`` - 1 findings of patients with a film, a volume or both.

    ``in_channels`` to ``strides`` are those of the volume's ``Cnn3d``, ``modalities`` (film, volume or both) to
    ``dropout`` those of ``Fusion``. ``freeze`` (of film and volume) is of use with weights only. Weights are files;
    None starts from random numbers:
        film_weights: checkpoint of a ``fasterrcnn_tiny`` of this project, whose backbone is taken.
        volume_weights: checkpoint of a ``cnn3d`` of this project of these ``channels``.
        weights: checkpoint of this very network, all of it; the two above are then not read.

    Raises:
        ValueError: a setting no network can be built with.
        WeightsError: a file is not to be had, or made for another network.
    """
    _check(modalities, modality_dropout, freeze)
    film = FeaturePyramid(backbones.tiny, least_stride=8, channels=64, coarser=None)  # of fasterrcnn_tiny.yaml
    volume = Cnn3d(in_channels, channels, strides)
    if weights is None and film_weights is not None:
        source = f"{film_weights} (its detector's backbone; expected that of fasterrcnn_tiny)"
        load_part(film, _known(film, read_weights(film_weights, None) or {}, "backbone."), "backbone.", source)
    if weights is None and volume_weights is not None:
        load_part(volume, read_state(volume_weights), "trunk.", volume_weights)
    network = Fusion(film, volume, num_classes - 1, modalities, modality_dropout, freeze, hidden, dropout)
    if weights is not None:
        load_part(network, _known(network, read_state(weights)), "", weights)
    return network


def _known(module: nn.Module, state: State, prefix: str = "") -> State:
    """Return of ``state`` what ``module`` has: a checkpoint also holds what belongs to the task, or to other levels."""
    return {name: state[name] for key in module.state_dict() if (name := prefix + key) in state}


def _check(modalities: Sequence[str], modality_dropout: float, freeze: Sequence[str]) -> None:
    if isinstance(freeze, str) or not set(freeze) <= set(MODALITIES):
        raise ValueError(f"model.freeze is {freeze!r}, expected some of film, volume, or none: model.freeze=[film]")
    if not modalities or not set(modalities) <= set(MODALITIES):
        raise ValueError(f"model.modalities is {list(modalities)}, expected film, volume or both")
    if not 0 <= modality_dropout <= 1:
        raise ValueError(f"model.modality_dropout is {modality_dropout}, expected a share in 0..1")
