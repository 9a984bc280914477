"""Training and validation of a network that says of a study, not of a place in it, which findings it bears."""

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
from cxr.learn.training import Training
from cxr.measure.operating_point import choose_operating_point
from cxr.measure.results import FilmResult
from cxr.measure.screening import roc_curve
from cxr.measure.studies import ABNORMAL, study_estimates, study_results, study_values
from cxr.volume.study_scores import StudyScores

Batch = Mapping[str, Tensor]


class StudyTask(Training):
    """Trains a classifier of studies and measures it, per finding by name, with the image-level figures of films.

    A batch is what the network takes, and of it the task reads labels [B, K] float 0 or 1, finding by finding in the
    vocabulary's order, and item int64 [B], each study's index in its split. The network takes the batch and gives
    logits [B, K] by name; ``study`` is what counts, others are learnt beside it.

    Logged are, beside what ``Training`` logs, all that ``study_estimates`` names; of a test also the ends of their 95 %
    intervals over patients, as ``test/<figure>/low`` and ``…/high``.

    Args:
        findings: the vocabulary behind the columns of the labels.
        model: called with the number of classes (background counts), gives the network.
        optimizer, scheduler, seed, card, lr_scaling, reference_batch: see ``Training``.
        pos_weight: how much more a study with the finding counts in the loss than one without, a number a finding;
            None: alike.
        sensitivity: wanted of the screening for any finding (``choose_operating_point``).
    """

    thresholds: Tensor  # [K + 1], of each finding and last of any; frozen by ``calibrate``

    def __init__(
        self,
        findings: FindingVocabulary,
        model: Callable[[int], nn.Module],
        optimizer: Callable[[list[nn.Parameter]], Optimizer],
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
        self._logits: dict[str, Tensor] | None = None  # of the batch that is measured

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return ``loss_<name>``, the mean binary cross-entropy of each of the network's logits."""
        logits = self._network(batch)
        weights = cast(Tensor, self.pos_weight)
        return {
            f"loss_{name}": F.binary_cross_entropy_with_logits(values.float(), batch["labels"], pos_weight=weights)
            for name, values in logits.items()
        }

    def measure(self, batch: Batch) -> Tensor:
        """Take a batch into the figures; return what ``classify`` does."""
        scores = self.classify(batch)
        self._scores.update(batch["item"], scores, batch["labels"])
        return scores

    @torch.no_grad()
    def classify(self, batch: Batch) -> Tensor:
        """Return scores [B, K] float32 in 0..1, how surely each study bears each finding."""
        return self._network(batch)["study"].float().sigmoid()

    @contextmanager
    def measuring(self) -> Iterator[None]:
        """Let losses and scores of one batch share the network's pass."""
        self._logits = {}
        try:
            yield
        finally:
            self._logits = None

    def figures(self) -> dict[str, float]:
        """Return the values of ``study_estimates``, and forget the studies."""
        results = self._results()
        self._scores.reset()
        return study_values(results, self.findings.names, self.thresholds.tolist())

    def on_test_epoch_end(self) -> None:
        """Log the figures of all test studies and their intervals, over patients."""
        studies = self.trainer.datamodule.films["test"]  # type: ignore[attr-defined]  # not declared by Lightning
        results = self._results([study.patient for study in studies])
        found = study_estimates(results, self.findings.names, self.thresholds.tolist())
        super().on_test_epoch_end()
        self.log_dict({f"test/{name}/low": estimate.low for name, estimate in found.items()})
        self.log_dict({f"test/{name}/high": estimate.high for name, estimate in found.items()})

    def monitors(self) -> tuple[str, ...]:
        """Return the names of the figures that may choose the best epoch."""
        return ("auc", *(f"{figure}/{name}" for figure in ("auc", "ap") for name in (*self.findings.names, ABNORMAL)))

    def table(self, metrics: Mapping[str, float], items: Sequence[Any]) -> Table:
        """Return AUC with its interval, and sensitivity and specificity at the frozen threshold, of each finding."""
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
        """Freeze the thresholds; return them as ``thresholds``, and the ``operating_point`` of screening.

        A finding's is that of the highest sensitivity + specificity (Youden 1950) on these studies. That of any finding
        is chosen as for films: it should miss no more than 1 - ``sensitivity``.
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
    """Return the highest score with the highest sensitivity + specificity; 0.5 where there is but one kind of study."""
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
