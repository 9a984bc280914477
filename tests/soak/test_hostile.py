"""Hostile checkpoints and exports: refused with one error, or sound; in bounded memory and time, and nothing is run."""

import json
import shutil
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cxr.config.errors import ConfigError
from cxr.runs.checkpoint import read_checkpoint
from cxr.runs.exported import as_checkpoint, read_card
from cxr.runs.restore import intensity_of_films, load_task
from fuzz import Outcome, in_a_process, status
from scripts import call
from soak.hostile import changed_card, changed_checkpoint, write_card
from soak.sizes import FILMS, SECONDS, SEED, tell

pytestmark = pytest.mark.soak

_MOST = 300 * 2**20
"""Bytes that a refusal may take; the file has a few megabytes, and the detector as many."""
_LONGEST = 10.0


def judged(use: Callable[[], Any]) -> Outcome:
    """Say what becomes of a hostile file."""
    before, began = status("VmRSS"), time.process_time()
    try:
        use()
        outcome = Outcome("sound")
    except ConfigError as error:
        outcome = Outcome("refused", str(error)[:200])
        if len(str(error)) > 3000:
            outcome = Outcome("break", f"a message of {len(str(error))} letters: {error}"[:300])
    except BaseException as error:
        outcome = Outcome("break", f"{type(error).__name__}: {error}"[:300])
    peak, seconds = status("VmHWM") - before, time.process_time() - began
    if peak > _MOST or seconds > _LONGEST:
        return Outcome("break", f"{outcome.kind} with {peak:,} bytes in {seconds:.1f} s: {outcome.reason}")
    return outcome


def tried(what: str, make: Callable[[np.random.Generator], None], use: Callable[[], Any], kept: Path) -> list[str]:
    """Judge hostile files until there are enough of them, and return what broke."""
    counts, breaks, until = Counter[str](), [], time.monotonic() + SECONDS
    for number in range(FILMS // 5):
        if time.monotonic() > until:
            break
        make(np.random.default_rng([SEED, number]))
        outcome = in_a_process(lambda: judged(use))
        counts[outcome.kind] += 1
        if outcome.kind == "break":
            breaks.append(f"{number}: {outcome.reason}")
            shutil.copy(kept, kept.with_name(f"{number}_{kept.name}"))
    tell(what, **counts, breaks=breaks)
    return breaks


def test_no_mutant_of_a_checkpoint_harms(learned: Path, tmp_path: Path) -> None:
    content, path = (learned / "run" / "checkpoints" / "best.ckpt").read_bytes(), tmp_path / "hostile.ckpt"

    def use() -> None:
        checkpoint = read_checkpoint(path)
        load_task(checkpoint)
        intensity_of_films(checkpoint)

    path.write_bytes(content)
    use()
    breaks = tried("hostile checkpoints", lambda rng: path.write_bytes(changed_checkpoint(content, rng)), use, path)
    assert breaks == []


def test_no_mutant_of_a_card_harms(place: Path) -> None:
    call("export.py", place, "ckpt=run/checkpoints/best.ckpt", "to=onnx", "hydra.run.dir=exported")
    folder = place / "exported"
    card = json.loads((folder / "export.json").read_text(encoding="utf-8"))

    def use() -> None:
        intensity_of_films(as_checkpoint(read_card(folder), folder))

    use()
    path = folder / "export.json"
    breaks = tried("hostile cards of exports", lambda rng: write_card(folder, changed_card(card, rng)), use, path)
    assert breaks == []
