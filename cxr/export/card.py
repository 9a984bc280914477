"""The card of an exported network: plain data about its input and output, in the file ``export.json``."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

CARD = "export.json"
FORMAT = 1  # raised when an older version would misread a card


@dataclass(frozen=True)
class Card:
    """The card of an exported network, as it is stored in ``export.json``.

    Args:
        runtime: program that runs it: "onnx", "openvino" or "torch".
        files: name → hash of each of its files; the first one is to be opened.
        detector: builder of the original detector, for people to read.
        checkpoint: hash of the checkpoint, as reports name it.
        findings: vocabulary of the labels, ``FindingVocabulary.as_dict``.
        size: longest side in pixels of the films on which the detector was trained.
        channels: number of channels of a film.
        stride: number of which the side of the canvas is a multiple.
        outputs: names of the outputs, in order.
        intensity: steps that films go through first, ``data.intensity`` of the checkpoint. Not trusted, as there.
        kind: kind of the films on which it was trained; None if the checkpoint does not say.
        score_thresh: lowest score of a detection.
        detections_per_img: largest number of detections in a film.
        box_weight, film_weight: shares of the image head in the scores (``ImageHead``); 0 without one.
        operating_point: operating point of screening, ``OperatingPoint.as_dict``; None if there is none.
        versions: versions of the packages that made it.
        compared: how far it was from the original detector when it was made (``Comparison``).
        known_films: what the films on which it was trained look like, ``known_films.as_plain``; None if the checkpoint
            does not say.
        promises: ``Promises.as_dict``; None if the checkpoint has none.
        model_card: digest by which reports name the model card of the detector; None in a card of an older version.
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
    known_films: Mapping[str, Any] | None = None
    reference: Mapping[str, Any] | None = None
    promises: Mapping[str, Any] | None = None
    model_card: str | None = None
