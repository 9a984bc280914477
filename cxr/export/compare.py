"""Compares an exported network with the original detector, on drawn films.

Both compute in float32 but round differently, by about 1e-6 of a value. If two boxes tie, in score or at the limit of
suppression, the last bit decides which one is kept, and the two networks may keep different boxes. The original
detector itself shows whether a film has such ties: it gets the film again with each pixel moved by less than the step
of 1/65535 in which films are stored. A detection that only one of the two networks has counts as *undecided*, and not
as a difference of the export, if

- its score is not above that of the strongest detection that the original changes when the pixels move, and there are
  at most twice as many such detections in the film as the original changes; or
- its score is within 1e-4 of the lowest score that is kept: the threshold, or the weakest detection of a full film.

Every other detection must have a partner: the same finding, its sides within 0.1 px, its score within 1e-4.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cxr.detect.film_detector import FilmDetector
from cxr.export.detector import ExportedDetector
from cxr.export.graph import IMAGE_OUTPUT
from cxr.phantom.films import draw_phantom

BOX_PX = 0.1
SCORE = 1e-4
FILMS = 120  # number of drawn films; one empty film is added

_BATCH = 8
_STEP = 1 / 65535  # step in which the pixels of films are stored
_LOOKS = 6  # how often the original detects in a film whose pixels are moved
_FULL_SCALE = 4095  # largest stored value of the drawn films

Detections = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Comparison:
    """How different the detections of two detectors are.

    Args:
        films: number of films that both have got.
        sides: the longest sides of the films in pixels.
        detections: number of detections of the first detector on all films.
        box_px: largest difference of a side of a box in pixels of the film.
        score: largest difference of a score of a box or of a film.
        undecided: number of detections that only one of the two has because of rounding (see the module).
        unlike: number of other detections that only one of the two has.
    """

    films: int = 0
    sides: tuple[int, ...] = ()
    detections: int = 0
    box_px: float = 0.0
    score: float = 0.0
    undecided: int = 0
    unlike: int = 0

    @property
    def alike(self) -> bool:
        """Return whether all differences are within the limits."""
        return self.box_px <= BOX_PX and self.score <= SCORE and self.unlike == 0

    def __str__(self) -> str:
        text = f"{self.films} films, {self.detections} detections: boxes within {self.box_px:.2g} px"
        text += f", scores within {self.score:.2g}"
        if self.unlike:
            text += f", {self.unlike} detections that only one of the two has"
        return text + (f" ({self.undecided} more hang on rounding)" if self.undecided else "")

    def as_dict(self) -> dict[str, Any]:
        """Return plain containers."""
        return {**asdict(self), "sides": list(self.sides)}


def compare(
    task: FilmDetector,
    exported: ExportedDetector,
    sides: tuple[int, ...],
    films: int = FILMS,
    progress: Callable[[int], None] = lambda _: None,
) -> Comparison:
    """Compare ``exported`` with ``task`` on ``films`` drawn films, shared among ``sides``, and on an empty one.

    The outputs are compared before boxes and image head are fused, because the same code fuses both. ``progress`` is
    called with the number of films that are done.
    """
    unfused = ExportedDetector(replace(exported.card, box_weight=0.0, film_weight=1.0), exported.runtime)
    total = Comparison(sides=sides)
    with _unfused(task):
        for batch in _batches(films, sides, exported.card.channels):
            originals, others = (_detections(detector, batch) for detector in (task, unfused))
            for image, original, other in zip(batch, originals, others, strict=True):
                total = _with_film(total, task, unfused, image, original, other)
            progress(total.films)
    return total


def _with_film(
    total: Comparison,
    task: FilmDetector,
    exported: ExportedDetector,
    image: Tensor,
    original: Detections,
    other: Detections,
) -> Comparison:
    """Return ``total`` plus one film, in which the detector has ``original`` and the exported network has ``other``."""
    pairs = paired(original, other)
    alone = _alone(original, other, pairs)
    shaky, count = _shaky(task, image, original) if alone.size else (0.0, 0)
    lowest = _lowest_kept(original, other, exported)
    excused = (alone <= lowest + SCORE) | ((alone <= shaky + SCORE) & (alone.size <= 2 * count))
    apart = [np.abs(original["boxes"][i] - other["boxes"][j]).max() for i, j in pairs]
    scores = [abs(original["scores"][i] - other["scores"][j]) for i, j in pairs]
    scores += _apart_as_a_whole(
        original, other, 0.0 if IMAGE_OUTPUT in exported.card.outputs else max(shaky, lowest) + SCORE
    )
    if unlike := alone[~excused].size:  # compared with the nearest, so that the largest difference counts
        nearest = _nearest(original, other, pairs)
        apart, scores = [*apart, *(box for box, _ in nearest)], [*scores, *(score for _, score in nearest)]
    return Comparison(
        total.films + 1,
        total.sides,
        total.detections + len(original["scores"]),
        float(max([total.box_px, *apart])),
        float(max([total.score, *scores])),
        total.undecided + int(excused.sum()),
        total.unlike + int(unlike),
    )


def paired(original: Detections, other: Detections) -> list[tuple[int, int]]:
    """Return index pairs of detections with one finding, within ``BOX_PX`` and ``SCORE``; each is used once at most."""
    if not (len(original["scores"]) and len(other["scores"])):
        return []
    cost = np.maximum(
        *(difference / most for difference, most in zip(_apart(original, other), (BOX_PX, SCORE), strict=True))
    )
    cost[original["labels"][:, None] != other["labels"]] = np.inf
    pairs, free = [], np.ones(cost.shape[1], bool)
    for i in np.argsort(-original["scores"], kind="stable"):
        j = int(np.where(free, cost[i], np.inf).argmin())
        if free[j] and cost[i, j] <= 1:
            free[j] = False
            pairs.append((int(i), j))
    return pairs


def _apart(original: Detections, other: Detections) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return for each pair of detections the largest difference of a side, and that of the scores, both [N, M]."""
    boxes = np.abs(original["boxes"][:, None] - other["boxes"][None]).max(2)
    return boxes, np.abs(original["scores"][:, None] - other["scores"][None])


