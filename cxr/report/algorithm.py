"""The model and the operating point behind what a report shows."""

import hashlib
from dataclasses import dataclass

from cxr.detect.prediction import Threshold, in_words, printed_threshold
from cxr.measure.operating_point import OperatingPoint
from cxr.measure.promises import KeptPromises
from cxr.report.promise_words import promise_sentences


@dataclass(frozen=True)
class Algorithm:
    """A trained detector as reports name it.

    Args:
        version: of this project.
        digest: hash of the checkpoint, hexadecimal.
        threshold: detections from this score up are shown.
        operating_point: of screening, frozen into the checkpoint; None where it has none.
        settings: what else decides how its results look, such as the language of pictures.
        maps: settings of the maps, which decide about these alone.
        promises: what is promised of these two; None where nothing is.
        card: digest of the model card as it was frozen with the detector (``cxr.runs.frozen_card``); "" where it is not
            known. It is no part of the identity: it follows from the checkpoint, which is.
    """

    version: str
    digest: str
    threshold: Threshold
    operating_point: OperatingPoint | None = None
    settings: tuple[str, ...] = ()
    maps: str = ""
    promises: KeptPromises | None = None
    card: str = ""

    def identity(self) -> str:
        """Return a digest of all that decides what a report about a film says: another one, another report."""
        said = "\n".join([self.version, *self._decided(), *self.settings])
        return hashlib.blake2b(said.encode(), digest_size=16).hexdigest()

    def parameters(self) -> list[str]:
        """Return what a reader of its results must know, a line each."""
        return [*self._decided(), *([f"model card {self.card}"] if self.card else [])]

    def _decided(self) -> list[str]:
        """Return those lines that say how its results came about. The name of its card is none of these."""
        return [*self._thresholds(), *(promise_sentences(self.promises) if self.promises else ())]

    def _thresholds(self) -> list[str]:
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
