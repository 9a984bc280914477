"""Soak tests take hours. They run where they are asked for by name (``-m soak``), and nowhere else."""

from pathlib import Path

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the tests of this folder out unless the marker is asked for, whatever else is."""
    if "soak" in config.option.markexpr.replace("not soak", ""):
        return
    left_out = [item for item in items if Path(__file__).parent in item.path.parents]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]
