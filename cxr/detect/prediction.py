"""What is kept of a film that a detector has looked at. Imports no torch: it goes to processes that draw."""

from dataclasses import dataclass

Box = tuple[float, float, float, float]


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
        abnormal: 0..1, how surely it bears any.
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

    def shown(self, threshold: float) -> list[int]:
        """Return the places of the detections from ``threshold`` up, the strongest first."""
        return [n for n, score in enumerate(self.scores) if score >= threshold]
