"""Figures of studies: ROC, average precision, sensitivity and specificity at thresholds.

``cxr.measure.screening`` gets each study as a film without boxes: it only uses scores and labels of whole films.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cxr.measure.intervals import Estimate, Values, estimates
from cxr.measure.results import FilmResult
from cxr.measure.screening import ImageAveragePrecision, Rates, RocAuc, image_average_precision, rates, roc_auc

ABNORMAL = "abnormal"
PREVALENCE = 0.1
"""Share of positive studies for which the negative predictive value is computed."""

_RATES = ("sensitivity", "specificity", f"npv@{PREVALENCE:g}")


def study_results(
    items: NDArray[np.int64],
    scores: NDArray[np.float32],
    labels: NDArray[np.float32],
    patients: Sequence[str] | None = None,
) -> list[FilmResult]:
    """Return studies as films without boxes. The score of "abnormal" is the highest score of a finding.

    Args:
        items: indices of the studies, [N].
        scores: [N, K] in 0..1.
        labels: [N, K] 0 or 1.
        patients: pseudonym of each study's patient, by index; None means that each study has another patient.
    """
    results = []
    for item, score, label in zip(items.tolist(), scores, labels, strict=True):
        findings = np.flatnonzero(label).astype(np.int64) + 1
        results.append(
            FilmResult(
                study=str(item),
                patient=str(item) if patients is None else patients[item],
                size=(0, 0),
                truth_boxes=np.zeros((len(findings), 4), np.float32),
                truth_labels=findings,
                boxes=np.zeros((0, 4), np.float32),
                labels=np.zeros(0, np.int64),
                scores=np.zeros(0, np.float32),
                finding_scores=score,
                abnormal=float(score.max()),
            )
        )
    return results


def study_values(results: Sequence[FilmResult], names: Sequence[str], thresholds: Sequence[float]) -> dict[str, float]:
    """Return the figures of ``study_estimates`` without intervals, which is fast; NaN where one is undefined."""
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
    """Return AUC, AP, sensitivity and specificity as ``auc/<finding>`` …, and ``auc/abnormal`` … for any finding.

    ``auc`` is the mean over the findings. ``npv@0.1/…`` is the negative predictive value if a tenth of the studies are
    positive. Each figure has its 95 % interval over patients.

    Args:
        results: the studies.
        names: names of the K findings.
        thresholds: [K + 1], one for each finding, then the one for any finding; a score as high is positive.
        samples: number of resamples of the patients.
    """
    mean = MeanAuc(results, len(names))
    needs = "needs studies with and studies without a finding"
    figures = {"auc": estimates(mean, results, [len(results)], samples, undefined=needs)[0]}
    for name, label, threshold in _each(names, thresholds):
        figures[f"auc/{name}"] = roc_auc(results, label, samples)
        figures[f"ap/{name}"] = image_average_precision(results, label, samples)
        at = rates(results, threshold, (PREVALENCE,), label, samples)
        figures |= {f"{rate}/{name}": at[rate] for rate in _RATES}
    return figures


def _each(names: Sequence[str], thresholds: Sequence[float]) -> list[tuple[str, int | None, float]]:
    """Return name, label and threshold of each finding, then those for any finding."""
    labels = [*range(1, len(names) + 1), None]
    return list(zip((*names, ABNORMAL), labels, thresholds, strict=True))


class MeanAuc:
    """Mean of the areas under the ROC curve, over the findings that some studies have and others do not."""

    def __init__(self, results: Sequence[FilmResult], findings: int) -> None:
        self._areas = [RocAuc(results, label) for label in range(1, findings + 1)]

    def __call__(self, times: Values) -> Values:
        """Return the mean [1], NaN if no finding has an area."""
        areas = np.concatenate([area(times) for area in self._areas])
        known = areas[~np.isnan(areas)]
        return np.array([known.mean() if len(known) else np.nan])
