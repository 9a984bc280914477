"""Names of radiographic findings, the class indices a detector knows them by, and their codes in DICOM reports.

Background is class 0 of every detector here. That convention is known in this file and nowhere else.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

NORMAL = "normal"
BACKGROUND = 0
PRIVATE_SCHEME = "99CXR"
"""Designator of this project's own codes. PS3.16 8.2: that of a private scheme begins with 99."""

_LONGEST = {"scheme": 16, "value": 16, "meaning": 64}  # characters: VR SH, SH and LO (PS3.3 8.8, PS3.5 6.2)


class UnknownLabelError(ValueError):
    """A label outside the vocabulary. Never a silent new class."""


class Code(NamedTuple):
    """A coded concept (PS3.3 8.8): designator of its scheme, such as SCT for SNOMED CT, its value and its meaning."""

    scheme: str
    value: str
    meaning: str


@dataclass(frozen=True)
class Finding:
    """One finding: canonical English name (snake_case), Chinese name, other spellings seen in the wild, and codes.

    Our DICOM reports name it by the first of ``codes``; in the reports of others it is known by each of them.
    """

    name: str
    chinese: str = ""
    aliases: tuple[str, ...] = ()
    codes: tuple[Code, ...] = ()

    @property
    def private_code(self) -> Code:
        """The code that this project makes of the name: the value is cut to 16 characters, the meaning to 64."""
        return Code(PRIVATE_SCHEME, self.name.upper()[:16], self.name.replace("_", " ")[:64])

    @property
    def code(self) -> Code:
        """The code that our reports name the finding by: the first of its codes, else the private one."""
        return self.codes[0] if self.codes else self.private_code

    def label(self, language: str = "en") -> str:
        """Return the name to show a reader: ``zh`` gives the Chinese name where there is one, else English words."""
        if language == "zh" and self.chinese:
            return self.chinese
        return self.name.replace("_", " ")


