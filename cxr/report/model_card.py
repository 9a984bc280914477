"""A model card as data: what a detector is, how good it is, and what it is not for. Made by the program, not typed.

It has the nine sections of Mitchell et al. 2019 (Model Cards for Model Reporting) and says which items of CLAIM 2024 it
answers (``cxr.report.model_card_claim``). It has two parts. ``frozen`` follows from the checkpoints alone, and its
digest ``id`` names the card in reports. ``measured`` holds what runs have measured since; ``revision`` is the digest of
both, and another one whenever a figure is. Nobody and no folder is named in it.

Every figure says where it is from: ``source`` is a key of ``sources``, which has the file and the command that made it,
and ``at`` is the place in that file as a JSON pointer (RFC 6901). Files lie in the folder of the card.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from cxr.report.evaluate_tables import plain_values
from cxr.report.model_card_claim import claim_items
from cxr.report.model_card_limits import limits

CARD_FORMAT = 1  # raised when a program that reads a card would misread the new one
JSON, PAGE = "card.json", "card.html"
LICENCE = "Apache-2.0"
_OTHER_LICENCES = {"yolov8": "AGPL-3.0 (ultralytics)"}

TRAINING, CHECKPOINT, FREEZING = "training", "checkpoint", "freezing"
"""Keys of ``sources``: the run's own result, its checkpoint, and the run that chose what an ensemble has frozen."""


def card_digest(content: Any) -> str:
    """Return the digest of plain data, 16 hexadecimal digits; the order of keys does not change it."""
    text = json.dumps(plain_values(content), sort_keys=True, ensure_ascii=False, allow_nan=False)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def model_card(
    frozen: Mapping[str, Any], sources: Mapping[str, Any], measured: Mapping[str, Any], commands: Mapping[str, str]
) -> dict[str, Any]:
    """Return the whole card.

    Args:
        frozen: the part that follows from the checkpoints.
        sources: name → file and command of what was measured.
        measured: ``training`` (figures), ``evaluations`` and ``explanations`` (lists), as ``cxr.runs.model_card`` reads
            them.
        commands: what to type for a figure that is not measured, by the name of the script.
    """
    content = plain_values(
        {
            "format": CARD_FORMAT,
            "id": card_digest(frozen),
            "frozen": frozen,
            "licence": {"program": LICENCE, "network": _licence(frozen["model"]["name"])},
            "measured": measured,
            "sources": sources,
            "limits": limits(frozen, measured, commands),
            "claim": claim_items(frozen, measured),
            "to_measure": dict(commands),
        }
    )
    return {**content, "revision": card_digest(content)}


def revision_of(card: Mapping[str, Any]) -> str:
    """Return the digest that a card's content has now; it is not ``card["revision"]`` where somebody changed it."""
    return card_digest({key: value for key, value in card.items() if key not in ("revision", "made")})


def figures_at(
    source: str, place: str, estimates: Mapping[str, Any], names: Iterable[str], finding: str = ""
) -> list[dict[str, Any]]:
    """Return figures of a json file: estimates below the JSON pointer ``place``, each with its interval and its place.

    A name that is missing there is left out.
    """
    return [
        {
            "name": name,
            "finding": finding,
            **_estimate(estimates[name]),
            "source": source,
            "at": f"{place}/{escaped(name)}",
        }
        for name in names
        if name in estimates
    ]


def training_figures(source: str, metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the test figures that a training has left in ``metrics``, by their logged names (``test/ap50/<finding>``).

    Losses and counts of the training are no figures of the model and are left out.
    """
    figures = []
    for key, value in metrics.items():
        first, *names = key.split("/")
        if first != "test" or not names or names[-1] in ("low", "high") or names[0].startswith(("loss", "only_det")):
            continue
        finding = "/".join(names[1:])
        ends = {end: metrics[f"{key}/{end}"] for end in ("low", "high") if f"{key}/{end}" in metrics}
        place = f"/metrics/{escaped(key)}"
        figures.append({"name": names[0], "finding": finding, "value": value, **ends, "source": source, "at": place})
    return figures


def escaped(key: str) -> str:
    """Return a key as a part of a JSON pointer."""
    return key.replace("~", "~0").replace("/", "~1")


def _estimate(value: Any) -> dict[str, Any]:
    """Return an estimate as a card has it: its number of patients or boxes only where it says one."""
    return {key: value.get(key) for key in ("value", "low", "high", "n", "reason")}


def _licence(network: str) -> str:
    return next((licence for word, licence in _OTHER_LICENCES.items() if word in network.lower()), LICENCE)
