"""What is kept of a film that a detector has looked at. Imports no torch: it goes to processes that draw."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from cxr.read.chest_films import Reason

Box = tuple[float, float, float, float]
Threshold = float | Mapping[str, float]
"""The score from which up detections are shown: one for all findings, or one for each by its canonical name."""


@dataclass(frozen=True)
class Prediction:
    """What a detector says of one film, in plain Python; boxes are rounded to 0.01 px and their scores to 1e-6.

    Args:
        number: of its ``Input``.
        study, patient: pseudonyms.
        width, height: of the original film, pixels.
        boxes: xyxy in original pixels, the strongest first.
        findings: the canonical name of each.
        scores: 0..1 of each. All that the detector gives, however weak: precision and FROC need them.
        finding_scores: canonical name → 0..1, how surely the film bears the finding anywhere.
        abnormal: 0..1, how surely it bears any; to the last bit, as it is held against the operating point.
        disagreement: 0..1 of an ensemble's members about each box; () where one detector answers.
        sop_instance: SOPInstanceUID, for the key of a prediction; no journal or table holds it.
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

    def shown(self, threshold: Threshold) -> list[int]:
        """Return the places of the detections from ``threshold`` up, the strongest first."""
        scored = enumerate(zip(self.scores, self.findings, strict=True))
        return [n for n, (score, finding) in scored if score >= least_score(threshold, finding)]


@dataclass(frozen=True)
class NotAssessed:
    """A film of which a detector says nothing: it may not speak of it, or its answer is not finite.

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


def least_score(threshold: Threshold, finding: str) -> float:
    """Return the score from which up detections of a finding are shown."""
    return threshold[finding] if isinstance(threshold, Mapping) else threshold


def in_words(threshold: Threshold) -> str:
    """Return a threshold as a line tells it: 0.3, or each finding's."""
    if isinstance(threshold, Mapping):
        return ", ".join(f"{score:.3g} ({finding})" for finding, score in threshold.items())
    return f"{threshold:g}"


def printed_threshold(threshold: float) -> float:
    """Return the operating point with six digits, rounded up, as it is printed beside scores of ``six_digits``."""
    return math.ceil(round(threshold * 1e6, 3)) / 1e6


def six_digits(score: float, threshold: float | None = None) -> float:
    """Return a score for tables, with six digits behind the point.

    Whether a film is cleared is told from its exact score and the exact threshold. Two numbers that are rounded each
    for itself could say otherwise, so the score is kept on its side of the printed threshold: it is off by less than
    2e-6.
    """
    shown = round(score, 6)
    if threshold is None:
        return shown
    printed = printed_threshold(threshold)
    return min(shown, round(printed - 1e-6, 6)) if score < threshold else max(shown, printed)
