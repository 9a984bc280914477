"""Can the image-level score of a film be read as a probability?"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxr.measure.intervals import Estimate, Values, estimates
from cxr.measure.results import FilmResult
from cxr.measure.screening import count_patients, image_scores, share


@dataclass(frozen=True)
class ReliabilityBin:
    """Films of like score: their mean score, the share that is positive with its interval, and how many they are."""

    score: float
    positive: Estimate
    films: int


@dataclass(frozen=True)
class Reliability:
    """Does a score of 0.8 mean that 80 % are positive? ECE is the mean of |share - score| over films (Naeini 2015)."""

    bins: tuple[ReliabilityBin, ...]
    ece: Estimate


class _Bins:
    """Share of positives in each bin of equally many films, those of one score in one bin, and the ECE last."""

    def __init__(self, scores: Values, positive: NDArray[np.bool_], bins: int) -> None:
        self._scores, self._positive = scores, positive
        lower = np.searchsorted(np.sort(scores), scores, side="left")  # films scored lower than each
        _, self.bin = np.unique(lower * bins // max(len(scores), 1), return_inverse=True)
        self.count = int(self.bin.max(initial=-1)) + 1

    def __call__(self, times: Values) -> Values:
        films, scores, positive = (
            np.bincount(self.bin, weights=times * values, minlength=self.count)
            for values in (1.0, self._scores, self._positive)
        )
        return np.append(share(positive, films), share(np.abs(positive - scores).sum(), films.sum()))


def reliability(
    results: Sequence[FilmResult], label: int | None = None, bins: int = 10, samples: int = 1000, seed: int = 0
) -> Reliability:
    """Return the reliability curve over at most ``bins`` bins of equally many films, and the ECE.

    Films of one score share a bin (all without a box score 0), so bins may be fewer and unequal. The ECE is never
    quite 0, and the more bins, the higher by chance: of few films it says little.
    """
    scores, positive = image_scores(results, label)
    figure = _Bins(scores, positive, bins)
    members = [figure.bin == i for i in range(figure.count)]
    films = [int(chosen.sum()) for chosen in members]
    trials = [*(count_patients(results, chosen) for chosen in members), 0]
    *shares, ece = estimates(figure, results, [*films, len(results)], samples, seed, trials, undefined="no film")
    means = (float(scores[chosen].mean()) for chosen in members)
    return Reliability(tuple(map(ReliabilityBin, means, shares, films)), ece)


def calibration_error(scores: NDArray[np.floating], positive: NDArray[np.bool_], bins: int = 10) -> float:
    """Return the ECE of scores [N] of anything that is positive or not, as ``reliability`` does of films."""
    return float(_Bins(scores.astype(np.float64), positive, bins)(np.ones(len(scores)))[-1])
