"""The runs of two arms: with ``arms=true`` each of the two names of ``ckpt=`` stands for runs of one recipe.

The runs of an arm differ in seed or fold. Each judges all films by itself, where without ``arms`` they would answer as
one detector.
"""

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from cxr.config.errors import ConfigError
from cxr.runs.named_detector import checkpoints_of_jobs
from cxr.runs.out_of_fold import OUT_OF_FOLD


def runs_of_arms(named: Sequence[str | Sequence[str]], cfg: DictConfig) -> dict[str, str]:
    """Return the checkpoint of each run by its name: A1, A2 and so on, then B1.

    Raises ``ConfigError``: there are no two arms, an arm is nothing that holds runs, or a run stands there twice.
    """
    if len(named) != 2:
        raise ConfigError(
            "arms=true compares two arms: ckpt=outputs/sweeps/NEW,outputs/sweeps/OLD or ckpt=[[a.ckpt,b.ckpt],[c.ckpt]]"
        )
    if cfg.split == OUT_OF_FOLD:
        raise ConfigError("arms=true lets each run judge all films, and split=out_of_fold one run each; leave one out")
    if cfg.members is not None:
        raise ConfigError("arms=true: the runs of an arm are no members; name those to compare: ckpt=[[…],[…]]")
    runs = {
        f"{letter}{number}": path
        for letter, arm in zip("AB", named, strict=True)
        for number, path in enumerate(_runs(arm), start=1)
    }
    if twice := [path for path in runs.values() if list(runs.values()).count(path) > 1]:
        raise ConfigError(f"arms=true: {twice[0]} is named twice, expected each run once")
    return runs


def _runs(arm: str | Sequence[str]) -> list[str]:
    if isinstance(arm, str):
        return [str(path) for path in checkpoints_of_jobs(Path(arm))] if Path(arm).is_dir() else [arm]
    return [run for path in arm for run in _runs(path)]
