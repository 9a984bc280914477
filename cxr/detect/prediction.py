"""The detections of one film in plain Python. Imports no torch, as processes that draw pictures use it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from cxr.read.chest_films import Reason

Box = tuple[float, float, float, float]
Threshold = float | Mapping[str, float]
"""The score from which up detections are shown: one for all findings, or one for each by its canonical name."""


@dataclass(frozen=True)
class Prediction:
    """The detections and scores of one film; boxes are rounded to 0.01 px and their scores to 1e-6.

    Args:
        number: that of its ``Input``.
        study, patient: pseudonyms.
        width, height: of the original film, pixels.
        boxes: xyxy in original pixels, the strongest first.
        findings: the canonical name of each.
        scores: 0..1 of each, however weak: average precision and FROC need all of them.
        finding_scores: canonical name → 0..1, how sure the detector is that the film has the finding anywhere.
        abnormal: 0..1, the same for any finding; not rounded, as it is compared with the operating point.
        disagreement: 0..1 of an ensemble's members about each box; () where one detector answers.
        sop_instance: SOPInstanceUID, for the key of a prediction; no journal or table holds it.
        statistics: what the film is like, where that was asked for (``cxr.read.film_statistics``); for the watch over
            the films of a week, and in no journal either.
    """

    number: int
    study: str
    patient: str
    width: int
    height: int
    boxes: tuple[Box, ...]
    findings: tuple[str, ...]
    scores: tuple[float, ...]
    finding_scores: dict[str, float]
    abnormal: float
    sop_instance: str = field(default="", repr=False, compare=False)
    disagreement: tuple[float, ...] = ()
    statistics: tuple[float, ...] = field(default=(), repr=False, compare=False)

    def shown(self, threshold: Threshold) -> list[int]:
        """Return the places of the detections from ``threshold`` up, the strongest first."""
        scored = enumerate(zip(self.scores, self.findings, strict=True))
        return [n for n, (score, finding) in scored if score >= least_score(threshold, finding)]


@dataclass(frozen=True)
class NotAssessed:
    """A film that is not assessed: it is no film for this detector, or its scores are not finite.

    Such a film is neither abnormal nor normal, and never put aside. The fields beside ``reason`` are those of
    ``Prediction``.
    """

    number: int
    study: str
    patient: str
    width: int
    height: int
    reason: Reason
    sop_instance: str = field(default="", repr=False, compare=False)
    statistics: tuple[float, ...] = field(default=(), repr=False, compare=False)


def least_score(threshold: Threshold, finding: str) -> float:
    """Return the score from which up detections of a finding are shown."""
    return threshold[finding] if isinstance(threshold, Mapping) else threshold


def in_words(threshold: Threshold) -> str:
    """Return a threshold as a line tells it: 0.3, or each finding's."""
    if isinstance(threshold, Mapping):
        return ", ".join(f"{score:.3g} ({finding})" for finding, score in threshold.items())
    return f"{threshold:g}"


def printed_threshold(threshold: float) -> float:
    """Return the operating point with six digits, rounded up, to be printed beside scores of ``six_digits``."""
    return math.ceil(round(threshold * 1e6, 3)) / 1e6


def six_digits(score: float, threshold: float | None = None) -> float:
    """Return a score for tables, with six digits behind the point.

    Whether a film is cleared follows from its exact score and the exact threshold. Two rounded numbers could contradict
    that. So the printed score stays on its side of the printed threshold, and is off by less than 2e-6.
    """
    shown = round(score, 6)
    if threshold is None:
        return shown
    printed = printed_threshold(threshold)
    return min(shown, round(printed - 1e-6, 6)) if score < threshold else max(shown, printed)