class FindingVocabulary:
    """The findings of a data set in the order of their class indices 1..K; a film without boxes is normal.

    ``findings`` lists them as ``Finding`` or as mappings with its fields, as YAML gives them. ``normal`` are the
    spellings that mean "no finding". Every spelling must lead to one finding only; a clash is a ``ValueError``.
    """

    def __init__(
        self,
        findings: Sequence[Finding | Mapping[str, Any]],
        normal: Sequence[str] = ("正常", "no finding"),
    ) -> None:
        self.findings = tuple(f if isinstance(f, Finding) else _finding(f) for f in findings)
        self.normal = Finding(NORMAL, chinese="正常", aliases=tuple(normal))
        if not self.findings:
            raise ValueError("a vocabulary needs at least one finding")
        self._canonical: dict[str, str] = {}
        for finding in (self.normal, *self.findings):
            for spelling in {_fold(s) for s in (finding.name, finding.chinese, *finding.aliases) if s}:
                if spelling in self._canonical:
                    raise ValueError(
                        f"{spelling!r} is a spelling of both {self._canonical[spelling]!r} and {finding.name!r}"
                    )
                self._canonical[spelling] = finding.name
        self._by_name = {f.name: f for f in (self.normal, *self.findings)}
        self._index = {f.name: i for i, f in enumerate(self.findings, start=BACKGROUND + 1)}

    @property
    def names(self) -> tuple[str, ...]:
        """Canonical names in class order; ``names[i]`` is class ``i + 1``."""
        return tuple(f.name for f in self.findings)

    @property
    def num_classes(self) -> int:
        """Classes a detector has: the findings and the background, K + 1."""
        return len(self.findings) + 1

    def canonical(self, label: str) -> str:
        """Return the canonical name behind any known spelling (``normal`` for a normal film).

        Raises ``UnknownLabelError``, which lists the known names.
        """
        return self.resolve([label])[0]

    def resolve(self, labels: Sequence[str], source: str = "", rows: Sequence[int] | None = None) -> list[str]:
        """Return the canonical names of a column of labels.

        Raises one ``UnknownLabelError`` for all unknown labels together, with the rows of ``source`` that hold them
        (``rows`` has one number a label; None counts from 1) and the known names.
        """
        unknown: dict[str, list[int]] = {}
        names = []
        for row, label in zip(rows or range(1, len(labels) + 1), labels, strict=True):
            name = self._canonical.get(_fold(label))
            if name is None:
                unknown.setdefault(label, []).append(row)
            else:
                names.append(name)
        if unknown:
            raise UnknownLabelError(self._unknown_message(unknown, source))
        return names

    def index(self, name: str) -> int:
        """Return the class index 1..K of a finding, by any known spelling; a normal film has none (``ValueError``)."""
        name = self.canonical(name)
        if name == NORMAL:
            raise ValueError("a normal film has no boxes, so 'normal' has no class index")
        return self._index[name]

    def with_labels(self, text: str, language: str = "en") -> str:
        """Return a sentence with labels in place of the canonical names in it."""
        for name in sorted(self.names, key=len, reverse=True):  # one name may begin with another
            text = re.sub(rf"\b{re.escape(name)}\b", self._by_name[name].label(language), text)
        return text

    def finding(self, name: str) -> Finding:
        """Return the finding behind any known spelling."""
        return self._by_name[self.canonical(name)]

    def coded(self, code: Code) -> str | None:
        """Return the canonical name of the finding that a code of a DICOM report means; None for an unknown code.

        Only scheme and value count, as DICOM wants it. The exception are private codes of this project: they are cut
        from the name, so the meaning tells two long names apart. Raises ``ValueError`` for a code of two findings.
        """
        meant = [
            finding.name
            for finding in self.findings
            if finding.private_code == code or any(code[:2] == known[:2] for known in finding.codes)
        ]
        if len(meant) > 1:
            raise ValueError(f"the code {code.scheme} {code.value} stands for {' and '.join(meant)}, expected one")
        return meant[0] if meant else None

    def name(self, index: int) -> str:
        """Return the canonical name of class ``index`` in 1..K."""
        if not 1 <= index <= len(self.findings):
            raise ValueError(f"class index {index} is outside 1..{len(self.findings)}")
        return self.findings[index - 1].name

    def label(self, name: str, language: str = "en") -> str:
        """Return the words to show for a finding: English, or Chinese with ``language='zh'``."""
        return self._by_name[self.canonical(name)].label(language)

    def as_dict(self) -> dict[str, Any]:
        """Return plain containers, for checkpoints: ``FindingVocabulary(**d)`` is the same vocabulary again."""
        findings = [
            {**asdict(f), "aliases": list(f.aliases), "codes": [list(code) for code in f.codes]} for f in self.findings
        ]
        return {"findings": findings, "normal": list(self.normal.aliases)}

    def _unknown_message(self, unknown: Mapping[str, Iterable[int]], source: str) -> str:
        where = f"{source}: " if source else ""
        labels = "; ".join(f"{_shown(label)} in row {_rows(list(rows))}" for label, rows in list(unknown.items())[:20])
        labels += f"; and {len(unknown) - 20} more" if len(unknown) > 20 else ""
        known = ", ".join(f"{f.name} ({f.chinese})" if f.chinese else f.name for f in (self.normal, *self.findings))
        return f"{where}unknown finding {labels}. Known: {known}. Add a spelling under `aliases` in conf/findings/."


def _finding(fields: Mapping[str, Any]) -> Finding:
    codes = tuple(_code(fields.get("name"), code) for code in fields.get("codes") or ())
    return Finding(**{**fields, "aliases": tuple(fields.get("aliases") or ()), "codes": codes})


def _code(name: object, given: Any) -> Code:
    """Return the code of a finding. Raises ``ValueError`` unless it is [scheme, value, meaning], which are texts."""
    expected = "[scheme, value, meaning], such as [SCT, '8186001', Cardiomegaly]"
    if isinstance(given, str) or not isinstance(given, Sequence) or not all(isinstance(part, str) for part in given):
        raise ValueError(f"{name}: the code {given!r} is none, expected {expected}, all of them texts")
    if len(given) != len(_LONGEST) or not all(part.strip() for part in given):
        raise ValueError(f"{name}: the code {given!r} is none, expected {expected}")
    for (part, most), text in zip(_LONGEST.items(), given, strict=True):
        if len(text) > most:
            raise ValueError(f"{name}: the {part} of a code is {text!r}, expected at most {most} characters")
    return Code(*given)


def _fold(label: str) -> str:
    """Fold what differs between spellings but not between findings: width, case, blanks, hyphens, underscores."""
    return re.sub(r"[\s_\-]+", "_", unicodedata.normalize("NFKC", label).strip().casefold())


def _shown(label: str, most: int = 60) -> str:
    """Return a label as a message shows it: a damaged table may hold one of any length."""
    return repr(label) if len(label) <= most else f"{label[:most]!r}... ({len(label)} characters)"


def _rows(rows: list[int], most: int = 5) -> str:
    shown = ", ".join(str(r) for r in rows[:most])
    return shown if len(rows) <= most else f"{shown} and {len(rows) - most} more"
