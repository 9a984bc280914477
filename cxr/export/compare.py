"""An exported network against the detector it was made of, on drawn films.

Both compute in float32 and round differently, by some 1e-6 of a value. Where two boxes tie, in score or at the limit of
suppression, the last bit decides which of them is kept, and then the two say another box. Whether a film is such a
film is asked of the detector itself: it looks at the film again with its pixels moved by less than the step of 1/65535
that films are kept in. A detection is *undecided*, and no difference of the export's, where

- its score is not above the strongest detection that the detector itself then says otherwise, and of such there are in
  the film at most twice as many as the detector itself says otherwise; or
- it is within 1e-4 of the lowest score that is kept: the detector's threshold, or the weakest of a full film.

All others must have their like: the same finding, its sides within 0.1 px, its score within 1e-4.
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
FILMS = 120  # drawn ones; an empty one comes beside them

_BATCH = 8
_STEP = 1 / 65535  # of a film's pixels, as they are kept
_LOOKS = 6  # of the detector at a film whose detections are not alike
_FULL_SCALE = 4095  # of the drawn films' stored values

Detections = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Comparison:
    """How far two detectors are apart.

    Args:
        films: looked at by both.
        sides: longest side in pixels of the films, and of others.
        detections: of the first, on all films.
        box_px: largest difference of a side of a box, pixels of the film.
        score: largest difference of a score, of boxes and of films.
        undecided: detections that only one of the two has, and that hang on rounding (above).
        unlike: other detections that only one of the two has.
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
        """Whether all differences are within what is allowed."""
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
    """Return how far ``exported`` is from ``task`` on ``films`` drawn films, shared among ``sides``, and an empty one.

    Compared is what the network gives, before boxes and image head are fused: the same code fuses both. ``progress``
    is told how many films are done.
    """
    unfused = ExportedDetector(replace(exported.card, box_weight=0.0, film_weight=1.0), exported.runtime)
    total = Comparison(sides=sides)
    with _unfused(task):
        for batch in _batches(films, sides, exported.card.channels):
            said, others = (_detections(detector, batch) for detector in (task, unfused))
            for image, own, other in zip(batch, said, others, strict=True):
                total = _with_film(total, task, unfused, image, own, other)
            progress(total.films)
    return total


def _with_film(
    total: Comparison,
    task: FilmDetector,
    exported: ExportedDetector,
    image: Tensor,
    own: Detections,
    other: Detections,
) -> Comparison:
    """Return ``total`` with one more film, of which the detector says ``own`` and the exported network ``other``."""
    pairs = paired(own, other)
    alone = _alone(own, other, pairs)
    shaky, count = _shaky(task, image, own) if alone.size else (0.0, 0)
    lowest = _lowest_kept(own, other, exported)
    excused = (alone <= lowest + SCORE) | ((alone <= shaky + SCORE) & (alone.size <= 2 * count))
    apart = [np.abs(own["boxes"][i] - other["boxes"][j]).max() for i, j in pairs]
    scores = [abs(own["scores"][i] - other["scores"][j]) for i, j in pairs]
    scores += _apart_as_a_whole(
        own, other, 0.0 if IMAGE_OUTPUT in exported.card.outputs else max(shaky, lowest) + SCORE
    )
    if unlike := alone[~excused].size:  # what they come closest to, so that the largest difference is told
        nearest = _nearest(own, other, pairs)
        apart, scores = [*apart, *(box for box, _ in nearest)], [*scores, *(score for _, score in nearest)]
    return Comparison(
        total.films + 1,
        total.sides,
        total.detections + len(own["scores"]),
        float(max([total.box_px, *apart])),
        float(max([total.score, *scores])),
        total.undecided + int(excused.sum()),
        total.unlike + int(unlike),
    )


def paired(own: Detections, other: Detections) -> list[tuple[int, int]]:
    """Return the places of detections that are alike: of one finding, within ``BOX_PX`` and ``SCORE``; each once."""
    if not (len(own["scores"]) and len(other["scores"])):
        return []
    cost = np.maximum(
        *(difference / most for difference, most in zip(_apart(own, other), (BOX_PX, SCORE), strict=True))
    )
    cost[own["labels"][:, None] != other["labels"]] = np.inf
    pairs, free = [], np.ones(cost.shape[1], bool)
    for i in np.argsort(-own["scores"], kind="stable"):
        j = int(np.where(free, cost[i], np.inf).argmin())
        if free[j] and cost[i, j] <= 1:
            free[j] = False
            pairs.append((int(i), j))
    return pairs


def _apart(own: Detections, other: Detections) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the largest difference of a side [N, M], and that of the scores [N, M]."""
    boxes = np.abs(own["boxes"][:, None] - other["boxes"][None]).max(2)
    return boxes, np.abs(own["scores"][:, None] - other["scores"][None])


def _alone(own: Detections, other: Detections, pairs: list[tuple[int, int]]) -> NDArray[Any]:
    """Return the scores of the detections, of either side, that have no like."""
    parts = [np.delete(side["scores"], [pair[n] for pair in pairs]) for n, side in enumerate((own, other))]
    return np.concatenate(parts)


def _nearest(own: Detections, other: Detections, pairs: list[tuple[int, int]]) -> list[tuple[float, float]]:
    """Return how far each detection of ``own`` that has no like is from the nearest one of its finding."""
    found = []
    boxes, scores = _apart(own, other)
    for i in set(range(len(own["scores"]))) - {i for i, _ in pairs}:
        same = np.flatnonzero(other["labels"] == own["labels"][i])
        if same.size:
            j = same[boxes[i, same].argmin()]
            found.append((float(boxes[i, j]), float(scores[i, j])))
    return found


def _shaky(task: FilmDetector, image: Tensor, own: Detections) -> tuple[float, int]:
    """Return what the detector says otherwise of a film whose pixels are moved by less than their step.

    The strongest score of that, and the most detections.
    """
    random = torch.Generator().manual_seed(0)
    noise = [(torch.rand(image.shape, generator=random) - 0.5) * 2 * _STEP for _ in range(_LOOKS)]
    strongest, count = 0.0, 0
    for other in _detections(task, [image + some for some in noise]):
        alone = _alone(own, other, paired(own, other))
        strongest, count = max(strongest, float(alone.max(initial=0.0))), max(count, alone.size)
    return strongest, count


def _lowest_kept(own: Detections, other: Detections, exported: ExportedDetector) -> float:
    """Return the score below which the film's detections are dropped."""
    card = exported.card
    full = [side["scores"].min() for side in (own, other) if len(side["scores"]) >= card.detections_per_img]
    return float(max([card.score_thresh, *full]))


def _apart_as_a_whole(own: Detections, other: Detections, least: float) -> list[float]:
    """Return the differences of the scores of the whole film, from ``least`` up: an undecided box may have made others.

    With an image head, they are that one's, and all of them count.
    """
    both = [np.append(side["finding_scores"], side["abnormal"]) for side in (own, other)]
    apart = np.nan_to_num(np.abs(both[0] - both[1]), nan=np.inf)  # NaN is like nothing
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
    found = detector.detect(images, targets)
    return [{name: value.double().numpy() for name, value in of_film.items()} for of_film in found]


@contextmanager
def _unfused(task: FilmDetector) -> Iterator[None]:
    """Let a task say of boxes what the boxes say, and of the film what the image head says."""
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
