"""Maps of what was just predicted: film by film beside the detector's stream, kept only until they are asked for."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cxr.detect.candidates import Candidate
from cxr.detect.ensemble import EnsembleDetector
from cxr.detect.prediction import Prediction, Threshold
from cxr.detect.task import DetectionTask
from cxr.explain.cam import Cam
from cxr.explain.ensemble import Reading, as_read
from cxr.read.dicom import ReadError

FilmMaps = Mapping[str, NDArray[np.uint16]]

_SAME_BOX = 1.0  # px of the network frame; what a film's neighbours in a batch change in a box is a twentieth of it


@dataclass
class MapMaker:
    """Explains the detections that are shown, by each of some methods; what ``predict_films`` calls for each film.

    Args:
        task: the detector, on the device to work on.
        methods: method → cam.
        threshold: detections from this score up are explained.
    """

    task: DetectionTask | EnsembleDetector
    methods: Mapping[str, Cam]
    threshold: Threshold
    _made: dict[int, FilmMaps | ReadError] = field(default_factory=dict)

    def __call__(self, prediction: Prediction, image: Tensor) -> None:
        """Make the maps of a film: ``image`` [1, h, w] float32 in 0..1, in the network frame."""
        shown = prediction.shown(self.threshold)
        if not shown:
            return
        reading = as_read(self.task.detector, image)
        try:
            candidates = [self._candidate(reading, prediction, n) for n in shown]
            self._made[prediction.number] = {
                name: _stored(reading.maps(cam, candidates)) for name, cam in self.methods.items()
            }
        except ValueError as error:  # no such candidate, or a map that is not finite
            self._made[prediction.number] = ReadError(f"film {prediction.number}: no maps can be made of it: {error}")

    def take(self, number: int) -> FilmMaps | ReadError:
        """Hand over the maps of film ``number``, which are kept no longer, or why there are none.

        Method → [M, h, w] uint16, 65535 = 1.0, in the network frame, a map for each of ``Prediction.shown`` in its
        order. Empty for a film without such detections.
        """
        return self._made.pop(number, {})

    def _candidate(self, reading: Reading, prediction: Prediction, n: int) -> Candidate:
        """Return what detection ``n`` was read from.

        By its box alone, for its score may be fused with the image head's: it is the strongest candidate of its
        finding there, or suppression would have taken another. Raises ValueError where there is none.
        """
        every, (height, width) = reading.candidates, reading.size
        label = self.task.findings.names.index(prediction.findings[n]) + 1
        scale = torch.tensor([width / prediction.width, height / prediction.height] * 2)
        box = (torch.tensor(prediction.boxes[n]) * scale).to(every.boxes)
        if label < every.scores.shape[1]:
            near = (every.boxes[:, label] - box).abs().amax(1) <= _SAME_BOX
            if near.any():
                return every.at(int(torch.where(near, every.scores[:, label], -1).argmax()), label)
        raise ValueError(f"the detector no longer sees the {prediction.findings[n]} at {prediction.boxes[n]}")


def _stored(maps: Tensor) -> NDArray[np.uint16]:
    stored: NDArray[np.uint16] = np.rint(maps.cpu().numpy() * 65535).astype(np.uint16)
    return stored
