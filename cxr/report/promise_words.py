"""What a run promises, in sentences: what, on how many patients, and what breaks it."""

from collections.abc import Mapping

from cxr.measure.promises import KeptPromises
from cxr.measure.risk_control import MOST_FALSE, Promise
from cxr.report.words import words

OUT_OF_FOLD = "out-of-fold"
"""What promises are made on that films choose which each one member of an ensemble judges."""
VALIDATION = "val"
"""The same, of a training's own validation films."""


def promise_sentences(kept: KeptPromises, language: str = "en") -> list[str]:
    """Return all that is promised and all that is not, and at last what breaks the promises."""
    say = words(language)["promises"]
    split = say["splits"].get(kept.split, kept.split)
    lines = _of_boxes(kept.boxes, split, language)
    if kept.false_boxes is not None:
        one = kept.false_boxes
        about = {"rate": f"{one.level:g}", "most": f"{MOST_FALSE:g}", "n": one.patients, "split": split}
        lines.append(say["false_boxes"].format(**about))
    if kept.screening is not None:
        one = kept.screening
        about = {"percent": _percent(one), "n": one.patients, "split": split, "why": too_few(one, language)}
        lines.append(say["screening" if one.threshold is not None else "no_screening"].format(**about))
    caution = {OUT_OF_FOLD: [say["of_members"]], VALIDATION: [say["of_validation"]]}.get(kept.split, [])
    return [*lines, *caution, say["broken"]]


def too_few(one: Promise, language: str = "en") -> str:
    """Return why there is no promise: how many patients it takes, or that no number is enough."""
    say = words(language)["promises"]
    if one.needed is None:
        return str(say["never"].format(risk=f"{one.risk:.3g}", n=one.patients))
    return str(say["too_few"].format(n=one.patients, needed=one.needed))


def _of_boxes(boxes: Mapping[str, Promise], split: str, language: str) -> list[str]:
    """Return a sentence on the findings that are promised something, and one on each that is not."""
    say = words(language)["promises"]
    held = {name: one for name, one in boxes.items() if one.threshold is not None}
    lines = []
    if held:
        patients = ", ".join(f"{name} {one.patients}" for name, one in held.items())
        percent = _percent(next(iter(held.values())))
        lines.append(say["boxes"].format(percent=percent, patients=patients, split=split))
    for name, one in boxes.items():
        if one.threshold is None:
            lines.append(say["no_boxes"].format(finding=name, why=too_few(one, language)))
    return lines


def _percent(one: Promise) -> str:
    return f"{100 * one.level:g}"
