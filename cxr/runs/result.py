"""The end of a run, whatever its script: ``result.json``, and lines about films that were left out."""

import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from cxr.config.run_files import COMMAND, RESULT
from cxr.files import read_mapping, write_json
from cxr.read.radiograph import PSEUDONYM_KEY
from cxr.report.without_paths import overrides_without_paths, without_path


def typed(folder: Path) -> list[str]:
    """Return the overrides that the run in ``folder`` was begun with."""
    return list(read_mapping(folder / COMMAND)["overrides"])


def write_result(folder: Path, started: float, content: Mapping[str, Any]) -> None:
    """Write ``result.json``, whose presence says that the run ended well.

    It is passed on, so ``content`` names films by study or number; what was typed stands in it with pseudonyms of
    folders. ``started`` is when the run began (``time.monotonic``: no change of the clock makes a duration wrong).
    """
    overrides, seconds = overrides_without_paths(typed(folder)), round(time.monotonic() - started, 1)
    write_json(folder / RESULT, {"status": "completed", **content, "overrides": overrides, "seconds": seconds})


def without_paths(errors: Iterable[tuple[Path, BaseException]]) -> list[str]:
    """Return a line for each file that cannot be read, by its number: its path may name a patient."""
    return [without_path(error, path, f"file {n}") for n, (path, error) in enumerate(errors, start=1)]


def warn_without_key() -> None:
    """Say that pseudonyms which leave this machine, or are kept for years, are made without a secret."""
    if not os.environ.get(PSEUDONYM_KEY):
        warn(f"{PSEUDONYM_KEY} is not set: who guesses a patient's number can check the guess (docs/safety.md)")


def tell(line: str) -> None:
    """Print a line whole, so that a path in it can be copied; no bracket in it is taken for markup."""
    Console().print(line, highlight=False, markup=False, soft_wrap=True)


def warn(line: str) -> None:
    """Print a line that the user should see, in yellow."""
    Console().print(line, style="yellow", highlight=False, markup=False, soft_wrap=True)
