"""Training and validation of a network that says which findings a study has, without their places."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, cast

import numpy as np
import torch
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  the name its documentation uses
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader, Dataset

from cxr.findings import FindingVocabulary
from cxr.learn.parameter_groups import NamedParameters
from cxr.learn.training import Training
from cxr.measure.operating_point import choose_operating_point
from cxr.measure.results import FilmResult
from cxr.measure.screening import roc_curve
from cxr.measure.studies import ABNORMAL, study_estimates, study_results, study_values
from cxr.volume.study_scores import StudyScores

Batch = Mapping[str, Tensor]


class StudyTask(Training):
    """Trains a classifier of studies and measures it for each finding with the figures of whole films.

    A batch is the input of the network. It also has ``labels`` [B, K], float 0 or 1, in the order of the vocabulary,
    and ``item`` int64 [B], the index of each study in its split. The network returns logits [B, K] by name: those of
    ``study`` are measured, any others are only learnt beside them.

    In addition to what ``Training`` logs, all figures of ``study_estimates`` are logged. A test also logs the ends of
    their 95 % intervals over patients, as ``test/<figure>/low`` and ``…/high``.

    Args:
        findings: the vocabulary, whose findings are the columns of the labels.
        model: called with the number of classes (with the background), returns the network.
        optimizer, scheduler, seed, card, lr_scaling, reference_batch: see ``Training``.
        pos_weight: for each finding, weight in the loss of a study with it, relative to one without; None means 1.
        sensitivity: wanted sensitivity of screening for any finding (``choose_operating_point``).
    """

    thresholds: Tensor  # [K + 1], one for each finding, then the one for any finding; set by ``calibrate``

    def __init__(
        self,
        findings: FindingVocabulary,
        model: Callable[[int], nn.Module],
        optimizer: Callable[[NamedParameters], Optimizer],
        scheduler: Callable[..., LRScheduler] | None = None,
        seed: int = 0,
        card: Mapping[str, Any] | None = None,
        lr_scaling: Literal["linear", "sqrt"] | None = None,
        reference_batch: int | None = None,
        pos_weight: Sequence[float] | None = None,
        sensitivity: float = 0.99,
    ) -> None:
        super().__init__(optimizer, scheduler, seed, card, lr_scaling, reference_batch)
        if pos_weight is not None and len(pos_weight) != len(findings.names):
            raise ValueError(
                f"task.pos_weight has {len(pos_weight)} numbers, expected {len(findings.names)}, one for each of"
                f" {', '.join(findings.names)}; or null"
            )
        self.findings = findings
        self.network = model(findings.num_classes)
        self.sensitivity = sensitivity
        weights = torch.ones(len(findings.names)) if pos_weight is None else torch.tensor(pos_weight)
        self.register_buffer("pos_weight", weights, persistent=False)
        self.register_buffer("thresholds", torch.full((findings.num_classes,), 0.5))
        self._scores = StudyScores()
        self._logits: dict[str, Tensor] | None = None  # logits of the batch that is being measured

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return ``loss_<name>``, the mean binary cross-entropy of each of the network's logits."""
        logits = self._network(batch)
        weights = cast(Tensor, self.pos_weight)
        return {
            f"loss_{name}": F.binary_cross_entropy_with_logits(values.float(), batch["labels"], pos_weight=weights)
            for name, values in logits.items()
        }

    def measure(self, batch: Batch) -> Tensor:
        """Add a batch to the figures; return its scores, as ``classify`` does."""
        scores = self.classify(batch)
        self._scores.update(batch["item"], scores, batch["labels"])
        return scores

    @torch.no_grad()
    def classify(self, batch: Batch) -> Tensor:
        """Return scores [B, K] float32 in 0..1: how sure the network is that a study has a finding."""
        return self._network(batch)["study"].float().sigmoid()

    @contextmanager
    def measuring(self) -> Iterator[None]:
        """Run the network only once for losses and scores of a batch."""
        self._logits = {}
        try:
            yield
        finally:
            self._logits = None

    def figures(self) -> dict[str, float]:
        """Return the values of ``study_estimates``, and reset them."""
        results = self._results()
        self._scores.reset()
        return study_values(results, self.findings.names, self.thresholds.tolist())

    def on_test_epoch_end(self) -> None:
        """Log the figures of all test studies, with their intervals over patients."""
        studies = self.trainer.datamodule.films["test"]  # type: ignore[attr-defined]  # not declared by Lightning
        results = self._results([study.patient for study in studies])
        estimates = study_estimates(results, self.findings.names, self.thresholds.tolist())
        super().on_test_epoch_end()
        self.log_dict({f"test/{name}/low": estimate.low for name, estimate in estimates.items()})
        self.log_dict({f"test/{name}/high": estimate.high for name, estimate in estimates.items()})

    def monitors(self) -> tuple[str, ...]:
        """Return the names of the figures that may choose the best epoch."""
        return ("auc", *(f"{figure}/{name}" for figure in ("auc", "ap") for name in (*self.findings.names, ABNORMAL)))

    def table(self, metrics: Mapping[str, float], items: Sequence[Any]) -> Table:
        """Return a table of each finding: AUC with its interval, sensitivity and specificity at the threshold."""
        normal = sum(item.normal for item in items)
        table = Table(title_justify="left", title=f"Test: {len(items)} studies, {normal} of them normal")
        for heading in ("finding", "studies", "AUC [95 %]", "AP", "sensitivity", "specificity"):
            table.add_column(heading, justify="left" if heading == "finding" else "right", overflow="fold")
        for name in (*self.findings.names, ABNORMAL):
            last = name == ABNORMAL
            label = "any of them" if last else self.findings.label(name)
            positive = len(items) - normal if last else sum(name in item.findings for item in items)
            values = (_cell(metrics, f"{figure}/{name}") for figure in ("ap", "sensitivity", "specificity"))
            table.add_row(label, str(positive), _cell(metrics, f"auc/{name}", interval=True), *values)
        table.caption = f"mean AUC {_cell(metrics, 'auc')} · thresholds were chosen on validation studies"
        table.caption_justify = "left"
        return table

    @torch.no_grad()
    def calibrate(self, validation: Dataset[Any]) -> dict[str, Any]:
        """Choose the thresholds; return them as ``thresholds``, and the ``operating_point`` of screening.

        The threshold of a finding has the highest sensitivity + specificity (Youden 1950) on these studies. The one for
        any finding is chosen as for films: it should miss no more than 1 - ``sensitivity`` of the abnormal studies.
        """
        was_training = self.training
        self.eval()
        alone = StudyScores(sync_on_compute=False)  # the first process chooses while the others wait
        for batch in DataLoader(validation, batch_size=8):
            here = {name: values.to(self.device) for name, values in batch.items()}
            alone.update(here["item"], self.classify(here), here["labels"])
        self.train(was_training)
        studies = cast(Any, validation).studies
        results = study_results(*alone.compute(), [study.patient for study in studies])
        for label, name in enumerate(self.findings.names, start=1):
            self.thresholds[label - 1] = youden_threshold(results, label, name)
        point = choose_operating_point(results, self.sensitivity)
        self.thresholds[-1] = point.threshold
        chosen = dict(zip((*self.findings.names, ABNORMAL), self.thresholds.tolist(), strict=True))
        return {"operating_point": point.as_dict(), "thresholds": chosen}

    def _network(self, batch: Batch) -> dict[str, Tensor]:
        if self._logits:
            return self._logits
        logits: dict[str, Tensor] = self.network(batch)
        if self._logits is not None:
            self._logits = logits
        return logits

    def _results(self, patients: Sequence[str] | None = None) -> list[FilmResult]:
        return study_results(*self._scores.compute(), patients)


def youden_threshold(results: Sequence[FilmResult], label: int, name: str) -> float:
    """Return the highest score with the highest sensitivity + specificity.

    Return 0.5 if all studies have the finding, or none has it.
    """
    curve = roc_curve(results, label)
    gain = curve.sensitivity + curve.specificity
    if np.isnan(gain).any():
        return 0.5
    return float(curve.thresholds[1:][np.argmax(gain[1:])])


def _cell(metrics: Mapping[str, float], figure: str, interval: bool = False) -> str:
    value, low, high = (metrics.get(f"test/{figure}{end}", np.nan) for end in ("", "/low", "/high"))
    if np.isnan(value):
        return "–"
    return f"{value:.3f} [{low:.3f}, {high:.3f}]" if interval and not np.isnan(low) else f"{value:.3f}"
