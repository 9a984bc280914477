"""Which findings evaluate.py measures: the setting ``findings`` and the vocabulary to read the data with."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from omegaconf import DictConfig, OmegaConf

from cxr.config.errors import ConfigError
from cxr.findings import Finding, FindingVocabulary, UnknownLabelError


def asked_findings(cfg: DictConfig) -> Any:
    """Return the setting ``findings`` as None, a list or a mapping; ``{only: […]}`` is how a list is typed."""
    asked = OmegaConf.to_container(cfg.findings) if OmegaConf.is_config(cfg.findings) else cfg.findings
    only = asked.get("only") if isinstance(asked, Mapping) else None
    return only if isinstance(only, list) else asked


def vocabulary_to_read(asked: Any, findings: FindingVocabulary) -> FindingVocabulary:
    """Return the vocabulary to read the data with: the detector's, with the spellings that a mapping adds.

    A label mapped to null stands behind the detector's findings as a class of its own: its films are not normal, but
    its boxes are nothing the detector could detect. Raises ``ConfigError`` for a name that the detector does not know.
    """
    if not isinstance(asked, Mapping):
        return findings
    known = {finding.name: finding for finding in findings.findings}
    unknown: list[Finding] = []
    try:
        for label, name in asked.items():
            if name is not None:
                canonical = findings.name(findings.index(str(name)))
                known[canonical] = replace(known[canonical], aliases=(*known[canonical].aliases, str(label)))
            elif not _knows(findings, str(label)):  # what the detector knows is read as such, and left out later
                unknown.append(Finding(str(label)))
        return FindingVocabulary([*known.values(), *unknown], findings.normal.aliases)
    except ValueError as error:
        raise ConfigError(f"findings: {error}") from error


def evaluated_findings(asked: Any, findings: FindingVocabulary) -> tuple[str, ...]:
    """Return the canonical names of what is evaluated, in the order of the detector's classes.

    Raises ``ConfigError`` for a name that the detector does not know.
    """
    if asked is None:
        return findings.names
    labels = [name for name in asked.values() if name is not None] if isinstance(asked, Mapping) else asked
    if isinstance(labels, str) or not labels:
        raise ConfigError(f"findings is {asked!r}, expected null, [name, …] or {{name in the data: name, …}}")
    try:
        chosen = set(findings.resolve([str(label) for label in labels], source="findings"))
    except ValueError as error:
        raise ConfigError(str(error)) from error
    return tuple(name for name in findings.names if name in chosen)


def _knows(findings: FindingVocabulary, label: str) -> bool:
    try:
        findings.canonical(label)
    except UnknownLabelError:
        return False
    return True
