"""Pretraining of a detector's backbone and pyramid on films that nobody has marked."""

import logging
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any, Literal

import torch
from rich.table import Column, Table
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader

from cxr.data.dataset import RadiographDataset, collate
from cxr.data.film import Film
from cxr.data.unmarked import UnmarkedDataModule
from cxr.detect.backbones import FeaturePyramid
from cxr.detect.detector import Detector
from cxr.learn.parameter_groups import NamedParameters
from cxr.learn.training import Training
from cxr.pretrain.losses import TERMS, at_places, head_of_films, head_of_places, vicreg
from cxr.pretrain.probe import effective_rank, labels, probe, spread

_log = logging.getLogger(__name__)

_POOL = "pool"  # the level that repeats every second cell of the one before
_OF_FINDINGS = "test/probe_auc/"
_COLLAPSED = 0.3  # of the largest spread so far

Batch = Mapping[str, Tensor]


class PretrainingTask(Training):
    """Trains the backbone and the pyramid of a detector so that two views of a film give the same features.

    The method is VICRegL (Bardes 2022, arXiv 2210.01571). Three facts of this project decide for it. It has no negative
    pairs and no statistics of large batches: chest films are so alike that another film is a bad negative, and a batch
    here has 8 to 32 films. It needs no second network and no queue, so a step costs two passes. And it compares places
    beside whole films, which teaches every level of a pyramid. (DenseCL, arXiv 2011.09157, needs a queue of negatives;
    PixPro, arXiv 2011.10043, needs a second network.)

    Two things differ from the paper. Places are paired by where they lie on the film and not also by how alike their
    features are: both views show most of the film, and features alike would pair a rib with its neighbour. And variance
    and covariance of places are computed over all places of a batch, not over the films at each place: a batch of 16
    films has 512 places, which is enough for 128 features where 16 are not.

    A batch is one of ``cxr.data.unmarked.ViewDataset``. The losses are ``loss_invariance``, ``loss_variance`` and
    ``loss_covariance`` of whole films, from the mean of the backbone's coarsest map, and ``loss_local_invariance``,
    ``loss_local_variance`` and ``loss_local_covariance`` of places, means over the levels of the pyramid.

    The figures are those of the features that ``features`` gives: ``spread`` and ``rank`` tell whether they have
    collapsed; ``probe_auc`` and ``probe_auc/<finding>`` are what a linear classifier reads from them, where the data
    name marked films; ``score`` is the validation loss times -1. Of several processes that share the films, the mean is
    logged.

    Args:
        model: builds the detector, called with ``num_classes``. Its backbone must be a ``FeaturePyramid``; its heads
            are thrown away.
        optimizer, scheduler, seed, card, lr_scaling, reference_batch: see ``Training``.
        local: share of the losses of places in the sum, 0..1.
        probe_every: epochs from one probe to the next; between them its last figures are logged.

    Raises ``ValueError`` for a model without a feature pyramid.
    """

    def __init__(
        self,
        model: Callable[..., Detector],
        optimizer: Callable[[NamedParameters], Optimizer],
        scheduler: Callable[..., LRScheduler] | None = None,
        seed: int = 0,
        card: Mapping[str, Any] | None = None,
        lr_scaling: Literal["linear", "sqrt"] | None = None,
        reference_batch: int | None = None,
        local: float = 0.5,
        probe_every: int = 5,
    ) -> None:
        super().__init__(optimizer, scheduler, seed, card, lr_scaling, reference_batch)
        if not 0 <= local <= 1:
            raise ValueError(f"task.local is {local}, expected 0 to 1")
        if probe_every < 1:
            raise ValueError(f"task.probe_every is {probe_every}, expected at least 1 epoch")
        detector = model(num_classes=2)
        if not isinstance(detector.backbone, FeaturePyramid):
            raise ValueError(
                f"task=pretrain teaches a feature pyramid, and {type(detector).__name__} has none; type"
                " model=fasterrcnn, fasterrcnn_tiny, retinanet or fcos, with any model/backbone="
            )
        self.pyramid: FeaturePyramid = detector.backbone
        self.transform = detector.transform
        self.global_head = head_of_films(self.pyramid.body_channels)  # heads are thrown away afterwards
        self.local_head = head_of_places(self.pyramid.out_channels)  # one for all levels, as a detector's heads are
        self.to(memory_format=torch.channels_last)
        self.local = local
        self.probe_every = probe_every
        self._features: list[Tensor] = []  # of the films measured since the last call of ``figures``
        self._sums: list[tuple[float, int]] = []  # loss and number of films of each batch of this validation
        self._probed: dict[str, float] = {}  # figures of the last probe
        self._most_spread, self._told = 0.0, False

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return the losses of a batch by name."""
        views = batch["views"].transpose(0, 1).flatten(0, 1)  # all first views, then all second ones
        places = batch["places"].transpose(0, 1).flatten(0, 1)
        whole, levels = self._maps(list(views))
        terms = {f"loss_{term}": (1 - self.local) * value for term, value in self._of_films(whole).items()}
        of_levels = [self._of_places(level, places) for level in levels]
        for term in TERMS:
            terms[f"loss_local_{term}"] = self.local * torch.stack([one[term] for one in of_levels]).mean()
        return terms

    @torch.no_grad()
    def features(self, films: Sequence[Tensor]) -> Tensor:
        """Return float32 [B, D] of whole films: the means of the backbone's coarsest map and of each level."""
        whole, levels = self._maps(list(films))
        return torch.cat([maps.float().mean((2, 3)) for maps in (whole, *levels)], 1)

    def validation_losses(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Return the losses as ``Training`` does, and keep their sum for the score."""
        losses = super().validation_losses(batch, batch_idx)
        self._sums.append((float(sum(losses.values())), len(batch["film"])))
        return losses

    def measure(self, batch: Batch) -> Tensor:
        """Take the features of a batch's whole films into the figures, and return them, [B, D] on the CPU."""
        features = self.features(list(batch["whole"])).cpu()
        self._features.append(features)
        return features

    def figures(self) -> dict[str, float]:
        """Return the figures of the films that were measured since the last call, and reset them."""
        features, sums = torch.cat(self._features), self._sums
        self._features, self._sums = [], []
        loss = sum(value * films for value, films in sums) / sum(films for _, films in sums)
        figures = {name: self._mean(value) for name, value in _collapse(features).items()}
        self._tell_collapse(figures["spread"])
        figures |= self._probe()
        return {**figures, "score": -self._mean(loss)}

    def monitors(self) -> tuple[str, ...]:
        """Return the names of the figures that rise as the backbone gets better."""
        return ("score", "probe_auc")

    def table(self, metrics: Mapping[str, float], items: Sequence[Any]) -> Table:
        """Return the figures of the best epoch for the terminal."""
        table = Table("features of the best epoch", Column("", justify="right"), title="Validation films")
        rows = {"loss": "test/loss", "spread (0: collapsed)": "test/spread", "effective rank": "test/rank"}
        rows |= {f"probe, AUC of {name.rpartition('/')[2]}": name for name in metrics if name.startswith(_OF_FINDINGS)}
        if "test/probe_auc" in metrics:
            rows["probe, mean AUC"] = "test/probe_auc"
        for label, name in rows.items():
            table.add_row(label, f"{metrics[name]:.3f}")
        return table

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the figures of the last probe, which epochs until the next one log again, also after a resumption."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["probe"] = dict(self._probed)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up the figures of the last probe."""
        self._probed = dict(checkpoint["probe"])

    def _maps(self, films: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Return the backbone's coarsest map of a batch, and the levels of its pyramid that have their own weights."""
        maps = self.pyramid.body(self.transform(films)[0].tensors)
        *_, coarsest = maps.values()
        return coarsest, [level for name, level in self.pyramid.fpn(maps).items() if name != _POOL]

    def _of_films(self, whole: Tensor) -> dict[str, Tensor]:
        first, second = self.global_head(whole.mean((2, 3))).float().chunk(2)
        return vicreg(first, second)

    def _of_places(self, level: Tensor, places: Tensor) -> dict[str, Tensor]:
        first, second = self.local_head(at_places(level, places)).float().flatten(0, 1).chunk(2)
        return vicreg(first, second)

    def _mean(self, value: float) -> float:
        """Return the mean of a figure over all processes."""
        return float(self.trainer.strategy.reduce(torch.tensor(value, device=self.device), reduce_op="mean"))

    def _tell_collapse(self, now: float) -> None:
        """Say once that films have become alike: a rate for random numbers does that to weights that were good."""
        before = self._most_spread = max(self._most_spread, now)
        if now < _COLLAPSED * before and not self._told and self.trainer.is_global_zero:
            self._told = True
            _log.warning(
                "the features of different films become alike: their spread is %.3f and was %.3f. What was learnt goes"
                " lost; interrupt this, and type a smaller optimizer.lr and another hydra.run.dir", now, before,
            )  # fmt: skip

    def _probe(self) -> dict[str, float]:
        """Return the figures of the probe, measured now where it is due; {} without marked films."""
        data: UnmarkedDataModule = self.trainer.datamodule  # type: ignore[attr-defined]  # not declared by Lightning
        if data.marked is None:
            return {}
        epoch = self.current_epoch + 1
        if self.trainer.testing or epoch in (1, self.trainer.max_epochs) or epoch % self.probe_every == 0:
            train, val = (self._probed_films(data, split) for split in ("train", "val"))
            areas = probe(train, val)
            if not areas:
                raise ValueError(
                    "data.marked: no finding is on some, but not all, of its training and validation films"
                )
            self._probed = {"probe_auc": fmean(areas.values()), **{f"probe_auc/{k}": v for k, v in areas.items()}}
        return dict(self._probed)

    def _probed_films(self, data: UnmarkedDataModule, split: str) -> tuple[Tensor, dict[str, Any]]:
        films: RadiographDataset = data.probed(split)
        loader = DataLoader(films, data.batch_size, collate_fn=collate)
        features = [self.features([image.to(self.device) for image in images]).cpu() for images, _ in loader]
        shown: Sequence[Film] = films.films
        return torch.cat(features), labels(shown, data.marked.findings.names if data.marked else [])


def _collapse(features: Tensor) -> dict[str, float]:
    return {"spread": spread(features), "rank": effective_rank(features)}
