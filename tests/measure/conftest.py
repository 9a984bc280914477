"""Films as readers marked them and a detector answered, made by hand."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from cxr.measure.results import FilmResult


@pytest.fixture
def result() -> Callable[..., FilmResult]:
    """Make what is said of one film: (box, label) of the reader, (box, label, score) of the detector, three findings.

    Without ``abnormal`` and ``finding_scores`` the strongest boxes count. Every film is of another patient by default.
    """
    count = iter(range(10**6))

    def make(marked=(), detected=(), patient=None, abnormal=None, finding_scores=None, size=(1000, 1000)) -> FilmResult:
        number = next(count)
        labels = np.array([label for _, label, _ in detected], np.int64)
        scores = np.array([score for *_, score in detected], np.float32)
        strongest = [scores[labels == label].max(initial=0) for label in (1, 2, 3)]
        return FilmResult(
            study=f"study-{number}",
            patient=f"patient-{number}" if patient is None else patient,
            size=size,
            truth_boxes=np.array([box for box, _ in marked], np.float32).reshape(-1, 4),
            truth_labels=np.array([label for _, label in marked], np.int64),
            boxes=np.array([box for box, *_ in detected], np.float32).reshape(-1, 4),
            labels=labels,
            scores=scores,
            finding_scores=np.array(strongest if finding_scores is None else finding_scores, np.float32),
            abnormal=float(scores.max(initial=0)) if abnormal is None else abnormal,
        )

    return make


@pytest.fixture
def random_films(result: Callable[..., FilmResult]) -> Callable[..., list[FilmResult]]:
    """Boxes found more or less well, twice, as another finding or not at all; normal films; no score twice."""

    def make(count, seed=0, films_a_patient=1):
        rng = np.random.default_rng(seed)
        made = []
        for film in range(count):
            corners = rng.uniform(0, 400, (rng.integers(0, 4), 2))
            boxes = np.concatenate([corners, corners + rng.uniform(100, 300, corners.shape)], 1)
            labels = rng.integers(1, 4, len(boxes))
            noise = np.concatenate([boxes.repeat(2, 0), rng.uniform(0, 250, (3, 4)) + np.repeat((0, 350), 2)])
            noise += rng.normal(0, 15, noise.shape)
            detected = np.where(rng.random(len(noise)) < 0.1, 3, np.append(labels.repeat(2), rng.integers(1, 4, 3)))
            rows = zip(noise, detected, rng.random(len(noise)), strict=True)
            made.append(result(list(zip(boxes, labels, strict=True)), list(rows), f"p{film // films_a_patient}"))
        return made

    return make


@pytest.fixture
def films(result: Callable[..., FilmResult]) -> Callable[..., list[FilmResult]]:
    """Make films of scores: those of abnormal ones, then those of normal ones."""

    def make(abnormal, normal, patients=None):
        marks = [[((0, 0, 100, 100), 1)]] * len(abnormal) + [[]] * len(normal)
        owners = patients or [None] * len(marks)
        scores = [*abnormal, *normal]
        return [result(m, patient=p, abnormal=float(s)) for m, p, s in zip(marks, owners, scores, strict=True)]

    return make


@pytest.fixture
def random_scores() -> Callable[..., NDArray[np.float64]]:
    """Make scores around a place on the logit's axis, rounded so that some are equal."""

    def make(rng, count, shift, digits=2):
        return np.round(1 / (1 + np.exp(-rng.normal(shift, 1, count))), digits)

    return make
