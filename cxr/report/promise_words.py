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
    of_boxes = _of_boxes(kept.boxes, kept, language)
    return [*of_boxes, *_of_false_boxes(kept, language), *_of_screening(kept, language), *_cautions(kept, language)]


def sentence_of(name: str, kept: KeptPromises, language: str = "en") -> str:
    """Return what is promised of one thing, or that nothing is: a finding, ``false_boxes`` or ``screening``."""
    one = kept.boxes.get(name) or {"screening": kept.screening, "false_boxes": kept.false_boxes}.get(name)
    if name in kept.boxes:
        lines = _of_boxes({name: kept.boxes[name]}, kept, language)
    else:
        lines = (_of_screening if name == "screening" else _of_false_boxes)(kept, language)
    promised = one is not None and one.threshold is not None
    return " ".join([*lines, *_cautions(kept, language)] if promised else lines)


def too_few(one: Promise, language: str = "en") -> str:
    """Return why there is no promise: how many patients it takes, or that no number is enough."""
    say = words(language)["promises"]
    if one.needed is None:
        return str(say["never"].format(risk=f"{one.risk:.3g}", n=one.patients))
    return str(say["too_few"].format(n=one.patients, needed=one.needed))


def _of_false_boxes(kept: KeptPromises, language: str) -> list[str]:
    """Return a sentence on the false boxes of a film, where one was asked for."""
    if (one := kept.false_boxes) is None:
        return []
    say = words(language)["promises"]
    about = {"rate": f"{one.level:g}", "most": f"{MOST_FALSE:g}", "n": one.patients}
    return [say["false_boxes"].format(split=_split(kept, language), **about)]


def _of_screening(kept: KeptPromises, language: str) -> list[str]:
    """Return a sentence on screening, where one was asked for."""
    if (one := kept.screening) is None:
        return []
    say = words(language)["promises"]
    about = {"percent": _percent(one), "n": one.patients, "why": too_few(one, language)}
    form = say["screening" if one.threshold is not None else "no_screening"]
    return [form.format(split=_split(kept, language), **about)]


def _cautions(kept: KeptPromises, language: str) -> list[str]:
    """Return what lessens all promises, and what breaks them."""
    say = words(language)["promises"]
    caution = {OUT_OF_FOLD: [say["of_members"]], VALIDATION: [say["of_validation"]]}.get(kept.split, [])
    return [*caution, say["broken"]]


def _of_boxes(boxes: Mapping[str, Promise], kept: KeptPromises, language: str) -> list[str]:
    """Return a sentence on the findings that are promised something, and one on each that is not."""
    say, split = words(language)["promises"], _split(kept, language)
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


def _split(kept: KeptPromises, language: str) -> str:
    return str(words(language)["promises"]["splits"].get(kept.split, kept.split))


def _percent(one: Promise) -> str:
    return f"{100 * one.level:g}"
