"""How much a backbone knows, measured on its features as they are: spread, rank, and what a linear classifier reads."""

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from cxr.data.film import Film

ABNORMAL = "abnormal"


def spread(features: Tensor) -> float:
    """Return how far the features [n, D] of n films point in different directions: 0 where all point the same way.

    Each film's features are scaled to length 1; the figure is the standard deviation of each of the D over the films,
    averaged and multiplied by the root of D (Chen and He 2021, arXiv 2011.10566). It is about 1 for random directions.
    """
    if len(features) < 2:
        return 0.0
    directions = normalize(features.double(), dim=1)
    return float(directions.std(0, correction=0).mean() * features.shape[1] ** 0.5)


def effective_rank(features: Tensor) -> float:
    """Return in how many dimensions the features [n, D] vary: from 1 to the smaller of n and D; 0 where they do not.

    It is the exponential of the entropy of the singular values (Garrido 2023, arXiv 2210.02885), here of the features
    minus their mean.
    """
    values = torch.linalg.svdvals(features.double() - features.double().mean(0))
    if values.sum() <= 1e-12:
        return 0.0
    shares = values / values.sum()
    return float(torch.special.entr(shares).sum().exp())


def labels(films: Sequence[Film], findings: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    """Return for each finding, and for ``ABNORMAL``, 0 or 1 for every film, and NaN where its readers did not look."""
    columns = {
        name: np.array([float(name in film.findings) if film.looked_for(name) else np.nan for film in films])
        for name in findings
    }
    known = [1.0 if film.findings else 0.0 if film.normal else np.nan for film in films]
    return {**columns, ABNORMAL: np.array(known)}


def probe(
    train: tuple[Tensor, Mapping[str, NDArray[np.float64]]], val: tuple[Tensor, Mapping[str, NDArray[np.float64]]]
) -> dict[str, float]:
    """Return the area under the ROC curve of a logistic regression for each finding, on films it was not fitted to.

    Args:
        train: features [n, D] of the films it is fitted to, and their ``labels``.
        val: features of the films it is measured on, and their ``labels``.

    A finding that is on none of the films of a side, or on all of them, is left out.
    """
    linear = importlib.import_module("sklearn.linear_model")
    metrics = importlib.import_module("sklearn.metrics")
    mean, deviation = train[0].mean(0), train[0].std(0).clamp(min=1e-6)
    features = [((some - mean) / deviation).double().numpy() for some, _ in (train, val)]
    areas = {}
    for name in train[1]:
        truth = [of_split[name] for _, of_split in (train, val)]
        known = [~np.isnan(one) for one in truth]
        if any(len(set(one[of].tolist())) < 2 for one, of in zip(truth, known, strict=True)):
            continue
        model: Any = linear.LogisticRegression(C=0.1, class_weight="balanced", max_iter=2000)
        model.fit(features[0][known[0]], truth[0][known[0]])
        scores = model.decision_function(features[1][known[1]])
        areas[name] = float(metrics.roc_auc_score(truth[1][known[1]], scores))
    return areas
