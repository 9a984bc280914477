"""What each method is called, does and can be trusted for: texts that stand in ``words/``, a file for each language."""

from collections.abc import Iterable
from dataclasses import dataclass

from cxr.explain.scores import BASELINES
from cxr.report.words import words


@dataclass(frozen=True)
class MethodText:
    """A method's name, what it computes in one sentence, and how far its map may be believed."""

    name: str
    explained: str = ""
    trust: str = ""


def method_text(method: str, language: str = "en") -> MethodText:
    """Return the texts of a method; one that has no texts goes by its key."""
    return MethodText(**words(language)["methods"].get(method, {"name": method}))


def in_order(methods: Iterable[str]) -> list[str]:
    """Return methods in the order pages and tables show them: known ones, others by name, then the baselines."""
    present, texts = set(methods), words("en")["methods"]
    known = [m for m in texts if m not in BASELINES]
    others = sorted(present - set(texts))
    return [m for m in (*known, *others, *BASELINES) if m in present]
