"""End to end: a run has its card without being asked, and evaluate.py renews it.

Every figure on it can be followed to the file and the command that made it.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from scripts import call

pytestmark = pytest.mark.slow

CKPT = "ckpt=run/checkpoints/best.ckpt"


def load(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def figures(node: Any) -> Iterator[dict[str, Any]]:
    """Every figure of a card: what says its source and its place there."""
    if isinstance(node, dict):
        if "source" in node and "at" in node:
            yield node
        for value in node.values():
            yield from figures(value)
    elif isinstance(node, list):
        for value in node:
            yield from figures(value)


def at(content: Any, pointer: str) -> Any:
    """What stands at a JSON pointer (RFC 6901)."""
    for part in pointer.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        content = content[int(key)] if isinstance(content, list) else content[key]
    return content


def follow(card: dict[str, Any], folder: Path) -> int:
    """Hold every figure of a card against the file that it names, and return how many there are."""
    followed = 0
    for figure in figures(card["measured"]):
        source = card["sources"][figure["source"]]
        assert source["command"].startswith("python "), figure
        found = at(load(folder / source["file"]), figure["at"])
        if isinstance(found, list):
            assert found == figure.get("points", figure.get("bins"))
        elif isinstance(found, dict):
            assert {key: found[key] for key in ("value", "low", "high")} == {
                key: figure[key] for key in ("value", "low", "high")
            }
        else:
            assert found == figure["value"]
        followed += 1
    return followed


def test_a_training_leaves_its_card_and_every_figure_leads_back(place: Path) -> None:
    card = load(place / "run" / "card.json")
    kept = torch.load(place / "run" / "checkpoints" / "best.ckpt", weights_only=True, map_location="cpu")["cxr"]
    assert card["frozen"]["operating_point"] == kept["operating_point"]
    assert card["frozen"]["data"]["splits"] == kept["splits"]
    assert card["frozen"]["data"]["splits"]["test"]["items"] == 8
    assert card["frozen"]["data"]["drawn"]
    assert {"drawn", "no_intervals", "point_limited"} <= {limit["code"] for limit in card["limits"]}
    assert follow(card, place / "run") > 10
    assert {figure["name"]: figure["value"] for figure in card["measured"]["training"] if not figure["finding"]}[
        "map_50"
    ] == load(place / "run" / "result.json")["metrics"]["test/map_50"]


def test_an_evaluation_renews_the_card_and_predictions_name_it(place: Path) -> None:
    before = load(place / "run" / "card.json")
    call("evaluate.py", place, CKPT, "samples=20", "hydra.run.dir=carded")
    card = load(place / "run" / "card.json")
    assert (card["id"], card["revision"] != before["revision"]) == (before["id"], True)
    assert follow(card, place / "run") > 50
    (evaluation,) = card["measured"]["evaluations"]
    assert card["sources"][evaluation["source"]]["command"].startswith(
        "python evaluate.py ckpt=RUN/checkpoints/best.ckpt"
    )
    note = load(place / "run" / card["sources"][evaluation["source"]]["file"])
    assert note["metrics"] == load(place / "carded" / "metrics.json")
    assert not evaluation["external"]
    films = next(iter(sorted((place / "data").rglob("*.dcm")))).parent
    call("predict.py", place, CKPT, f"images={films}", "hydra.run.dir=named")
    result = load(place / "named" / "result.json")
    assert result["model_card"] == {"id": card["id"], "revision": card["revision"]}
    assert f"model card {card['id']}" in result["algorithm"]
