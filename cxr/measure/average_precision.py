"""Average precision, the one of this project: over the findings that somebody marked in the data set.

Of one finding it is COCO's: the mean, over 101 recalls, of the highest precision that is reached at such a recall or a
higher one. The mean over findings takes in those that have true boxes, as COCO does. A finding that was detected and
that nobody marked has no recall; its boxes are all wrong, and ``only_detected`` says how many there are.

Detections of one score enter together, so that no figure depends on the order of films. COCO takes them one after
another: where a right and a wrong detection share a score, its figure depends on that order, and ours is the lower one.
All detections count, also beyond COCO's 100 a film.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from cxr.findings import FindingVocabulary
from cxr.measure.intervals import Estimate, Values, estimates
from cxr.measure.matching import Rule, match
from cxr.measure.results import FilmResult

COCO_IOUS = tuple(np.linspace(0.5, 0.95, 10).tolist())
RECALLS = np.linspace(0, 1, 101)


class AveragePrecision:
    """Average precision of one finding, a value for each IoU, as a function of how often each film counts.

    NaN where no film that counts has a true box of the finding: in a data set in which nobody marked it, and in a
    resample without the patients who have it. Such a resample has no part in the finding's interval.
    """

    def __init__(self, results: Sequence[FilmResult], label: int, ious: Sequence[Rule | float] = (0.5,)) -> None:
        scores = np.concatenate([np.zeros(0, np.float32), *(r.scores[r.labels == label] for r in results)])
        film = np.repeat(np.arange(len(results)), [int((r.labels == label).sum()) for r in results])
        order = np.argsort(-scores, kind="stable")
        scores, self._film = scores[order].astype(np.float64), film[order]
        self._ranked = []
        for iou in ious:
            matches = match(results, label, iou)
            right = np.argsort(-matches.truth_scores, kind="stable")[: int(np.isfinite(matches.truth_scores).sum())]
            shown = np.searchsorted(-scores, -matches.truth_scores[right], side="right")  # detections scored as high
            self._ranked.append((matches.truth_film[right], shown))
        self._true_film = matches.truth_film
        self.boxes = len(self._true_film)

    def __call__(self, times: Values) -> Values:
        """Return average precision at each IoU."""
        boxes = times[self._true_film].sum()
        if boxes == 0:
            return np.full(len(self._ranked), np.nan)
        detections = np.append(0, np.cumsum(times[self._film]))
        return np.array([self._at(times, detections, boxes, *ranked) for ranked in self._ranked])

    @staticmethod
    def _at(
        times: Values, detections: Values, boxes: float, film: NDArray[np.int64], shown: NDArray[np.int64]
    ) -> float:
        # Of right ones with one score the last has the highest precision, and all of them that: they enter together
        true, every = np.cumsum(times[film]), detections[shown]
        precision = np.divide(true, every, out=np.zeros(len(true)), where=every > 0)
        envelope = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
        return float(envelope[np.searchsorted(true / boxes, RECALLS, side="left")].mean())


class MeanAveragePrecision:
    """The mean over findings of their average precision, itself the mean over the IoUs.

    Each resample takes the mean over the findings that it has true boxes of: a patient who is not drawn takes a rare
    finding along, and that is no failure of the detector. NaN where no film that counts has any true box.
    """

    def __init__(
        self, results: Sequence[FilmResult], labels: Sequence[int], ious: Sequence[Rule | float] = (0.5,)
    ) -> None:
        self.findings = [AveragePrecision(results, label, ious) for label in labels]

    def __call__(self, times: Values) -> Values:
        """Return the mean [1]."""
        values = np.array([finding(times).mean() for finding in self.findings])
        known = values[~np.isnan(values)]
        return np.array([known.mean() if len(known) else np.nan])


def average_precision(
    results: Sequence[FilmResult],
    labels: Sequence[int],
    ious: Sequence[Rule | float] = (0.5,),
    samples: int = 1000,
    seed: int = 0,
) -> Estimate:
    """Return the mean average precision of the findings ``labels`` with its interval; ``n`` is their true boxes.

    ``ious`` is (0.4,), (0.5,) or ``COCO_IOUS``.
    """
    figure = MeanAveragePrecision(results, labels, ious)
    boxes = sum(finding.boxes for finding in figure.findings)
    return estimates(figure, results, [boxes], samples, seed, undefined="nobody marked it on these films")[0]


def only_detected(results: Sequence[FilmResult], labels: Sequence[int]) -> dict[int, int]:
    """Return how many boxes were detected of each finding of ``labels`` that nobody marked on any of the films."""
    marked, detected = (
        np.concatenate([np.zeros(0, np.int64), *arrays])
        for arrays in ([r.truth_labels for r in results], [r.labels for r in results])
    )
    return {label: int((detected == label).sum()) for label in labels if label not in marked}


def only_detected_in_words(boxes: Mapping[str, int], findings: FindingVocabulary) -> str:
    """Return the findings that were detected and never marked, with their numbers of boxes; "" where there are none."""
    named = [
        f"{findings.label(name)} ({count} box{'es' if count > 1 else ''})" for name, count in boxes.items() if count
    ]
    return f"Detected, though nobody marked it on these films: {', '.join(named)}." if named else ""
