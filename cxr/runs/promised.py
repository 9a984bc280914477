"""What ``threshold=`` asks for, and what a run shows and puts aside by it: a score, or a promise (docs/promises.md).

``threshold=risk`` is ``{risk: 0.1}``. ``risk`` is of the missed boxes of each finding, ``false_boxes`` of the false
boxes of a film, ``screening`` of the abnormal patients put aside as normal; each stands alone or beside ``screening``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cxr.config.errors import ConfigError
from cxr.detect.prediction import Threshold
from cxr.measure.operating_point import OperatingPoint
from cxr.measure.promises import LEVELS, RATES, KeptPromises, Promises
from cxr.measure.risk_control import Promise
from cxr.report.promise_words import too_few
from cxr.runs.checkpoint import Checkpoint
from cxr.runs.named_detector import DEFAULT_THRESHOLD, shown_from
from cxr.runs.restored_network import operating_point

RISK, SCREENING, FALSE_BOXES = "risk", "screening", "false_boxes"
DEFAULT_LEVEL = 0.1
_ALLOWED = {RISK: LEVELS, SCREENING: LEVELS, FALSE_BOXES: RATES}


@dataclass(frozen=True)
class Shown:
    """What a run shows and puts aside.

    Args:
        threshold: boxes are shown from this score up.
        point: films that score lower are put aside as normal; None: no film is.
        promises: behind these two; None where a score was typed or nothing.
    """

    threshold: Threshold
    point: OperatingPoint | None
    promises: KeptPromises | None = None


def shown_by(typed: Any, checkpoint: Checkpoint, thresholds: Mapping[str, float] | None) -> Shown:
    """Return what ``threshold=`` means for a detector.

    Args:
        typed: the setting as plain data.
        checkpoint: the detector's, with its point and promises.
        thresholds: finding → the score from which up its boxes are shown, where a sweep has frozen them.

    Raises ``ConfigError``: no such form, no promises in the checkpoint, or too few patients for all that is asked.
    """
    asked = _asked(typed)
    if asked is None:
        return Shown(shown_from(typed, thresholds), operating_point(checkpoint))
    promises = checkpoint.promises
    if promises is None:
        raise ConfigError(
            f"threshold={typed}: {checkpoint.path} holds no promises. They are made where a training ends: one that was"
            " stopped goes on with the same command, one of a version before them has to be trained anew. For several"
            " checkpoints or views type evaluate.py ckpt=outputs/sweeps/NAME split=out_of_fold first (docs/promises.md)"
        )
    boxes = promises.of_findings(asked[RISK]) if RISK in asked else {}
    false = promises.of_false_boxes(asked[FALSE_BOXES]) if FALSE_BOXES in asked else None
    _refuse_no_promise(boxes, false)
    point, aside = _screening(asked, promises, operating_point(checkpoint))
    threshold = _threshold(boxes, false, shown_from(None, thresholds))
    return Shown(threshold, point, KeptPromises(promises.split, boxes, false, aside))


def _asked(typed: Any) -> dict[str, float] | None:
    """Return the levels that are asked for, by what is promised; None where it is a score or nothing."""
    if typed == RISK:
        return {RISK: DEFAULT_LEVEL}
    if not isinstance(typed, Mapping):
        return None
    wanted = f"threshold is {typed}, expected a score of 0 to 1, risk, or a promise"
    if unknown := [key for key in typed if key not in _ALLOWED]:
        raise ConfigError(f"{wanted} of {', '.join(_ALLOWED)}, not of {unknown[0]}: {{risk: 0.05}}")
    if not typed or {RISK, FALSE_BOXES} <= typed.keys():
        raise ConfigError(f"{wanted} of risk or of false_boxes: one score cannot keep both")
    for key, level in typed.items():
        if isinstance(level, bool) or level not in _ALLOWED[key]:
            levels = ", ".join(f"{one:g}" for one in _ALLOWED[key])
            raise ConfigError(f"threshold: {key} is {level}, and promises are made of {levels}")
    return {str(key): float(level) for key, level in typed.items()}


def _refuse_no_promise(boxes: Mapping[str, Promise], false: Promise | None) -> None:
    """Raise ``ConfigError`` where nothing of what is asked for boxes can be promised."""
    if boxes and all(one.threshold is None for one in boxes.values()):
        percent = f"{100 * next(iter(boxes.values())).level:g} %"
        why = "; ".join(f"{name}: {too_few(one)}" for name, one in boxes.items())
        raise ConfigError(f"threshold: of no finding can it be promised that at most {percent} are missed. {why}")
    if false is not None and false.threshold is None:
        raise ConfigError(f"threshold: {false.level:g} false boxes a film cannot be promised: {too_few(false)}")


def _screening(
    asked: Mapping[str, float], promises: Promises, own: OperatingPoint | None
) -> tuple[OperatingPoint | None, Promise | None]:
    """Return the operating point, and what is promised of it.

    Where ``screening`` is not typed, ``risk`` is promised of it too, and nothing is put aside that the detector's own
    point would not put aside: nobody has asked for more. Without a promise nothing is put aside.
    """
    level = asked.get(SCREENING, asked.get(RISK))
    if level is None:
        return own, None
    aside, point = promises.of_screening(level)
    if SCREENING in asked and point is None:
        raise ConfigError(
            f"threshold: it cannot be promised that at most {100 * level:g} % of the abnormal patients are put"
            f" aside: {too_few(aside)}"
        )
    careful = SCREENING not in asked and point is not None and own is not None and own.threshold <= point.threshold
    return (own if careful else point), aside


def _threshold(boxes: Mapping[str, Promise], false: Promise | None, usual: Threshold) -> Threshold:
    """Return the promised score; a finding that has no promise is shown from its usual score up."""
    if false is not None and false.threshold is not None:
        return false.threshold
    if not boxes:
        return usual
    others = usual if isinstance(usual, Mapping) else dict.fromkeys(boxes, DEFAULT_THRESHOLD)
    return {name: others[name] if one.threshold is None else one.threshold for name, one in boxes.items()}
