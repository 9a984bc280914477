"""A disk that runs full at any page: one clear error, nothing half taken for whole, and the same command goes on."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scripts import ROOT
from soak.sizes import tell

pytestmark = pytest.mark.soak


@pytest.mark.parametrize("name", ["predict", "evaluate", "explain", "train"])
def test_a_full_disk_is_a_clear_error_and_the_same_command_goes_on(learned: Path, tmp_path: Path, name: str) -> None:
    mount = f"mount -t tmpfs -o size=400m soak {tmp_path}"
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-rm", "sh", "-c", mount], check=False).returncode:
        pytest.skip("needs a mount namespace of its own (unshare -rm), which this machine does not let us have")
    program = f"exec {sys.executable} {ROOT / 'tests' / 'soak' / 'small_disk.py'} {tmp_path} {learned} {name}"
    command = ["unshare", "-rm", "sh", "-c", f"{mount} && {program}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    outcome = json.loads(done.stdout)
    tell(f"disk full in {name}", **outcome)
    assert outcome["faults"] == []
    assert outcome["refused"]
