"""Which items of the CLAIM checklist a model card answers.

CLAIM is the Checklist for Artificial Intelligence in Medical Imaging, 2024 update (Tejani et al., Radiology: Artificial
Intelligence 2024;6(4):e240300), with 44 items. The names of the items in the pages' words are short ones of our own.
What a program cannot know (who marked the films, why, for whom) is left to a person to write and is never invented.
"""

from collections.abc import Mapping
from typing import Any, Literal

Status = Literal["answered", "partly", "for_you", "not_measured", "does_not_apply"]

# item → the section of the card that answers it, and whether it does so in part
_ALWAYS: dict[int, tuple[str, Status]] = {
    1: ("1", "answered"),
    3: ("2", "partly"),
    7: ("6", "partly"),
    8: ("5", "partly"),
    9: ("1", "answered"),
    10: ("6", "answered"),
    11: ("8", "partly"),
    12: ("6", "partly"),
    19: ("6", "answered"),
    20: ("6", "answered"),
    22: ("1", "partly"),
    23: ("A", "answered"),
    24: ("1", "answered"),
    25: ("1", "answered"),
    26: ("1", "answered"),
    28: ("4", "answered"),
    40: ("9", "partly"),
    41: ("2", "partly"),
    43: ("1", "partly"),
}
_ITEMS = range(1, 45)


def claim_items(frozen: Mapping[str, Any], measured: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return all 44 items by number: ``status``, and the ``section`` of the card that answers it ("" for none)."""
    by_what_is_there = _by_what_is_there(frozen, measured)
    items = []
    for number in _ITEMS:
        section, status = {**_ALWAYS, **by_what_is_there}.get(number, ("", "for_you"))
        items.append({"item": number, "status": status, "section": section})
    return items


def _by_what_is_there(frozen: Mapping[str, Any], measured: Mapping[str, Any]) -> dict[int, tuple[str, Status]]:
    """Return the items whose answer depends on what has been recorded and measured."""
    evaluated, intervals = bool(measured["evaluations"]), _intervals(measured)
    external = any(one["external"] for one in measured["evaluations"])
    several = len(frozen["model"]["members"]) > 1
    counted = bool(frozen["data"]["splits"])
    missing: tuple[str, Status] = ("", "not_measured")
    return {
        13: ("3", "partly") if frozen.get("groups") else ("", "for_you"),
        27: ("1", "answered") if several else ("1", "does_not_apply"),
        29: ("4", "answered") if intervals else missing,
        30: ("7", "partly") if any(one.get("subgroups") for one in measured["evaluations"]) else missing,
        31: ("7", "answered") if measured["explanations"] else missing,
        32: ("7", "answered") if evaluated or measured["training"] else missing,
        33: ("7", "answered") if external else missing,
        35: ("6", "partly") if counted or evaluated else missing,
        36: ("3", "partly") if frozen.get("groups") else ("", "for_you"),
        37: ("7", "answered") if intervals else ("7", "partly"),
        38: ("7", "answered") if intervals else missing,
        39: ("7", "partly") if evaluated else missing,
    }


def _intervals(measured: Mapping[str, Any]) -> bool:
    return bool(measured["evaluations"]) or any(figure.get("low") is not None for figure in measured["training"])
