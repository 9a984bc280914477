"""What travels beside an exported network: plain data that say how films go in and what comes out."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

CARD = "export.json"
FORMAT = 1  # counts up when an older version would misread a card


@dataclass(frozen=True)
class Card:
    """An exported network's card, as ``export.json`` holds it.

    Args:
        runtime: what runs it: "onnx", "openvino" or "torch".
        files: name → hash of each of its files, the one to open first.
        detector: the builder it came from, for people.
        checkpoint: hash of the checkpoint, as reports name it.
        findings: the vocabulary behind the labels, ``FindingVocabulary.as_dict``.
        size: longest side in pixels of the films that the detector was trained on.
        channels: of a film.
        stride: the canvas's side is a multiple of it.
        outputs: their names, in order.
        intensity: what films go through first, a checkpoint's ``data.intensity``. Not to be trusted, as there.
        kind: of the films it was trained on; None where the checkpoint does not tell.
        score_thresh: it gives no detections below.
        detections_per_img: it gives at most so many a film.
        box_weight, film_weight: shares of the image head in the scores (``ImageHead``); 0 without one.
        operating_point: of screening, ``OperatingPoint.as_dict``; None where there is none.
        versions: of the packages that made it.
        compared: how far it was from the detector itself, when it was made (``Comparison``).
    """

    runtime: str
    files: Mapping[str, str]
    detector: str
    checkpoint: str
    findings: Mapping[str, Any]
    size: int
    channels: int
    stride: int
    outputs: tuple[str, ...]
    intensity: Mapping[str, Any]
    kind: str | None
    score_thresh: float
    detections_per_img: int
    box_weight: float
    film_weight: float
    operating_point: Mapping[str, Any] | None
    versions: Mapping[str, str]
    compared: Mapping[str, Any] = field(default_factory=dict)
