"""What an evaluation tells of groups of films, and of films that differ from others: page, terminal, json, warnings."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from cxr.measure.shift import Shift
from cxr.measure.subgroups import Subgroups
from cxr.report.shift_words import shift_in_words, shift_rows
from cxr.report.subgroup_figures import forest_figures
from cxr.report.subgroup_tables import as_plain, group_rows, in_words, left_out_in_words
from cxr.report.words import words


@dataclass(frozen=True)
class FilmsTold:
    """What films are told of beside their marks, by the letter of a checkpoint.

    Args:
        subgroups: the figures of groups.
        shifts: how the films differ from those that a checkpoint was chosen on, or a word for why that is not known.
    """

    subgroups: Mapping[str, Subgroups]
    shifts: Mapping[str, Shift | str]

    def sections(self, figures: Path, language: str) -> dict[str, Any]:
        """Draw the forest plots into the folder ``figures``, and return what the template shows."""
        say = words(language)["evaluate"]["groups"]
        names = list(next(iter(self.subgroups.values())).whole)
        any_group = any(measured.groups for measured in self.subgroups.values())
        plots = forest_figures(figures, self.subgroups, language) if any_group else {}
        return {
            "columns": [*say["columns"], *(say["figures"][name] for name in names)],
            "groups": {
                name: {
                    "sentences": in_words(measured, language),
                    "rows": group_rows(measured, language),
                    "left_out": left_out_in_words(measured, language),
                }
                for name, measured in self.subgroups.items()
            },
            "plots": [
                ({"heading": say["figures"][name], "lead": say["forest"][name]}, path.read_bytes())
                for name, path in plots.items()
            ],
            "shifts": {
                name: {
                    "sentence": _shift_sentence(shift, language),
                    "rows": shift_rows(shift, language) if isinstance(shift, Shift) else [],
                }
                for name, shift in self.shifts.items()
            },
        }

    def as_plain(self) -> dict[str, dict[str, Any]]:
        """Return what ``metrics.json`` holds of it, by the letter of a checkpoint."""
        return {
            name: {
                "subgroups": as_plain(measured),
                "shift": {"in_words": _shift_sentence(shift, "en")}
                | (shift.as_dict() if isinstance(shift, Shift) else {"not_measured": shift}),
            }
            for (name, measured), shift in zip(self.subgroups.items(), self.shifts.values(), strict=True)
        }

    def print(self, console: Console) -> None:
        """Print what differs, and what does not."""
        for name, measured in self.subgroups.items():
            for line in [*in_words(measured, "en"), _shift_sentence(self.shifts[name], "en")]:
                console.print(f"{name}: {line}" if len(self.subgroups) > 1 else line, highlight=False, markup=False)

    def warnings(self, language: str) -> list[str]:
        """Return a sentence for each group on which a detector is worse, and for films that differ."""
        lines = []
        for name, measured in self.subgroups.items():
            shift = self.shifts[name]
            told = in_words(measured, language, worse_only=True)
            told += [_shift_sentence(shift, language)] if isinstance(shift, Shift) and shift.differs else []
            lines += [f"{name}: {line}" if len(self.subgroups) > 1 else line for line in told]
        return lines


def _shift_sentence(shift: Shift | str, language: str) -> str:
    if isinstance(shift, Shift):
        return shift_in_words(shift, language)
    return str(words(language)["shift"][shift])
