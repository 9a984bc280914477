"""Whether all that a detector computed of a film is finite: a NaN in its layers looks like a film without findings.

Torchvision keeps the boxes whose score lies above a threshold. NaN lies above nothing, so a network that computes NaN
gives no box, the score 0, and a film that would be put aside as normal. The answer alone therefore does not tell: what
the layers computed is looked at, too.
"""

import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from cxr.detect.film_detector import FilmDetector

Detections = dict[str, Tensor]


class NotFiniteError(ValueError):
    """A detector computed NaN or infinity of a film, or a map of it holds some."""


class Watch:
    """What the layers of a detector gave while they were watched."""

    def __init__(self) -> None:
        self._checks: list[Tensor] = []

    @property
    def finite(self) -> bool:
        """Whether every value was a finite number."""
        return all(bool(check) for check in self._checks)

    def look_at(self, output: Any) -> None:
        """Check what a layer gave; read later, so that a GPU is not waited for at each layer."""
        self._checks += [torch.isfinite(values).all() for values in _tensors(output)]


@contextmanager
def watched(detector: nn.Module) -> Iterator[Watch]:
    """Watch what the backbone and the layers behind it give to calls from this thread.

    NaN within the backbone reaches its output. Behind it boxes are chosen, which may drop NaN: each layer with weights
    of its own is watched.
    """
    watch, thread = Watch(), threading.get_ident()

    def look(module: nn.Module, inputs: object, output: Any) -> None:
        if threading.get_ident() == thread:
            watch.look_at(output)

    hooks = [module.register_forward_hook(look) for module in _layers(detector)]
    try:
        yield watch
    finally:
        for hook in hooks:
            hook.remove()


def detect_finite(
    task: FilmDetector, images: list[Tensor], targets: list[dict[str, Tensor]]
) -> list[Detections | None]:
    """Return what ``task.detect`` says of each film; None for a film of which anything computed is not finite.

    Where a batch holds such a film, each of its films is looked at alone: layers behind the backbone do not tell which
    film of a batch they saw.
    """
    with watched(task.detector) as watch:
        detections = task.detect(images, targets)
    if watch.finite and all(_finite(detection) for detection in detections):
        return list(detections)
    if len(images) == 1:
        return [None]
    return [detect_finite(task, [image], [target])[0] for image, target in zip(images, targets, strict=True)]


def _layers(detector: nn.Module) -> Iterable[nn.Module]:
    members = getattr(detector, "members", None)
    if isinstance(members, nn.ModuleList):  # an ensemble has no layers of its own
        for member in members:
            yield from _layers(member)
        return
    backbone = getattr(detector, "backbone", None)
    inside = set(backbone.modules()) if isinstance(backbone, nn.Module) else set()
    for module in detector.modules():
        if module is backbone or (module not in inside and next(module.parameters(recurse=False), None) is not None):
            yield module


def _tensors(output: Any) -> Iterator[Tensor]:
    """Yield the tensors of numbers in what a layer gave, however it is nested."""
    if isinstance(output, Tensor):
        if output.is_floating_point():
            yield output
    elif isinstance(output, Mapping):
        for value in output.values():
            yield from _tensors(value)
    elif isinstance(output, list | tuple):
        for value in output:
            yield from _tensors(value)


def _finite(detections: Mapping[str, Tensor]) -> bool:
    return all(bool(torch.isfinite(values).all()) for values in _tensors(detections))
