"""A detector that all end-to-end tests share: its training is done once."""

import shutil
from pathlib import Path

import pytest

from scripts import LEARNING, call


@pytest.fixture(scope="session")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with phantom films, decoded, and ``run``, a training on them with an AP50 above 0. Only to be read."""
    folder = tmp_path_factory.mktemp("learned")
    printed = call("train.py", folder, *LEARNING)
    (folder / "printed.txt").write_text(printed, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def place(learned: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of ``learned`` to stand in, for the tests of one file."""
    return Path(shutil.copytree(learned, tmp_path_factory.mktemp("place"), dirs_exist_ok=True))
