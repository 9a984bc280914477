"""Thousands of damaged films: the right picture or one clear error, within ten seconds and twice the film's memory."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from scripts import ROOT
from soak.sizes import FILMS, SECONDS, SEED, tell

pytestmark = pytest.mark.soak


def test_no_damaged_film_breaks_the_reader(tmp_path: Path) -> None:
    out = Path(os.environ.get("CXR_SOAK_FUZZ", tmp_path))
    command = [sys.executable, str(ROOT / "tests" / "fuzz.py"), "--films", str(FILMS), "--seconds", str(SECONDS)]
    command += ["--seed", str(SEED), "--reference", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (out / "summary.json").exists(), done.stderr
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    figures = ("mutants", "films", "refused", "breaks", "reference", "films_a_second")
    tell("damaged films", **{name: summary[name] for name in figures})
    assert done.returncode == 0, done.stdout
    assert summary["mutants"] > 0
