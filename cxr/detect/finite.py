"""Whether all that a detector computed of a film is finite: a NaN in its layers looks like a film without findings.

torchvision keeps the boxes whose score is above a threshold. NaN is above nothing. So a network that computes NaN gives
no box and the score 0, and its film would be put aside as normal. The boxes alone do not show that, so the outputs of
the layers are checked too.
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
    """The error of a film for which a detector computed NaN or infinity, or whose map has some."""


class Watch:
    """A check of what the layers of a detector computed while they were watched."""

    def __init__(self) -> None:
        self._checks: list[Tensor] = []

    @property
    def finite(self) -> bool:
        """Whether every value was a finite number."""
        return all(bool(check) for check in self._checks)

    def look_at(self, output: Any) -> None:
        """Check the output of a layer. The result is read later, so that no layer waits for the GPU."""
        self._checks += [torch.isfinite(values).all() for values in _tensors(output)]


@contextmanager
def watched(detector: nn.Module) -> Iterator[Watch]:
    """Watch the outputs of the backbone and the layers behind it, in calls from this thread.

    NaN inside the backbone reaches its output. Behind the backbone boxes are chosen, which may drop NaN. So there each
    layer that has weights is watched.
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
    """Return what ``task.detect`` returns for each film; None for a film of which any output is not finite.

    Where a batch holds such a film, its films are detected one by one: the output of a layer behind the backbone does
    not show which film it belongs to.
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
    """Yield the floating-point tensors in the output of a layer, however nested."""
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
