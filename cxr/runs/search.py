"""An Optuna study whose trials are training runs: which values come next, and what became of those before.

The plugin that Hydra has for Optuna is bound to Optuna 2.10, whose SQLite storage needs SQLAlchemy 1 and an alembic of
2023, and whose trials a kill leaves unfinished for ever. This uses ``ask`` and ``tell`` of a current Optuna instead.
Its storage holds what is needed to go on after a kill.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.trial import TrialState

from cxr.config.run_files import TRIAL
from cxr.files import write_json

STUDY = "cxr"  # the one study of a storage


@dataclass(frozen=True)
class Trial:
    """One choice of values: its number in the study, and override → value."""

    number: int
    values: Mapping[str, Any]


class Study:
    """A study that maximises the monitored figure and outlives the process that began it.

    Args:
        trials: in all; those pruned, failed and of earlier calls count.
        storage: an SQLAlchemy url.
        sampler, pruner: Optuna's own.
        seeds: jobs a trial, whose mean score counts; the pruner follows the first.
    """

    def __init__(self, trials: int, storage: str, sampler: BaseSampler, pruner: BasePruner, seeds: int = 1) -> None:
        if trials < 1 or seeds < 1:
            raise ValueError(f"a study of {trials} trials of {seeds} seeds, expected 1 or more of each")
        self.trials, self.storage, self.seeds = trials, storage, seeds
        self._sampler, self._pruner = sampler, pruner

    def open(self) -> None:
        """Begin the study, or go on with it where its storage holds one."""
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._study = optuna.create_study(
            storage=self.storage,
            study_name=STUDY,
            direction="maximize",
            load_if_exists=True,
            sampler=self._sampler,
            pruner=self._pruner,
        )
        known = self._study.get_trials(deepcopy=False)
        self._begun = [Trial(t.number, t.params) for t in known if t.state == TrialState.RUNNING]
        if known:  # else a seeded sampler would choose the first trials' values again
            self._sampler.reseed_rng()

    def next(self, space: Mapping[str, BaseDistribution], most: int) -> list[Trial]:
        """Return up to ``most`` trials to run now, those a kill has cut off first; none when the study is complete."""
        taken, self._begun = self._begun[:most], self._begun[most:]
        new = min(most - len(taken), self.trials - len(self._study.get_trials(deepcopy=False)))
        asked = (self._study.ask(dict(space)) for _ in range(new))
        return [*taken, *(Trial(trial.number, trial.params) for trial in asked)]

    def tell(self, trial: Trial, score: float | None, pruned: bool = False) -> None:
        """Keep what became of a trial; None: it failed."""
        if pruned:
            self._study.tell(trial.number, state=TrialState.PRUNED)
        elif score is None:
            self._study.tell(trial.number, state=TrialState.FAIL)
        else:
            self._study.tell(trial.number, score)

    def mark(self, folder: Path, trial: Trial) -> None:
        """Note in a job's folder which trial it reports its epochs to."""
        folder.mkdir(parents=True, exist_ok=True)
        note = {"storage": self.storage, "number": trial.number}
        write_json(folder / TRIAL, note)
