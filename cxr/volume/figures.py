"""The image-level figures of films, for studies: ROC, average precision, sensitivity and specificity at thresholds.

A study is given to ``cxr.measure.screening`` as a film without boxes: it looks at scores and labels of the whole only.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from cxr.measure.intervals import Estimate, Values, estimates
from cxr.measure.results import FilmResult
from cxr.measure.screening import ImageAveragePrecision, Rates, RocAuc, image_average_precision, rates, roc_auc

ABNORMAL = "abnormal"
PREVALENCE = 0.1
"""Share of positive studies at which NPV is told."""

_RATES = ("sensitivity", "specificity", f"npv@{PREVALENCE:g}")


class StudyScores(Metric):
    """The scores and labels of the studies seen, brought together from all processes, each study once."""

    full_state_update = False
    item: list[Tensor]
    scores: list[Tensor]
    labels: list[Tensor]

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for state in ("item", "scores", "labels"):
            self.add_state(state, [], dist_reduce_fx="cat")

    def update(self, item: Tensor, scores: Tensor, labels: Tensor) -> None:
        """Take studies: their indices int64 [B], scores and labels [B, K]."""
        self.item.append(item)
        self.scores.append(scores)
        self.labels.append(labels)

    def compute(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return indices [N], rising, scores [N, K] and labels [N, K]."""
        if not self.item:
            return torch.zeros(0, dtype=torch.int64), torch.zeros(0, 0), torch.zeros(0, 0)
        items, scores, labels = (dim_zero_cat(state) for state in (self.item, self.scores, self.labels))
        seen = {int(item): place for place, item in enumerate(items)}  # the last studies may come in two processes
        places = [seen[item] for item in sorted(seen)]
        return items[places], scores[places], labels[places]


def study_results(
    items: Tensor, scores: Tensor, labels: Tensor, patients: Sequence[str] | None = None
) -> list[FilmResult]:
    """Return studies as films without boxes; a study is as surely abnormal as its surest finding.

    Args:
        items: [N] indices of the studies.
        scores: [N, K] in 0..1.
        labels: [N, K] 0 or 1.
        patients: the pseudonym of each study's patient, by its index; None: each study is a patient of its own.
    """
    nothing = np.zeros((0, 4), np.float32)
    results = []
    for item, score, label in zip(items.tolist(), scores.float().cpu().numpy(), labels.cpu().numpy(), strict=True):
        found = np.flatnonzero(label).astype(np.int64) + 1
        results.append(
            FilmResult(
                study=str(item),
                patient=str(item) if patients is None else patients[item],
                size=(0, 0),
                truth_boxes=np.zeros((len(found), 4), np.float32),
                truth_labels=found,
                boxes=nothing,
                labels=np.zeros(0, np.int64),
                scores=np.zeros(0, np.float32),
                finding_scores=score,
                abnormal=float(score.max()),
            )
        )
    return results


def study_values(results: Sequence[FilmResult], names: Sequence[str], thresholds: Sequence[float]) -> dict[str, float]:
    """Return the figures of ``study_estimates`` without their intervals, in no time; NaN where one is undefined."""
    once = np.ones(len(results))
    values: dict[str, float] = {"auc": float(MeanAuc(results, len(names))(once)[0])}
    for name, label, threshold in _each(names, thresholds):
        values[f"auc/{name}"] = float(RocAuc(results, label)(once)[0])
        values[f"ap/{name}"] = float(ImageAveragePrecision(results, label)(once)[0])
        figure = Rates(results, threshold, (PREVALENCE,), label)
        at = dict(zip(figure.names, figure(once).tolist(), strict=True))
        values |= {f"{rate}/{name}": at[rate] for rate in _RATES}
    return values


def study_estimates(
    results: Sequence[FilmResult], names: Sequence[str], thresholds: Sequence[float], samples: int = 1000
) -> dict[str, Estimate]:
    """Return AUC, AP, sensitivity and specificity of each finding and of any, as ``auc/<finding>`` … ``auc/abnormal``.

    ``auc`` is the mean over the findings, and ``npv@0.1/…`` the negative predictive value where a tenth of the studies
    are positive. Intervals are 95 %, over patients.

    Args:
        results: of studies.
        names: of the K findings.
        thresholds: [K + 1], of each finding and of any: what scores as high is called positive.
        samples: resamples of the patients.
    """
    mean = MeanAuc(results, len(names))
    needs = "needs studies with and studies without a finding"
    found = {"auc": estimates(mean, results, [len(results)], samples, undefined=needs)[0]}
    for name, label, threshold in _each(names, thresholds):
        found[f"auc/{name}"] = roc_auc(results, label, samples)
        found[f"ap/{name}"] = image_average_precision(results, label, samples)
        at = rates(results, threshold, (PREVALENCE,), label, samples)
        found |= {f"{rate}/{name}": at[rate] for rate in _RATES}
    return found


def _each(names: Sequence[str], thresholds: Sequence[float]) -> list[tuple[str, int | None, float]]:
    """Return name, label and threshold of each finding and of any."""
    labels = [*range(1, len(names) + 1), None]
    return list(zip((*names, ABNORMAL), labels, thresholds, strict=True))


class MeanAuc:
    """Mean over the findings of the area under the ROC curve, of those that some studies bear and others do not."""

    def __init__(self, results: Sequence[FilmResult], findings: int) -> None:
        self._areas = [RocAuc(results, label) for label in range(1, findings + 1)]

    def __call__(self, times: Values) -> Values:
        """Return the mean [1]; NaN where there is none."""
        areas = np.concatenate([area(times) for area in self._areas])
        known = areas[~np.isnan(areas)]
        return np.array([known.mean() if len(known) else np.nan])
