"""The folder of a training: its checkpoints, its result, and from which epoch it goes on.

It holds ``.hydra/`` (the config), ``checkpoints/best.ckpt`` and ``last.ckpt``, ``tensorboard/``, ``metrics.csv``,
``index.html``, ``provenance.json`` from its start and ``result.json`` from its end.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cxr.config import run_files
from cxr.config.errors import ConfigError
from cxr.files import DamagedFileError, check_digest, read_mapping
from cxr.learn.checkpoint_files import LAST, PREVIOUS
from cxr.report.epochs import read_epochs
from cxr.runs.result import tell, warn


@dataclass(frozen=True)
class TrainingFolder:
    """The folder of one run, held by its first process for as long as it is open; only that one writes into it."""

    path: Path
    monitor: str
    max_epochs: int
    started: float

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def completed(self) -> bool:
        """Whether an earlier call of the same run has ended well, with as many epochs as are asked for now."""
        result = self.path / run_files.RESULT
        return result.exists() and self.max_epochs <= self._read_result()["max_epochs"]

    def show(self) -> float:
        """Say that the run is complete and return its score."""
        result = self._read_result()
        score = math.nan if result["score"] is None else float(result["score"])
        if run_files.rank() == 0:
            tell(
                f"{self.path} is complete: {result['monitor']} = {score:.3f}. "
                f"Nothing to do; to train again, type another hydra.run.dir or remove the folder."
            )
        return score

    def epochs(self) -> list[dict[str, float]]:
        """Return the rows of ``metrics.csv``, one for each epoch."""
        return read_epochs(self.path / "metrics.csv")

    def best_epoch(self) -> dict[str, float]:
        """Return the row of ``metrics.csv`` of ``best.ckpt``: the first with the highest monitored figure."""
        return max(self.epochs(), key=lambda row: row.get(self.monitor, -math.inf), default={})

    def read_last(self) -> tuple[Path, dict[str, Any]] | None:
        """Return the newest whole checkpoint to go on from, and what it holds; None: begin anew.

        A damaged ``last.ckpt`` is set aside, and the run goes on from the one before: it does its last epoch once more.
        """
        damaged: list[str] = []
        for path in (self.checkpoints / LAST, self.checkpoints / PREVIOUS):
            if not path.exists():
                continue
            try:
                content = _read_whole(path)
            except DamagedFileError as error:
                damaged.append(str(error))
                continue
            if damaged:
                self._set_last_aside(f"{damaged[0]}. Going on from the epoch before, {path}")
            return path, content
        if damaged and len(self.epochs()) > 2:  # the first epoch's, and one that was cut off
            problems = [f"{self.path} holds no checkpoint to go on from; type another hydra.run.dir:", *damaged]
            raise ConfigError("\n  - ".join(problems))
        if damaged:
            self._set_last_aside(f"{damaged[0]}. There is none before it: beginning anew")
        return None

    def read_best(self) -> tuple[Path, dict[str, Any]]:
        """Return the checkpoint of the best epoch, or of the last one where there is none, and what it holds."""
        best = self.checkpoints / "best.ckpt"
        path = best if best.exists() else self.checkpoints / LAST
        try:
            return path, _read_whole(path)
        except DamagedFileError as error:
            raise ConfigError(
                f"{error}. The weights of the best epoch are lost; type another hydra.run.dir to train anew"
            ) from error

    def _set_last_aside(self, message: str) -> None:
        """Rename a damaged ``last.ckpt``, which would else become the one before, and print ``message``."""
        if run_files.rank() == 0:
            warn(message)
            last = self.checkpoints / LAST
            last.replace(last.with_name(f"{LAST}.damaged"))

    def _read_result(self) -> dict[str, Any]:
        path = self.path / run_files.RESULT
        try:
            return read_mapping(path, "monitor", "score", "max_epochs")
        except DamagedFileError as error:
            raise ConfigError(
                f"{error}; it was written when the run ended. Remove it, and the same command with"
                f" hydra.run.dir={self.path} tests the checkpoint again and writes it anew"
            ) from error


def _read_whole(path: Path) -> dict[str, Any]:
    """Return what a checkpoint of this run holds. Raises ``DamagedFileError``."""
    try:
        check_digest(path)
        content = torch.load(path, weights_only=True, map_location="cpu")
    except DamagedFileError:
        raise
    except Exception as error:  # torch has no error of its own for files that are not its
        raise DamagedFileError(f"{path} cannot be read, it is damaged ({str(error).splitlines()[0]})") from error
    if not isinstance(content, dict) or not {"state_dict", "callbacks", "cxr"} <= content.keys():
        raise DamagedFileError(f"{path} is no checkpoint of train.py")
    return content
