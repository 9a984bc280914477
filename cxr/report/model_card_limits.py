"""What a model is not for, as far as a program can know it: computed from its card, never typed."""

from collections.abc import Iterator, Mapping
from typing import Any

from cxr.data.groups import NOT_STATED, TOO_FEW
from cxr.read.film_groups import AGES

FEW = 30
"""Marked films of a finding below which its sensitivity is known to about ± .19 at best (Clopper and Pearson at .5)."""


def limits(frozen: Mapping[str, Any], measured: Mapping[str, Any], commands: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return a list of what the model is not for; ``code`` is a key of the pages' words, the rest is filled in there.

    The arguments are those of ``cxr.report.model_card.model_card``.
    """
    return [
        {"code": "research"},
        *_of_findings(frozen),
        *_of_films(frozen),
        *_of_groups(frozen),
        *_of_screening(frozen),
        *_of_measuring(frozen, measured, commands),
    ]


def _of_findings(frozen: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    names = [finding["name"] for finding in frozen["findings"]]
    if frozen["model"]["task"] not in ("detection", "study"):
        yield {"code": "no_findings"}
        return
    yield {"code": "other_findings", "findings": names}
    splits = frozen["data"]["splits"]
    taught = splits.get("train") or splits.get("in_folds")
    if taught is None:
        yield {"code": "counts_unknown"}
        return
    marked = {name: taught["findings"][name]["items"] for name in names}
    if never := [name for name, items in marked.items() if not items]:
        yield {"code": "never_taught", "findings": never}
    if few := [name for name, items in marked.items() if 0 < items < FEW]:
        yield {"code": "few_taught", "findings": few, "few": FEW}


def _of_films(frozen: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """What the gate refuses, and what it cannot know."""
    model, gate = frozen["model"], frozen["gate"]
    if frozen["data"]["drawn"]:
        yield {"code": "drawn"}
    if model["task"] == "study":
        yield {"code": "places"}
    if model["task"] != "detection" or gate["least_px"] is None:
        return
    yield {"code": "too_small", "long": gate["least_px"][0], "short": gate["least_px"][1]}
    if model["kind"] not in (None, "radiograph"):
        return
    yield {"code": "views"}
    if gate["learnt_from"]:
        yield {"code": "unlike", "films": gate["learnt_from"], "chosen_on": gate["limit_chosen_on"]}
    else:
        yield {"code": "no_gate"}


def _of_groups(frozen: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Groups of which no film taught the detector, or too few to be named."""
    counts = frozen["groups"]
    if counts is None:
        return
    least = counts["least_patients"]
    for kind, every in _EXPECTED.items():
        named = set(counts["kinds"][kind]) - {NOT_STATED, TOO_FEW}
        if not named and TOO_FEW not in counts["kinds"][kind]:
            yield {"code": "groups_unknown", "kind": kind}
        elif missing := [name for name in every if name not in named]:
            yield {"code": "groups_missing", "kind": kind, "groups": missing, "least": least}
    if machines := sorted(set(counts["kinds"]["machine"]) - {NOT_STATED, TOO_FEW}):
        yield {"code": "machines", "groups": machines}


_EXPECTED = {"sex": ("F", "M"), "age": AGES, "machine": ()}
"""Groups that patients are of wherever films are taken, by kind; of machines nobody knows all."""


def _of_screening(frozen: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    point = frozen["operating_point"]
    if point is None:
        if frozen["model"]["task"] in ("detection", "study"):
            yield {"code": "no_point"}
    elif point["limited"]:
        yield {"code": "point_limited", "abnormal": point["abnormal"], "wanted": point["wanted_sensitivity"]}
    promises = frozen["promises"] or {"findings": {}}
    if none := [name for name, kept in promises["findings"].items() if all(one["threshold"] is None for one in kept)]:
        yield {"code": "no_promise", "findings": none}


def _of_measuring(
    frozen: Mapping[str, Any], measured: Mapping[str, Any], commands: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    """What has not been measured yet, with what to type; and what was measured on too few films."""
    evaluations = measured["evaluations"]
    if "evaluate" in commands and not evaluations:
        yield {"code": "no_intervals", "command": commands["evaluate"]}
    if not any(one["external"] for one in evaluations):
        elsewhere = commands.get("evaluate_elsewhere")
        yield {"code": "one_source", "command": elsewhere} if elsewhere else {"code": "one_source_only"}
    names = [finding["name"] for finding in frozen["findings"]]
    tested = {name: max((_boxes(one, name) for one in evaluations), default=0) for name in names if evaluations}
    if never := [name for name, boxes in tested.items() if not boxes]:
        yield {"code": "never_tested", "findings": never}
    if few := [name for name, boxes in tested.items() if 0 < boxes < FEW]:
        yield {"code": "few_tested", "findings": few, "few": FEW}
    if evaluations and (known := evaluations[0]["seen"]["trained_on"]):
        yield {"code": "tested_on_training", "films": known}


def _boxes(evaluation: Mapping[str, Any], finding: str) -> int:
    """Return how many marks of a finding an evaluation has; 0 where it was not asked for."""
    counts = evaluation["counts"]["findings"].get(finding)
    return 0 if counts is None else int(counts["boxes"])
