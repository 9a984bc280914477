"""What the training films of a detector look like, in a few numbers, and how far another film is from that.

Frontal films of the chest are much alike: two dark lungs beside a bright middle, a dark neck, a bright belly. So a film
of another view or part, one that lies on its side, or one whose grey values are inverted is known from a picture of 24
pixels a side. No network is asked for it: the answer is the same in every runtime, and for every member of an ensemble
that was trained on the same films.

The description of a film is made so that machines and windows differ little in it: its pixels are replaced by their
ranks, and beside them stand the directions of its edges. The training films give a mean and the directions in which
they differ most (a probabilistic principal component analysis; Tipping and Bishop 1999). The distance of a film is the
Mahalanobis distance of that model.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit  # type: ignore[import-untyped]

Values = NDArray[np.float32]

SIDE = 24
"""Pixels of a side of the picture that a film is described by."""
_CELLS, _DIRECTIONS = 4, 6  # of the histograms of edges: cells a side, directions in half a turn
_GREY_LEVELS = 48  # that ranks tell apart: noise in a black border would otherwise get ranks of its own
_MOST_AXES = 16
_PARTS = 5  # of the training films, where they help to choose the distance
_LEAST_FILMS = 8  # to train on, below which nothing is said of the likeness of a film
REFUSED = 0.01
"""Share of the validation films that may be refused."""
_ENOUGH = 99  # validation films, of which one rank lies at this share
_CLEARLY_BETTER = 0.75  # a turned or inverted film must be at most so far away, as a share of the film as it is


@dataclass(frozen=True, eq=False)
class KnownFilms:
    """A model of what the training films look like.

    Args:
        mean: [D] mean description.
        axes: [Q, D] orthonormal directions in which the films differ most.
        spread: [Q] standard deviation along each.
        rest: standard deviation along any other direction.
        allowed: the distance from which up a film is refused.
        films: number of films that the model was made of.
        chosen_on: number of validation films that ``allowed`` was chosen on.
    """

    mean: Values
    axes: Values
    spread: Values
    rest: float
    allowed: float
    films: int
    chosen_on: int

    def distance(self, picture: Values) -> float:
        """Return the distance of a film from the training films; ``picture`` is that of ``small_picture``."""
        apart = described(picture) - self.mean
        along = self.axes @ apart
        across = max(float(apart @ apart - along @ along), 0.0)
        return math.sqrt(float(np.square(along / self.spread).sum()) + across / self.rest**2)


@dataclass(frozen=True)
class Likeness:
    """How like the training films a film is.

    Args:
        distance: from them; 1 is the largest that is allowed.
        turned: degrees clockwise by which the film lies turned: 90, 180, 270; 0 where it does not.
        inverted: whether it would be like them with dark and bright exchanged.
    """

    distance: float
    turned: int = 0
    inverted: bool = False


def likeness(known: Sequence[KnownFilms], pixels: NDArray[Any]) -> Likeness:
    """Return how like the training films a film is; ``known`` are those of each member of an ensemble.

    The distance is the mean over the members, each as a multiple of what it allows. A film counts as turned or inverted
    if it is among the training films after it was turned or inverted, and clearly nearer to them than as it is.
    """
    picture = small_picture(pixels)

    def distance(other: Values) -> float:
        return float(np.mean([one.distance(other) / one.allowed for one in known]))

    here = distance(picture)
    others = [(distance(np.rot90(sign * picture, quarter)), quarter, sign) for sign in (1, -1) for quarter in range(4)]
    best, quarter, sign = min(others, key=lambda other: other[0])
    if best <= 1 and best < _CLEARLY_BETTER * here:
        return Likeness(here, 90 * quarter, sign < 0)
    return Likeness(here)


def small_picture(pixels: NDArray[Any]) -> Values:
    """Return a film [h, w] or [h, w, C] as the ranks of its grey values, [SIDE, SIDE] in -1..1.

    The film is stretched to a square. Equal grey values have the same rank, the mean of theirs. A film of one grey
    value is 0.
    """
    grey = np.asarray(pixels, np.float32)
    grey = grey if grey.ndim == 2 else grey.mean(axis=2)
    small = cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    low, high = (float(value) for value in np.percentile(small, (1, 99)))
    if not high > low:
        return np.zeros((SIDE, SIDE), np.float32)
    levels = np.rint(np.clip((small - low) / (high - low), 0, 1) * (_GREY_LEVELS - 1)).astype(np.int64)
    count = np.bincount(levels.ravel(), minlength=_GREY_LEVELS)
    middle = np.cumsum(count) - (count - 1) / 2 - 1  # mean rank of a level, 0..SIDE² - 1
    return np.asarray(middle[levels] / (SIDE**2 - 1) * 2 - 1, np.float32)


def described(picture: Values) -> Values:
    """Return the description [D] of a film.

    It is made of its ranks, of how strong its edges are in each place and direction, and of the share of its contrast
    that is in large parts, of which noise has next to none.
    """
    smooth = cv2.GaussianBlur(np.ascontiguousarray(picture), (0, 0), 1.0)
    down, right = np.gradient(smooth)
    strength, angle = np.hypot(down, right), np.arctan2(down, right) % np.pi
    place = np.arange(SIDE) * _CELLS // SIDE
    direction = (angle * (_DIRECTIONS / np.pi)).astype(np.int64) % _DIRECTIONS
    index = (place[:, None] * _CELLS + place[None]) * _DIRECTIONS + direction
    edges = np.bincount(index.ravel(), strength.ravel(), _CELLS**2 * _DIRECTIONS)
    edges = np.sqrt(edges / max(float(edges.sum()), 1e-6))  # its squares sum to 1
    large = float(cv2.GaussianBlur(smooth, (0, 0), 1.7).var()) / max(float(picture.var()), 1e-6)
    return np.concatenate([smooth.ravel() / SIDE, edges, [2 * large]]).astype(np.float32)


def learn(training: Sequence[Values], validation: Sequence[Values]) -> KnownFilms | None:
    """Return the model of training films; ``validation`` films choose the distance that is allowed.

    It is chosen so that 1 % of such films are refused. Of 99 validation films or more it is an order statistic
    (``least_refused``). Fewer films have none. Then training films help, in five parts, each judged by a model of the
    four others, and the distance is the bound of the next one (``bound_of_next``).

    Films come as ``small_picture`` gives them, those of one patient side by side. None for fewer than 8 training films
    or 2 validation films.
    """
    if len(training) < _LEAST_FILMS or len(validation) < 2:
        return None
    model = _fitted(training, len(validation))
    distances = [model.distance(picture) for picture in validation]
    if len(validation) >= _ENOUGH:
        return replace(model, allowed=least_refused(distances))
    for part in np.array_split(np.arange(len(training)), _PARTS):
        others = _fitted([picture for n, picture in enumerate(training) if n not in part], 0)
        distances += [others.distance(training[n]) for n in part]
    return replace(model, allowed=bound_of_next(distances))


def _fitted(training: Sequence[Values], chosen_on: int) -> KnownFilms:
    """Return the model of some films, whose allowed distance is not chosen yet.

    Each film counts in several positions, moved, turned and scaled a little, so that few films do not make a narrow
    model.
    """
    rows = np.stack([described(moved) for picture in training for moved in _positions(picture)]).astype(np.float64)
    mean = rows.mean(axis=0)
    rows -= mean
    variances, directions = (values[..., ::-1] for values in np.linalg.eigh(rows.T @ rows / (len(rows) - 1)))
    kept = min(_MOST_AXES, len(training) // 4)
    rest = math.sqrt(max(float(variances[kept:].sum()) / (rows.shape[1] - kept), 1e-12))
    return KnownFilms(
        mean=np.asarray(mean, np.float32),
        axes=np.asarray(directions.T[:kept], np.float32),
        spread=np.asarray(np.sqrt(np.maximum(variances[:kept], rest**2)), np.float32),
        rest=rest,
        allowed=1.0,
        films=len(training),
        chosen_on=chosen_on,
    )


def least_refused(distances: Sequence[float]) -> float:
    """Return the distance of rank 0.99 (n + 1), rounded up, of 99 films or more.

    Whatever the distribution, a new film of the same kind exceeds it with a probability of at most 1 %.
    """
    return sorted(distances)[math.ceil((1 - REFUSED) * (len(distances) + 1)) - 1]


def bound_of_next(distances: Sequence[float]) -> float:
    """Return the bound that the next film exceeds with a probability of 1 %, from any number of films above one.

    It is the prediction interval of Student's t, if the logarithms of the distances are normally distributed. The fewer
    films, the wider it is: a gate that knows little refuses little. A single odd film moves it less than it would move
    the largest distances, of which an order statistic is made.
    """
    logs = np.log(np.maximum(distances, 1e-6))
    count = len(logs)
    bound = logs.mean() + stdtrit(count - 1, 1 - REFUSED) * logs.std(ddof=1) * math.sqrt(1 + 1 / count)
    return float(np.exp(min(bound, 50)))


def as_plain(known: KnownFilms) -> dict[str, Any]:
    """Return a model as numbers and nested lists of them, for JSON; seven digits are what float32 has."""
    plain = {
        name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in _as_fields(known).items()
    }
    return {name: _rounded(value) for name, value in plain.items()}


def from_fields(given: Mapping[str, Any]) -> KnownFilms:
    """Return the model with these fields, arrays or nested lists. Raises ``ValueError`` for what is no model."""
    names = [field.name for field in fields(KnownFilms)]
    if set(given) != set(names):
        raise ValueError(f"it has the fields {', '.join(map(str, given))[:300]}, expected {', '.join(names)}")
    arrays = {name: _array(name, given[name]) for name in ("mean", "axes", "spread")}
    size, (count, width) = len(described(np.zeros((SIDE, SIDE), np.float32))), arrays["axes"].shape
    if arrays["mean"].shape != (size,) or width != size or arrays["spread"].shape != (count,):
        shapes = ", ".join(f"{name} {list(values.shape)}" for name, values in arrays.items())
        raise ValueError(f"its shapes are {shapes}, expected [{size}], [Q, {size}] and [Q]")
    rest, allowed, counts = given["rest"], given["allowed"], (given["films"], given["chosen_on"])
    if not all(type(value) in (int, float) and 0 < value < math.inf for value in (rest, allowed)):
        raise ValueError("rest or allowed is no number above 0")
    if not all(type(value) is int and value >= 0 for value in counts):
        raise ValueError("films and chosen_on are no numbers of films")
    if not (arrays["spread"] > 0).all():
        raise ValueError("spread holds 0 or less, expected standard deviations")
    return KnownFilms(arrays["mean"], arrays["axes"], arrays["spread"], float(rest), float(allowed), *counts)


def _array(name: str, values: Any) -> Values:
    try:
        with np.errstate(over="ignore"):  # what is too large for float32 is infinite, and refused below
            array = np.asarray(values, np.float32)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:  # the last of a tensor that is no plain array
        raise ValueError(f"{name} holds something else than numbers") from error
    if array.ndim != (2 if name == "axes" else 1) or not np.isfinite(array).all():
        raise ValueError(f"{name} has {array.ndim} dimensions, or numbers that are not finite")
    return array


def _as_fields(known: KnownFilms) -> dict[str, Any]:
    return {field.name: getattr(known, field.name) for field in fields(KnownFilms)}


def _rounded(value: Any) -> Any:
    if isinstance(value, list):
        return [_rounded(part) for part in value]
    return float(f"{value:.7g}") if isinstance(value, float) else value


def _positions(picture: Values) -> list[Values]:
    """Return a film as it is, and as it would be with the patient a little elsewhere, nearer, farther or turned."""
    moved = [picture]
    for scale, degrees, right, down in _MOVES:
        matrix = cv2.getRotationMatrix2D(((SIDE - 1) / 2, (SIDE - 1) / 2), degrees, scale)
        matrix[:, 2] += np.array([right, down]) * SIDE
        moved.append(np.asarray(cv2.warpAffine(picture, matrix, (SIDE, SIDE), borderMode=cv2.BORDER_REPLICATE)))
    return moved


_MOVES: tuple[tuple[float, float, float, float], ...] = (  # scale, degrees, right, down
    *((1.0, 0, 0.05, 0), (1.0, 0, -0.05, 0), (1.0, 0, 0, 0.05), (1.0, 0, 0, -0.05)),
    *((1.1, 0, 0, 0), (0.92, 0, 0, 0), (1.0, 4, 0, 0), (1.0, -4, 0, 0)),
)