def _alone(original: Detections, other: Detections, pairs: list[tuple[int, int]]) -> NDArray[Any]:
    """Return the scores of the detections of both that have no partner in ``pairs``."""
    parts = [np.delete(side["scores"], [pair[n] for pair in pairs]) for n, side in enumerate((original, other))]
    return np.concatenate(parts)


def _nearest(original: Detections, other: Detections, pairs: list[tuple[int, int]]) -> list[tuple[float, float]]:
    """Return how far each detection of ``original`` without a partner is from the nearest one of its finding."""
    distances = []
    boxes, scores = _apart(original, other)
    for i in set(range(len(original["scores"]))) - {i for i, _ in pairs}:
        same = np.flatnonzero(other["labels"] == original["labels"][i])
        if same.size:
            j = same[boxes[i, same].argmin()]
            distances.append((float(boxes[i, j]), float(scores[i, j])))
    return distances


def _shaky(task: FilmDetector, image: Tensor, original: Detections) -> tuple[float, int]:
    """Return how much the detections change when the film's pixels are moved by less than their step.

    The first number is the highest score of a detection that changes, the second is the largest number of them.
    """
    random = torch.Generator().manual_seed(0)
    noise = [(torch.rand(image.shape, generator=random) - 0.5) * 2 * _STEP for _ in range(_LOOKS)]
    strongest, count = 0.0, 0
    for other in _detections(task, [image + some for some in noise]):
        alone = _alone(original, other, paired(original, other))
        strongest, count = max(strongest, float(alone.max(initial=0.0))), max(count, alone.size)
    return strongest, count


def _lowest_kept(original: Detections, other: Detections, exported: ExportedDetector) -> float:
    """Return the score below which detections of the film are dropped."""
    card = exported.card
    full = [side["scores"].min() for side in (original, other) if len(side["scores"]) >= card.detections_per_img]
    return float(max([card.score_thresh, *full]))


def _apart_as_a_whole(original: Detections, other: Detections, least: float) -> list[float]:
    """Return the differences of those scores of the whole film that are at least ``least``.

    Without an image head, boxes make these scores, and lower ones may differ because of an undecided box.
    """
    both = [np.append(side["finding_scores"], side["abnormal"]) for side in (original, other)]
    apart = np.nan_to_num(np.abs(both[0] - both[1]), nan=np.inf)  # NaN differs from everything
    return [float(value) for value in apart[(np.maximum(*both) >= least) | np.isinf(apart)]]


def _batches(films: int, sides: tuple[int, ...], channels: int) -> Iterator[list[Tensor]]:
    """Yield batches of films [C, h, w] float32 in 0..1: an empty one, then drawn ones of each side in turn."""
    yield [torch.zeros(channels, sides[0], sides[0])]
    for turn, side in enumerate(sides):
        numbers = range(turn, films, len(sides))
        for start in range(0, len(numbers), _BATCH):
            yield [_drawn(number, side).expand(channels, -1, -1) for number in numbers[start : start + _BATCH]]


def _drawn(seed: int, side: int) -> Tensor:
    stored = draw_phantom(np.random.default_rng(seed), side).pixels  # MONOCHROME1: air is the highest value
    return torch.from_numpy(1 - np.float32(1 / _FULL_SCALE) * stored)[None]


def _detections(detector: FilmDetector, images: list[Tensor]) -> list[Detections]:
    targets = [{"scale": torch.ones(2), "size": torch.tensor(image.shape[-2:])} for image in images]
    detections = detector.detect(images, targets)
    return [{name: value.double().numpy() for name, value in of_film.items()} for of_film in detections]


@contextmanager
def _unfused(task: FilmDetector) -> Iterator[None]:
    """Let a task return the scores of boxes and of the image head separately, not fused."""
    head = task.image_head
    weights = None if head is None else (head.box_weight.clone(), head.film_weight.clone())
    if head is not None:
        head.box_weight.fill_(0.0)
        head.film_weight.fill_(1.0)
    try:
        yield
    finally:
        if head is not None and weights is not None:
            head.box_weight.copy_(weights[0])
            head.film_weight.copy_(weights[1])
