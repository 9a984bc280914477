"""What the page of a model card is made of: sections of blocks, and the words and numbers in them, in one language."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cxr.findings import FindingVocabulary
from cxr.report.evaluate_tables import screening_label
from cxr.report.page import Row, finding_row
from cxr.report.subgroup_tables import group_label, kind_label
from cxr.report.words import words


@dataclass(frozen=True)
class Block:
    """A part of a section; only what its ``kind`` needs is filled in.

    Args:
        kind: "heading", "text", "facts", "list", "table", "picture" or "refs".
        text: of a heading or a text; the words below a picture.
        facts: heading → text.
        lines: of a list, or the commands that made the figures.
        columns, rows: of a table.
        picture: a PNG.
        style: a class of ``card.css``.
    """

    kind: str
    text: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    lines: Sequence[str] = ()
    columns: Sequence[str] = ()
    rows: Sequence[Row] = ()
    picture: bytes = b""
    style: str = ""


@dataclass(frozen=True)
class Section:
    """A numbered section of the page."""

    number: str
    title: str
    blocks: Sequence[Block]


class CardWords:
    """A model card with the words of one language.

    Args:
        card: as ``cxr.report.model_card`` makes it.
        language: of the page.
    """

    def __init__(self, card: Mapping[str, Any], language: str) -> None:
        self.card = card
        self.language = language
        self.say: dict[str, Any] = words(language)["card"]
        self.frozen: Mapping[str, Any] = card["frozen"]
        named = [{key: one[key] for key in ("name", "chinese")} for one in self.frozen["findings"]]
        self.findings = FindingVocabulary(named)
        self.commands = list(card["sources"])
        self._told: set[str] = set()  # sources whose commands stand on the page by now

    def label(self, name: str) -> str:
        """Return what a finding is called; that of any finding is ``abnormal``, and "" stands for all."""
        if name in self.findings.names:
            return self.findings.label(name, self.language)
        return str({"abnormal": self.say["abnormal"], "": self.say["of_all"]}.get(name, name))

    def labels(self, names: Iterable[str]) -> str:
        """Return the names of findings in a row."""
        return str(self.say["between"]).join(self.label(name) for name in names)

    def row(self, name: str, cells: Sequence[str]) -> Row:
        """Return the line of a finding, of any finding, or of all."""
        if name in self.findings.names:
            return finding_row(self.findings, name, cells, self.language)
        return Row(self.label(name), cells)

    def group(self, kind: str, name: str) -> str:
        """Return what a group of films is called, with its kind."""
        return f"{kind_label(kind, self.language)}: {group_label(kind, name, self.language)}"

    def refs(self, *sources: str) -> Block:
        """Return the line that names the commands behind what stands above it, with their numbers in section A."""
        known = [source for source in dict.fromkeys(sources) if source in self.commands]
        lines = [self._command(source) for source in known]
        self._told.update(known)
        return Block("refs", self.say["made_by"], lines=lines)

    def _command(self, source: str) -> str:
        """Return the number of a command and, where it has not stood on the page yet, the command."""
        command = "" if source in self._told else self.card["sources"][source]["command"]
        return f"[{self.commands.index(source) + 1}] {command}".strip()

    def missing(self, script: str) -> Block:
        """Return that something is not measured, with the command that would."""
        command = self.card["to_measure"].get(script)
        text = self.say["to_measure"].format(command=command) if command else str(self.say["not_measured"])
        return Block("text", text, style="missing")

    def for_you(self, text: str) -> Block:
        """Return what a person is to write."""
        return Block("text", f"{self.say['for_you']}: {text}", style="for-you")

    def heading(self, number: str, title: str) -> Block:
        """Return a heading within a section."""
        return Block("heading", f"{number} {title}")

    def metric(self, name: str) -> str:
        """Return the short name of a figure."""
        known, screening = self.metric_words(name), words(self.language)["evaluate"]
        if known is not None:
            return known[0]
        return screening_label(name, screening) if name.partition("@")[0] in screening["screening"] else name

    def metric_words(self, name: str) -> tuple[str, str] | None:
        """Return the short name of a figure and what it means; None for one that has no words of its own here."""
        of_studies = name == "ap" and self.frozen["model"]["task"] == "study"
        known = self.say["metrics"].get("study_ap" if of_studies else name)
        return (str(known[0]), str(known[1])) if known else None

    def known(self, value: Any) -> str:
        """Return a value as text; that it is not recorded where there is none."""
        return str(self.say["not_recorded"]) if value in (None, "", []) else str(value)


def number(value: Any) -> str:
    """Return a figure to three digits; – where it could not be measured."""
    return "–" if value is None or not math.isfinite(value) else f"{value:.3f}"


def with_interval(figure: Mapping[str, Any]) -> str:
    """Return a figure, and its interval small below it where it has one."""
    low, high = figure.get("low"), figure.get("high")
    if figure.get("value") is None or low is None or high is None:
        return number(figure.get("value"))
    return f"{number(figure['value'])}\n[{number(low)}, {number(high)}]"


def by_name(figures: Sequence[Mapping[str, Any]], finding: str = "") -> dict[str, Mapping[str, Any]]:
    """Return the figures of a finding, or of all together, by their names."""
    return {figure["name"]: figure for figure in figures if figure["finding"] == finding}
