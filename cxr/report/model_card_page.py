"""The page of a model card: one file for a screen and for A4 paper, in English or Chinese."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cxr.report.model_card_blocks import Block, CardWords, Section, with_interval
from cxr.report.model_card_results import main_figures, results_blocks
from cxr.report.model_card_sections import (
    caveat_blocks,
    claim_blocks,
    command_blocks,
    detail_blocks,
    ethics_blocks,
    evaluation_blocks,
    factor_blocks,
    metric_blocks,
    point_in_words,
    taught,
    training_blocks,
    use_blocks,
)
from cxr.report.page import write_page


def model_card_page(path: Path, card: Mapping[str, Any], language: str = "en") -> Path:
    """Write the page of ``card`` (``cxr.report.model_card``) to ``path``, in ``language``, ``en`` or ``zh``."""
    one = CardWords(card, language)
    made = one.say["id"].format(id=card["id"], revision=card["revision"], made=card["made"])
    sections = [Section(number, one.say["sections"][number], blocks) for number, blocks in _sections(one).items()]
    return write_page(
        path, "card.html", language, name=card["frozen"]["model"]["name"], made=made, summary=_summary(one),
        sections=sections,
    )  # fmt: skip


def _sections(one: CardWords) -> dict[str, Sequence[Block]]:
    return {
        "1": detail_blocks(one),
        "2": use_blocks(one),
        "3": factor_blocks(one),
        "4": metric_blocks(one),
        "5": evaluation_blocks(one),
        "6": training_blocks(one),
        "7": results_blocks(one),
        "8": ethics_blocks(one),
        "9": caveat_blocks(one),
        "A": command_blocks(one),
        "B": claim_blocks(one),
    }


def _summary(one: CardWords) -> dict[str, str]:
    """Return what somebody in a hurry must know: heading → text."""
    facts, point = one.say["facts"], one.frozen["operating_point"]
    figures = [f"{one.metric(figure['name'])} {with_interval(figure)}" for figure in main_figures(one)]
    lines = {
        facts["task"]: one.say["tasks"][one.frozen["model"]["task"]],
        facts["findings"]: one.labels(one.findings.names),
        facts["trained_on"]: taught(one),
        facts["figure"]: " · ".join(figures).replace("\n", " ") or str(one.say["not_measured"]),
        facts["point"]: one.say["limits"]["no_point"],
    }
    if point is not None:
        lines[facts["point"]] = point_in_words(one, point)
    if one.frozen["data"]["drawn"]:
        lines[facts["drawn"]] = one.say["drawn_yes"]
    return lines
