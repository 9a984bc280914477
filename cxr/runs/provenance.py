"""Where a result comes from: what was typed, the versions of code and packages, the films, the machine.

``provenance.json`` in the folder of a training lists the processes that trained it, one after another.
"""

import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from cxr import installation
from cxr.config.errors import ConfigError
from cxr.data.datamodule import DataModule
from cxr.files import write_json
from cxr.runs import precision

PROVENANCE = "provenance.json"
_PACKAGES = (
    *("cxr", "torch", "torchvision", "lightning", "hydra-core"),
    *("pydicom", "albumentations", "torchmetrics", "numpy"),
)


def versions(packages: Iterable[str] = _PACKAGES) -> dict[str, str]:
    """Return the versions of Python and of installed packages, this one among them."""
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in packages}


def add_session(folder: Path, data: DataModule[Any], seed: int, number_format: str) -> None:
    """Append this process to the list of those that trained the run in ``folder``."""
    path = folder / PROVENANCE
    session = {
        "command": installation.typed(),
        "versions": versions(),
        "git": git(),
        "data": data.fingerprint(),
        "films": {split: len(films) for split, films in data.films.items()},
        "unreadable": [str(error) for error in data.unreadable],
        "seed": seed,
        "precision": number_format,
        "hardware": {
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "bfloat16": str(precision.bfloat16()),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        },
    }
    try:
        sessions = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
        write_json(path, [*sessions, session])
    except (ValueError, TypeError) as error:
        raise ConfigError(
            f"{path} cannot be read, it is empty or damaged ({error}); it lists the processes that trained this run and"
            " nothing else: remove it, and the same command goes on"
        ) from error


def git() -> dict[str, Any] | None:
    """Return the commit of the code and whether files differ from it; None outside a git checkout."""
    if installation.CLONE is None:  # a wheel may be installed inside somebody else's repository
        return None
    here = ["git", "-C", str(installation.CLONE)]
    try:
        commit, changes = (
            subprocess.run([*here, *words], check=True, capture_output=True, text=True).stdout.strip()  # noqa: S603
            for words in (("rev-parse", "HEAD"), ("status", "--porcelain"))
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return {"commit": commit, "modified": bool(changes)}
