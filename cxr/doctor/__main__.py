"""Shows what this machine and installation can do, and what to type for missing parts: ``python -m cxr.doctor``."""

import argparse
import importlib
import sys
from collections.abc import Iterable, Sequence
from functools import partial

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cxr.doctor.check import Check, State, guarded

_MARKS: dict[State, str] = {"ok": "[green]✓[/]", "absent": "[yellow]–[/]", "wrong": "[bold red]✗[/]"}
_SECTIONS = {  # heading → module and functions; a module is imported only when it is needed, because it may be broken
    "Program": ("cxr.doctor.packages", ("program",)),
    "Packages it needs": ("cxr.doctor.packages", ("needed",)),
    "Extras": ("cxr.doctor.packages", ("extras",)),
    "Machine": ("cxr.doctor.machine", ("processor", "gpu", "disk", "font")),
    "DICOM decoders": ("cxr.doctor.decoders", ("decoders",)),
}


def main(prog: str = "python -m cxr.doctor") -> None:
    """Print all checks, and exit with 1 if something that the program needs is wrong."""
    argparse.ArgumentParser(prog=prog, description=__doc__).parse_args()
    console, wrong = Console(), 0
    for heading, (module, names) in _SECTIONS.items():
        checks = [check for name in names for check in guarded(name, partial(_look, module, name))]
        console.print(f"\n[bold]{heading}[/]")
        console.print(_table(checks))
        wrong += sum(check.state == "wrong" for check in checks)
    verdict = "1 thing is wrong" if wrong == 1 else f"{wrong} things are wrong" if wrong else "All that is needed works"
    console.print(f"\n{verdict}; {_MARKS['absent']} stands for what it can do without.", highlight=False)
    sys.exit(1 if wrong else 0)


def _look(module: str, name: str) -> Iterable[Check]:
    looks: Iterable[Check] = getattr(importlib.import_module(module), name)()
    return looks


def _table(checks: Sequence[Check]) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    for check in checks:
        advice = f"\n[cyan]→ {escape(check.advice)}[/]" if check.advice else ""
        table.add_row(f" {_MARKS[check.state]}", escape(check.name), escape(check.result) + advice)
    return table


if __name__ == "__main__":
    main()
