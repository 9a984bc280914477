"""The model and the operating point behind what a report shows."""

from dataclasses import dataclass

from cxr.detect.prediction import Threshold, in_words, printed_threshold
from cxr.measure.operating_point import OperatingPoint


@dataclass(frozen=True)
class Algorithm:
    """A trained detector as reports name it.

    Args:
        version: of this project.
        digest: hash of the checkpoint, hexadecimal.
        threshold: detections from this score up are shown.
        operating_point: of screening, frozen into the checkpoint; None where it has none.
    """

    version: str
    digest: str
    threshold: Threshold
    operating_point: OperatingPoint | None = None

    def parameters(self) -> list[str]:
        """Return what a reader of its results must know, a line each."""
        shown = [f"checkpoint {self.digest}", f"findings shown from score {in_words(self.threshold)} up"]
        point = self.operating_point
        if point is None:
            return [*shown, "no operating point of screening"]
        reached = point.sensitivity_on_validation
        return [
            *shown,
            f"screening: abnormal from score {printed_threshold(point.threshold):.6g} up",
            f"screening: chosen on {point.films} {point.split} films for sensitivity {point.wanted_sensitivity:g}, "
            f"there {reached.value:.3f} ({reached.low:.3f}..{reached.high:.3f})",
            *(["screening: too few abnormal films to be sure of the wanted sensitivity"] if point.limited else []),
        ]
